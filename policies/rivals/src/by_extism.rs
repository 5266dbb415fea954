//! The guest in Extism, which runs it on a wasmtime of its own; bounded by its own means.

use std::path::Path;
use std::time::Duration;

use cprecover::policy::RunLimits;
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};

const PAGE: usize = 64 << 10;

/// Compiles, or takes from wasmtime's cache where the file `cache` describes one.
pub fn load(wasm: &[u8], cache: Option<&Path>) -> CompiledPlugin {
    let pages = u32::try_from(RunLimits::default().memory_bytes / PAGE).unwrap();
    let manifest =
        Manifest::new([Wasm::data(wasm)]).with_memory_max(pages).with_timeout(Duration::from_secs(1));
    let builder = PluginBuilder::new(manifest).with_wasi(false);
    let builder = match cache {
        Some(file) => builder.with_cache_config(file),
        None => builder.with_cache_disabled(),
    };
    builder.compile().unwrap()
}

pub fn plugin(compiled: &CompiledPlugin) -> Plugin {
    Plugin::new_from_compiled(compiled).unwrap()
}

pub fn decide(plugin: &mut Plugin, json: &[u8]) -> Vec<u8> {
    plugin.call::<&[u8], Vec<u8>>("decide", json).unwrap()
}

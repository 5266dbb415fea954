//! Extism's way: its host keeps what comes in and what goes out.

use extism_pdk::{FnResult, plugin_fn};

#[plugin_fn]
pub fn decide(json: Vec<u8>) -> FnResult<Vec<u8>> {
    Ok(crate::answer(&json)?)
}

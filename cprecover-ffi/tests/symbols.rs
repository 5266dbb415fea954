//! The shared object exports the reviewed list of symbols and nothing else, and has its SONAME.

use std::collections::BTreeSet;
use std::path::PathBuf;

use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _};
use object::{Object as _, ObjectSymbol as _};

/// Cargo puts the shared object beside the folder of the test program.
fn shared_object() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let deps = test.parent().expect("a folder");
    let beside = deps.join("libcprecover_ffi.so");
    if beside.is_file() { beside } else { deps.with_file_name("libcprecover_ffi.so") }
}

#[test]
fn the_exported_symbols_are_the_reviewed_list() {
    let bytes = std::fs::read(shared_object()).expect("libcprecover_ffi.so");
    let file = object::File::parse(&*bytes).expect("ELF");
    let exported: BTreeSet<&str> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .map(|symbol| symbol.name().expect("utf-8"))
        .collect();
    let reviewed: BTreeSet<&str> = include_str!("symbols.txt").lines().collect();
    assert_eq!(exported, reviewed);
}

#[test]
fn the_soname_is_the_abi_number() {
    let bytes = std::fs::read(shared_object()).expect("libcprecover_ffi.so");
    let elf = ElfFile64::<object::Endianness>::parse(&*bytes).expect("ELF");
    let endian = elf.endian();
    let sections = elf.elf_header().sections(endian, &*bytes).expect("sections");
    let (dynamic, strings) = sections.dynamic(endian, &*bytes).expect("readable").expect("dynamic section");
    let strings = sections.strings(endian, &*bytes, strings).expect("strings");
    let soname = dynamic
        .iter()
        .find(|entry| entry.tag(endian) == object::elf::DT_SONAME)
        .map(|entry| entry.string(endian, strings).expect("name"));
    let wanted = format!("libcprecover.so.{}", cprecover_ffi::CPR_ABI_VERSION);
    assert_eq!(soname, Some(wanted.as_bytes()));
}

fn text_of(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `link-versioned.sh` gives every function the version of the ABI.
#[test]
fn the_version_script_has_every_symbol_once() {
    let map = text_of("../include/cprecover.map");
    let node = format!("CPRECOVER_{} {{", cprecover_ffi::CPR_ABI_VERSION);
    assert!(map.contains(&node), "{node}");
    let listed: Vec<&str> = map
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| name.starts_with("cpr_"))
        .collect();
    let reviewed: Vec<&str> = include_str!("symbols.txt").lines().collect();
    assert_eq!(listed, reviewed);
    assert!(map.contains("local:\n    *;"), "nothing else is exported");
}

/// What packagers read says the same as the library.
#[test]
fn the_packaging_metadata_agrees() {
    let manifest = text_of("Cargo.toml");
    let metadata = manifest.split("[package.metadata.capi]").nth(1).expect("cargo-c's metadata");
    let value = |section: &str, key: &str| {
        let section =
            metadata.split(&format!("[package.metadata.capi.{section}]")).nth(1).expect("a section");
        let line = section.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).expect("a key");
        line.trim().trim_matches('"').to_owned()
    };
    // The file is lib<name>.so.<ABI>, found by -l<name> and <name>.h.
    assert_eq!(value("library", "name"), "cprecover");
    assert_eq!(value("pkg_config", "name"), "cprecover");
    assert_eq!(value("header", "generation"), "false", "the checked-in header is installed");
    let version = value("library", "version");
    let abi = cprecover_ffi::CPR_ABI_VERSION.to_string();
    assert_eq!(version.split('.').next(), Some(abi.as_str()));
    assert_eq!(value("library", "version_suffix_components"), "1");
    let header = value("install.include", "asset").split('"').nth(1).expect("a path").to_owned();
    assert!(text_of(&header).contains("#define CPR_VERSION"), "{header}");
    let pc = text_of("../include/cprecover.pc.in");
    assert!(pc.contains(&format!("\nVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{pc}");
    assert!(pc.contains("-lcprecover\n"), "{pc}");
}

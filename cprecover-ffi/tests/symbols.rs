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
        .filter(|name| *name != "cpr_test_panic" || !cfg!(feature = "test-panic"))
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

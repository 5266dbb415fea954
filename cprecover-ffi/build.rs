//! Gives the shared object its SONAME; generates nothing.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The ABI's number, kept apart from the crate's version; raised only when the ABI breaks.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcprecover.so.0");
    }
}

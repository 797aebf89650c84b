//! Tells the linker how a guest program is made: no C runtime, no dynamic
//! loader, a static executable laid out by `link.ld`.
//!
//! The arguments reach this package's programs only, never a library or
//! another crate.

use std::env;

fn main() {
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        // Without these two, discarding the relocation sections would silently
        // yield a broken position-independent image.
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,noexecstack",
        "-Wl,-z,max-page-size=4096",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{manifest_dir}/link.ld");
}

//! Tells the linker how a guest program is made: no C runtime, no dynamic
//! loader, a static executable laid out by `link.ld`.
//!
//! The arguments reach this package's programs only, never a library or
//! another crate.

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    // The layout as cargo's own output: of paths in there, cargo knows that they
    // change with a checkout that is moved.
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let layout = out.join("link.ld");
    fs::copy("link.ld", &layout).expect("cargo's output folder is writable");
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
    println!("cargo:rustc-link-arg-bins=-T{}", layout.display());
}

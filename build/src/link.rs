//! What the linker is told: no C runtime, no dynamic loader, a static executable
//! laid out by `link.ld`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// How an image is laid out.
const LAYOUT: &str = include_str!("link.ld");

const ARGUMENTS: [&str; 7] = [
    "-nostartfiles",
    "-nostdlib",
    // Without these two, discarding the relocation sections would silently
    // yield a broken position-independent image.
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,-z,max-page-size=4096",
];

/// Libraries of the host's C runtime that crates ask for by name.
const HOST_LIBRARIES: [&str; 8] = ["c", "m", "rt", "pthread", "util", "dl", "gcc_s", "gcc_eh"];

/// An archive with nothing in it.
const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";

/// Makes the linker link the programs of the package whose build script this is
/// as guest images. It reaches none of the package's libraries, tests or
/// dependencies.
///
/// A program that calls what only the host has is refused by the linker, with the
/// function's name.
///
/// # Panics
///
/// If cargo's output folder cannot be written.
pub fn link_programs() {
    // Nothing but this crate has a say in it, and cargo runs a build script again
    // when it has changed.
    println!("cargo::rerun-if-changed=build.rs");
    // In cargo's own output: of paths in there, cargo knows that they change with
    // a checkout that is moved.
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let layout = out.join("link.ld");
    write(&layout, LAYOUT.as_bytes());
    for argument in ARGUMENTS {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rustc-link-arg-bins=-T{}", layout.display());
    // A crate that is written against the C library has the linker look for it,
    // and it would be found: as a shared library, whose functions then count as
    // defined although nobody loads them. Found here first, it defines nothing.
    let host = out.join("no-host-libraries");
    fs::create_dir_all(&host).expect("cargo's output folder is writable");
    for library in HOST_LIBRARIES {
        write(&host.join(format!("lib{library}.a")), EMPTY_ARCHIVE);
    }
    println!("cargo::rustc-link-arg-bins=-L{}", host.display());
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("cargo's output folder is writable");
}

//! Makes the stub: the program of the process that carries a guest where there is no
//! KVM (`stub/src/lib.rs`). The VMM holds it as bytes.
//!
//! It is a program without a C runtime, which is no dependency that cargo could
//! build: the compiler is called for its one file with its modules.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=stub/src");
    println!("cargo:rerun-if-changed=stub/link.ld");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compiler = Command::new(rustc);
    compiler
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--crate-name=arca_stub",
        ])
        .args(["--target=x86_64-unknown-linux-gnu"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Ccodegen-units=1"])
        .args(["-Cstrip=symbols", "-Crelocation-model=pic"]);
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Tstub/link.ld",
    ] {
        compiler.arg(format!("-Clink-arg={argument}"));
    }
    compiler
        .arg("-o")
        .arg(out.join("stub"))
        .arg("stub/src/main.rs");
    match compiler.status() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!("the stub could not be compiled: {status}");
            exit(1);
        }
        Err(error) => {
            eprintln!("the compiler could not be started for the stub: {error}");
            exit(1);
        }
    }
}

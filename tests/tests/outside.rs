//! A guest crate outside of the workspace: made by `cargo xtask new`, built with
//! its own cargo, booted and talked to.

use arca_tests::guest::{Ended, Guest, deadline, xtask};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const NAME: &str = "my-server";

/// A command at work in `folder`, without what the cargo that runs this test has
/// told it; what is built goes where it goes here, which spares a build from
/// nothing.
fn command(program: impl AsRef<Path>, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("CARGO_") && text != "CARGO_HOME") || text.contains("RUSTFLAGS") {
            command.env_remove(&name);
        }
    }
    let target = xtask::cargo::target_dir().expect("a checkout");
    // All that it needs is here already.
    command.envs([("CARGO_NET_OFFLINE", "true")]);
    command.env("CARGO_TARGET_DIR", target);
    command
}

/// A crate made in an empty folder.
fn new() -> TempDir {
    let place = tempfile::tempdir().expect("a folder");
    let root = xtask::root::root().expect("a checkout");
    let path = place.path().join(NAME);
    let path = path.to_str().expect("text");
    let made = command(xtask(), root, &["new", NAME, "--path", path]);
    Guest::spawn(made).finish().expect_code(0);
    place
}

/// `run` of the crate, with these arguments of the program's.
fn run(folder: &Path, args: &[&str]) -> Command {
    if cfg!(debug_assertions) {
        // What the crate's own command builds is optimised, and not there yet.
        return command(
            xtask(),
            folder,
            &[&["run", "--manifest-path", "."], args].concat(),
        );
    }
    command("cargo", folder, &[&["arca"], args].concat())
}

/// Waits for the end of something that builds.
#[track_caller]
fn built(command: Command) -> Ended {
    Guest::spawn(command).finish_within(10 * deadline())
}

#[test]
fn a_new_crate_is_tidy_and_its_test_passes() {
    let place = new();
    let folder = place.path().join(NAME);
    built(command("cargo", &folder, &["fmt", "--check"])).expect_code(0);
    let ended = built(command("cargo", &folder, &["test"]));
    ended.expect_code(0);
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("test it_says_hello ... ok"), "{said}");
    // Nothing of the host's tests got into the image, and it can be run by itself.
    let ended = built(command(
        xtask(),
        &folder,
        &["build", "--manifest-path", "."],
    ));
    ended.expect_code(0);
    let image = String::from_utf8(ended.stdout).expect("a path");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let image = ["run", "--image", image.trim(), &port];
    built(command(xtask(), &folder, &image))
        .expect_code(1)
        .expect_stderr("address in use");
}

#[test]
fn a_new_crate_is_run_and_answers_a_client() {
    let place = new();
    let (_server, address) = serve(&place.path().join(NAME));
    assert_eq!(
        get(&address),
        "HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\nhello from my-server\n"
    );
}

#[test]
fn the_guides_program_does_what_the_guide_says() {
    let root = xtask::root::root().expect("a checkout");
    let guide = fs::read_to_string(root.join("docs/guide.md")).expect("the guide");
    let program = guide.split("```rust\n").nth(1).expect("a program");
    let program = program.split("```").next().expect("its end");
    let place = new();
    let folder = place.path().join(NAME);
    fs::write(folder.join("src/main.rs"), program).expect("a file");
    built(command("cargo", &folder, &["fmt", "--check"])).expect_code(0);
    let (_server, address) = serve(&folder);
    for visitor in 1..=2 {
        let answer = get(&address);
        let body = format!("you are visitor {visitor}\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        assert!(guide.contains(&body), "the guide shows another answer");
    }
}

/// Runs the crate in `folder`, and gives the address that it says it listens at.
fn serve(folder: &Path) -> (Guest, String) {
    let (said, output) = pipe().expect("a pipe");
    let server = Guest::spawn_to(run(folder, &["0"]), output.into());
    let mut line = String::new();
    let read = BufReader::new(said).read_line(&mut line);
    read.expect("a pipe");
    let address = line.trim().strip_prefix("listening on http://");
    let address = address.unwrap_or_else(|| panic!("{line:?}: {}", server.stderr()));
    (server, address.to_owned())
}

/// The answer to a request.
fn get(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(deadline())).expect("a socket");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

/// Builds a crate whose `main` is this, with more arguments for its linker.
fn build(main: &str, linker: &str) -> Ended {
    let place = new();
    let folder = place.path().join(NAME);
    let text = format!("#![no_std]\n#![no_main]\n\narca_guest::entry!(main);\n\n{main}\n");
    fs::write(folder.join("src/main.rs"), text).expect("a file");
    let script = folder.join("build.rs");
    let text = fs::read_to_string(&script).expect("a build script");
    let text = text.replace("}\n", &format!("    {linker}\n}}\n"));
    fs::write(script, text).expect("a file");
    built(command(
        xtask(),
        &folder,
        &["build", "--manifest-path", "."],
    ))
}

#[test]
fn what_only_the_host_has_is_refused_by_name() {
    for library in ["", "#[link(name = \"c\")]"] {
        let main = format!(
            "{library}\nunsafe extern \"C\" {{\n    fn getpid() -> i32;\n}}\n\
             fn main() {{\n    arca_guest::println!(\"{{}}\", unsafe {{ getpid() }});\n}}"
        );
        let ended = build(&main, "");
        ended.expect_code(125).expect_stderr("getpid");
        ended.expect_stderr("undefined");
    }
}

#[test]
fn a_shared_library_of_the_hosts_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let source = place.path().join("stray.c");
    fs::write(&source, "int stray(void) { return 7; }\n").expect("a file");
    let library = place.path().join("libstray.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-nostdlib", "-o"]);
    let compiled = compiler.args([&library, &source]).status();
    assert!(compiled.expect("the linker that cargo uses").success());
    let main = "#[link(name = \"stray\")]\nunsafe extern \"C\" {\n    fn stray() -> i32;\n}\n\
        fn main() {\n    arca_guest::println!(\"{}\", unsafe { stray() });\n}";
    let linker = format!(
        "println!(\"cargo::rustc-link-search=native={}\");",
        place.path().display()
    );
    build(main, &linker)
        .expect_code(125)
        .expect_stderr("shared library");
}

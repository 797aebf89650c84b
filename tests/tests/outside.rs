//! A guest crate outside of the workspace: made by `cargo xtask new`, built with
//! its own cargo, booted and talked to.

use arca_tests::guest::{Ended, Guest, deadline, vmm, xtask};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

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

/// A crate of that name made in an empty folder: what is to be kept, and where it is.
/// Crates with different sources have different names: all are built in one place,
/// where cargo would take what was built of one for another.
fn new(name: &str) -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a folder");
    let root = xtask::root::root().expect("a checkout");
    let folder = place.path().join(name);
    let path = folder.to_str().expect("text");
    let made = command(xtask(), root, &["new", name, "--path", path]);
    Guest::spawn(made).finish().expect_code(0);
    (place, folder)
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
    let (_place, folder) = new("my-server");
    built(command("cargo", &folder, &["fmt", "--check"])).expect_code(0);
    let clippy = ["clippy", "--features", "image", "--bins", "--"];
    let clippy = [&clippy[..], &["--deny", "warnings"]].concat();
    built(command("cargo", &folder, &clippy)).expect_code(0);
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
    let (_place, folder) = new("my-server");
    let (_server, address) = serve(&folder);
    assert_eq!(
        get(&address),
        "HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: close\r\n\r\nhello from my-server\n"
    );
}

#[test]
fn the_guides_program_does_what_the_guide_says() {
    let root = xtask::root::root().expect("a checkout");
    let guide = fs::read_to_string(root.join("docs/guide.md")).expect("the guide");
    let [program] = &programs("docs/guide.md")[..] else {
        panic!("the guide has one program");
    };
    let (_place, folder) = new("my-guide");
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

/// The programs in a document, in order.
fn programs(document: &str) -> Vec<String> {
    let root = xtask::root::root().expect("a checkout");
    let text = fs::read_to_string(root.join(document)).expect("a document");
    let blocks = text.split("```rust\n").skip(1);
    let programs = blocks.filter_map(|block| block.split("```").next());
    programs.map(str::to_owned).collect()
}

#[test]
fn the_cookbooks_programs_do_what_it_says() {
    let (_place, folder) = new("my-cookbook");
    let names = ["server", "client", "many", "in-place", "ending"];
    let programs = programs("docs/cookbook.md");
    assert_eq!(programs.len(), names.len());
    let manifest = folder.join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest).expect("a manifest");
    for (name, program) in names.iter().zip(programs) {
        fs::write(folder.join(format!("src/{name}.rs")), program).expect("a file");
        text += &format!(
            "\n[[bin]]\nname = \"{name}\"\npath = \"src/{name}.rs\"\n\
             required-features = [\"image\"]\ntest = false\nbench = false\n"
        );
    }
    fs::write(manifest, text).expect("a file");
    built(command("cargo", &folder, &["fmt", "--check"])).expect_code(0);
    let ended = built(command(
        xtask(),
        &folder,
        &["build", "--manifest-path", "."],
    ));
    ended.expect_code(0);
    let images = String::from_utf8(ended.stdout).expect("paths");
    let image = |name: &str| {
        let mut paths = images.lines().map(Path::new);
        let path = paths.find(|path| path.ends_with(name));
        path.expect("an image").to_owned()
    };

    let (_server, address) = boot(&image("server"));
    let mut stream = connect(&address);
    stream.write_all(b"hello\n").expect("connected");
    let mut shouted = [0; 6];
    stream.read_exact(&mut shouted).expect("an answer");
    assert_eq!(&shouted, b"HELLO\n");

    // The other two ask the first.
    let port = address.rsplit(':').next().expect("a port");
    let client = |name: &str, args: &[&str]| {
        let mut command = Command::new(vmm());
        command.arg(image(name)).args(args).stdin(Stdio::null());
        let ended = Guest::spawn(command).finish();
        ended.expect_code(0);
        String::from_utf8(ended.stdout).expect("text")
    };
    assert_eq!(client("client", &[port]), "PING\n");
    assert_eq!(client("many", &[port, port]), format!("{port}\n"));

    let (counter, address) = boot(&image("in-place"));
    let mut stream = connect(&address);
    stream
        .write_all(&b"line\n".repeat(1000))
        .expect("connected");
    drop(stream);
    counter.finish().expect_code(0);

    let (ending, address) = boot(&image("ending"));
    let mut stream = connect(&address);
    let mut echo = [0; 4];
    stream.write_all(b"some").expect("connected");
    stream.read_exact(&mut echo).expect("an echo");
    ending.signal(nix::sys::signal::Signal::SIGTERM);
    // The one that it serves goes on, and may take its last word with it.
    stream.write_all(b"more").expect("connected");
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"more");
    drop(stream);
    ending.finish().expect_code(0);
}

/// Boots an image, and gives the address that it says it listens at.
fn boot(image: &Path) -> (Guest, String) {
    let mut command = Command::new(vmm());
    command.arg(image).arg("0").stdin(Stdio::null());
    listening(command, "listening on ")
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    let set = stream.set_read_timeout(Some(deadline()));
    set.expect("a socket");
    stream
}

/// Runs the crate in `folder`, and gives the address that it says it listens at.
fn serve(folder: &Path) -> (Guest, String) {
    listening(run(folder, &["0"]), "listening on http://")
}

/// Starts what says where it listens.
fn listening(command: Command, says: &str) -> (Guest, String) {
    let (said, output) = pipe().expect("a pipe");
    let server = Guest::spawn_to(command, output.into());
    let mut said = BufReader::new(said);
    let mut line = String::new();
    said.read_line(&mut line).expect("a pipe");
    let address = line.trim().strip_prefix(says);
    let address = address.unwrap_or_else(|| panic!("{line:?}: {}", server.stderr()));
    // What else it says is read, so that it can be said.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (server, address.to_owned())
}

/// The answer to a request.
fn get(address: &str) -> String {
    let mut stream = connect(address);
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

/// Builds a crate of that name whose `main` is this, with more arguments for its linker.
fn build(name: &str, main: &str, linker: &str) -> Ended {
    let (_place, folder) = new(name);
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
    let without = ("my-caller", "");
    for (name, library) in [without, ("my-libc-caller", "#[link(name = \"c\")]")] {
        let main = format!(
            "{library}\nunsafe extern \"C\" {{\n    fn getpid() -> i32;\n}}\n\
             fn main() {{\n    arca_guest::println!(\"{{}}\", unsafe {{ getpid() }});\n}}"
        );
        let ended = build(name, &main, "");
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
    build("my-stray-caller", main, &linker)
        .expect_code(125)
        .expect_stderr("shared library");
}

//! `cargo xtask` works for the checkout that it is called in, wherever that is and
//! wherever cargo puts what it builds.

use arca_tests::guest::{Ended, Guest, deadline, image, xtask};
use arca_tests::process::install;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies the checkout's files, but for what was built and what git keeps.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if name == ".git" || path.join("CACHEDIR.TAG").exists() {
            continue;
        }
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).expect("a file")),
        }
    }
}

/// Puts what was built of other people's crates for a guest program into a
/// checkout, which spares most of a build from nothing. What the checkout itself
/// holds is at another path, so it is built all the same.
fn lend_dependencies(checkout: &Path) {
    // TARGET/TRIPLE/guest/hello; build scripts and macros are in TARGET/guest.
    let image = image("hello");
    let profile = image.parent().expect("a folder of a profile");
    let triple = profile.parent().expect("a folder of a triple");
    let built = triple.parent().expect("cargo's folder");
    let target = checkout.join("target");
    fs::create_dir(&target).expect("a folder");
    // Cargo goes by the times of files.
    let mut copy = Command::new("cp");
    copy.arg("--archive").args([triple, &built.join("guest")]);
    let copied = copy.arg(&target).status().expect("cp");
    assert!(copied.success(), "{copied}");
}

/// Makes the hello program of a checkout say something of its own.
fn rewrite(checkout: &Path, says: &str) {
    let program = checkout.join("guest/src/bin/hello.rs");
    let text = fs::read_to_string(&program).expect("the hello program");
    let line = text.lines().find(|line| line.contains("hello from"));
    let line = line.expect("the line that says hello");
    let text = text.replace(line, &format!("    println!(\"hello from {says}\");"));
    fs::write(program, text).expect("a file");
}

/// `cargo xtask run hello` in that folder, with nothing but these variables that
/// say where or how to build.
fn hello(folder: &Path, variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(xtask());
    command.args(["run", "hello"]).current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") || text.contains("RUSTFLAGS") {
            command.env_remove(&name);
        }
    }
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    // A build from nothing may take its time.
    Guest::spawn(command).finish_within(10 * deadline())
}

#[track_caller]
fn expect(ended: &Ended, says: &str) {
    ended.expect_code(0);
    let stdout = String::from_utf8_lossy(&ended.stdout);
    let expected = format!("hello from {says}\n");
    assert_eq!(stdout, expected, "standard error:\n{}", ended.stderr);
}

#[test]
fn a_copy_that_is_moved_runs_its_own_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    copy(xtask::root::root().expect("a checkout"), &one);
    lend_dependencies(&one);

    // In a folder of the copy. It is built, which can be seen.
    rewrite(&one, "the copy");
    let ended = hello(&one.join("guest/src"), &[]);
    expect(&ended, "the copy");
    ended.expect_stderr("Compiling arca-guest");

    // Moved, with what was built.
    fs::rename(&one, &two).expect("the same file system");
    expect(&hello(&two, &[]), "the copy");
    rewrite(&two, "the moved copy");
    expect(&hello(&two, &[]), "the moved copy");
    // Nothing to do, nothing said.
    let ended = hello(&two, &[]);
    expect(&ended, "the moved copy");
    // Cargo says if it has to wait for another one.
    if !ended.stderr.contains("Blocking") {
        assert_eq!(ended.stderr, "");
    }

    // What changes other builds does not make the image another one, or an old one.
    let host = arca_build::cargo::host_target().expect("cargo's host");
    rewrite(&two, "a build of its own");
    let variables = [
        ("CARGO_BUILD_TARGET", host.as_str()),
        ("RUSTFLAGS", "-C link-arg=-no-such-argument"),
        ("CARGO_BUILD_RUSTFLAGS", "-C link-arg=-no-such-argument"),
        ("CARGO_ENCODED_RUSTFLAGS", "-Clink-arg=-no-such-argument"),
        ("CARGO_PROFILE_GUEST_PANIC", "unwind"),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_INCREMENTAL", "1"),
    ];
    let ended = hello(&two, &variables);
    expect(&ended, "a build of its own");
    assert!(!ended.stderr.contains("arca-shared"), "{}", ended.stderr);

    // Another place for what is built, told from where the user is.
    let built = folder.path().join("built");
    fs::rename(two.join("target"), built).expect("the same file system");
    rewrite(&two, "elsewhere");
    let place = [("CARGO_TARGET_DIR", "../../built")];
    expect(&hello(&two.join("guest"), &place), "elsewhere");
    assert!(!two.join("target").exists(), "built in the wrong place");

    // A program that is not asked for may be wrong; one that is asked for is not
    // run as it was.
    let place = [("CARGO_TARGET_DIR", "../built")];
    fs::write(two.join("guest/src/bin/cat.rs"), "fn main( {").expect("a file");
    rewrite(&two, "the good one");
    expect(&hello(&two, &place), "the good one");
    fs::write(two.join("guest/src/bin/hello.rs"), "fn main( {").expect("a file");
    let ended = hello(&two, &place);
    ended
        .expect_code(125)
        .expect_stderr("guest/src/bin/hello.rs:1");
    assert_eq!(ended.stdout, b"");
}

#[test]
fn outside_of_a_checkout_it_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    // The command's own file is not in a checkout, either.
    let command = folder.path().join("xtask");
    install(&xtask(), &command);
    let mut command = Command::new(command);
    command.args(["run", "hello"]).current_dir(folder.path());
    command
        .env_remove("CARGO_MANIFEST_DIR")
        .stdin(Stdio::null());
    let ended = Guest::spawn(command).finish();
    ended
        .expect_code(125)
        .expect_stderr("change to the checkout");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

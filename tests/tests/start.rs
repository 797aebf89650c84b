//! What cannot start says why in one clear line, with exit code 125.

use arca_tests::guest::{Ended, Guest, image, vmm};
use arca_tests::skip;
use arca_vmm::Platform;
use arca_vmm::cli::PLATFORM;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

#[track_caller]
fn refused(ended: &Ended, says: &str) {
    ended.expect_code(125).expect_stderr(says);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stdout, b"");
}

fn run(path: &Path) -> Ended {
    let mut command = Command::new(vmm());
    command.arg(path).stdin(Stdio::null());
    Guest::spawn(command).finish()
}

#[test]
fn no_such_image() {
    refused(&run(Path::new("no/such/image")), "no/such/image");
}

#[test]
fn an_image_that_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused(&run(folder.path()), "not a regular file");
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a fifo");
    refused(&run(&fifo), "not a regular file");
    refused(&run(Path::new("/dev/null")), "not a regular file");
}

#[test]
fn a_corrupt_image() {
    let whole = fs::read(image("hello")).expect("built");
    for (len, what) in [(0, "empty"), (40, "cut in the header"), (5000, "cut later")] {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&whole[..len]).expect("a regular file");
        let ended = run(file.path());
        assert_eq!(ended.code, Some(125), "{what}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{what}: {}", ended.stderr);
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"#!/bin/sh\necho not an image\n")
        .expect("a regular file");
    assert_eq!(run(file.path()).code, Some(125));
}

/// What a shell runs to start the hello program; the VMM's command is `$0`, the
/// image `$1`.
const HELLO: &str = "\"$0\" \"$1\"";

/// Runs `start` where `prepare` has changed /dev, both shell commands, in
/// namespaces of their own; `None` where such a namespace cannot be had.
fn in_namespace(prepare: &str, start: &str, platform: &str) -> Option<Ended> {
    let script = format!("{prepare} && echo prepared >&2 && exec {start}");
    let mut command = Command::new("unshare");
    command.env(PLATFORM, platform);
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        &script,
    ]);
    command.arg(vmm()).arg(image("hello")).stdin(Stdio::null());
    let mut ended = Guest::spawn(command).finish();
    let Some(stderr) = ended.stderr.strip_prefix("prepared\n") else {
        skip(&format!("no such namespaces here: {}", ended.stderr.trim()));
        return None;
    };
    ended.stderr = stderr.to_owned();
    Some(ended)
}

/// Where KVM cannot be used, whoever wants it is refused; whoever does not say what
/// is wanted has the guest in a process, and is told so; whoever wants that is not.
fn in_each_way(prepare: &str, start: &str) {
    for platform in Platform::ALL {
        let Some(ended) = in_namespace(prepare, start, platform.name()) else {
            return;
        };
        if platform == Platform::Kvm {
            refused(&ended, "/dev/kvm");
            continue;
        }
        ended.expect_code(0);
        assert_eq!(ended.stdout, b"hello from Arca\n");
        let notices = ended.stderr.lines().collect::<Vec<_>>();
        match (platform, &notices[..]) {
            (Platform::Auto, [notice]) => {
                assert!(notice.contains("runs in a process"), "{notice}");
                assert!(notice.contains("/dev/kvm"), "{notice}");
            }
            (_, []) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Where a process cannot be used either, one line says why not, and with what command
/// that is mended; whoever does not say what is wanted is told of both.
#[test]
fn neither_platform_can_be_used() {
    for (prepare, mend) in [
        // This namespace's own setting.
        (
            "echo 2 >/proc/sys/vm/memfd_noexec",
            "`sudo sysctl -w vm.memfd_noexec=0`",
        ),
        (
            "mount -t tmpfs none /proc",
            "`sudo mount -t proc proc /proc`",
        ),
    ] {
        let prepare = format!("mount --bind /dev/null /dev/kvm && {prepare}");
        for platform in [Platform::Process, Platform::Auto] {
            let Some(ended) = in_namespace(&prepare, HELLO, platform.name()) else {
                return;
            };
            refused(&ended, mend);
            assert_eq!(
                ended.stderr.contains("/dev/kvm"),
                platform == Platform::Auto
            );
        }
    }
}

#[test]
fn an_unknown_platform_is_named() {
    for (option, variable) in [(Some("xen"), None), (None, Some("xen"))] {
        let mut command = Command::new(vmm());
        command.env_remove(PLATFORM).stdin(Stdio::null());
        command.envs(variable.map(|name| (PLATFORM, name)));
        command.args(option.into_iter().flat_map(|name| ["--platform", name]));
        command.arg(image("hello"));
        let ended = Guest::spawn(command).finish();
        ended.expect_code(125).expect_stderr("auto, kvm or process");
    }
}

#[test]
fn kvm_is_missing() {
    in_each_way("mount -t tmpfs none /dev", HELLO);
}

#[test]
fn kvm_is_not_what_it_should_be() {
    in_each_way("mount --bind /dev/null /dev/kvm", HELLO);
}

#[test]
fn kvm_is_not_accessible() {
    // Copies, because a user without rights may not read where the originals
    // are; a file in place of the device, because the device is everybody's.
    let prepare = "mount -t tmpfs -o mode=755 none /mnt && cp \"$0\" /mnt/vmm \
        && cp \"$1\" /mnt/hello && touch /mnt/kvm && chmod 600 /mnt/kvm \
        && mount --bind /mnt/kvm /dev/kvm";
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups /mnt/vmm /mnt/hello";
    in_each_way(prepare, nobody);
}

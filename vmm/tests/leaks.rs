//! A guest that has ended leaves nothing behind. Alone in its file: it counts
//! what the whole process has.

#[path = "../src/testimage.rs"]
#[allow(dead_code)]
mod testimage;

use arca_shared::protocol::register::Register;
use arca_vmm::{Image, Input, Platform, StopReason, Vm, VmConfig, VmHandle};
use std::time::{Duration, Instant};
use testimage::ImageBuilder;

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .expect("this process has a directory there")
        .count()
}

/// Waits until there are no more threads and descriptors than `before`: the kernel lists
/// a thread for a moment after it was joined.
#[track_caller]
fn none_left(before: (usize, usize), of: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let now = (count("task"), count("fd"));
        if now.0 <= before.0 && now.1 <= before.1 {
            return;
        }
        assert!(Instant::now() < end, "{of}: {before:?}, then {now:?}");
        std::thread::yield_now();
    }
}

/// Boots a guest that exits, or spins until it is stopped.
fn boot(spins: bool, platform: Platform) -> VmHandle {
    let mut code = vec![0x48, 0xa3];
    code.extend(Register::Exit.address().to_le_bytes());
    if spins {
        code = vec![0xeb, 0xfe];
    }
    let (reader, _writer) = std::io::pipe().expect("pipe");
    let config = VmConfig {
        vcpus: 3,
        stdin: Input::Reader(Box::new(reader)),
        timeout: Some(Duration::from_secs(20)),
        platform,
        ..VmConfig::new(
            Image::Bytes(ImageBuilder::new(&code).build().into()),
            "test",
        )
    };
    let vm = Vm::new(config).expect("starts");
    let handle = vm.handle();
    if spins {
        let stopper = handle.clone();
        std::thread::spawn(move || stopper.stop(StopReason::Request))
            .join()
            .expect("no panic");
        assert_eq!(vm.run().code(), 130);
    } else {
        // Whatever rax held at the start: it is zero.
        assert_eq!(vm.run().code(), 0);
    }
    handle
}

#[test]
fn threads_descriptors_and_memory_are_gone() {
    // The second one is what all machines have.
    for platform in [Platform::Auto, Platform::Process] {
        leaves_nothing(platform);
    }
}

fn leaves_nothing(platform: Platform) {
    drop(boot(false, platform));
    // A process's memory has a name.
    let mappings = || {
        std::fs::read_to_string("/proc/self/maps")
            .expect("readable")
            .matches("arca-memory")
            .count()
    };
    let before = (count("task"), count("fd"));
    let handles: Vec<VmHandle> = (0..20).map(|n| boot(n % 2 == 0, platform)).collect();
    none_left(before, "those that ran");
    assert_eq!(
        mappings(),
        0,
        "guest memory is unmapped though handles live"
    );
    assert!(handles.iter().any(|handle| handle.stats().vcpu_exits > 0));
    let built = Vm::new(VmConfig {
        platform,
        ..VmConfig::new(
            Image::Bytes(ImageBuilder::new(&[0xeb, 0xfe]).build().into()),
            "test",
        )
    });
    let built = built.expect("starts");
    if platform == Platform::Process {
        assert!(mappings() > 0);
    }
    drop(built);
    none_left(before, "one that never ran");
    assert_eq!(mappings(), 0, "one that never ran");
}

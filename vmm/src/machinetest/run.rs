//! From the first instruction to the exit status: exits, stops, parks and kicks.

use super::*;
use arca_shared::protocol::register::{NO_DEADLINE, YIELD};
use std::io::Write;
use std::time::Instant;

#[test]
fn the_exit_code_is_the_programs() {
    assert_eq!(code().exit(42).run().code(), 42);
    assert_eq!(code().exit(0x1_00).run().code(), 0);
}

#[test]
fn a_park_ends_at_its_deadline() {
    let started = Instant::now();
    let vm = Vm::new(
        code()
            .register(Register::Park, 500_000_000)
            .exit(0)
            .config(),
    )
    .expect("starts");
    let handle = vm.handle();
    assert!(vm.run().success());
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(500), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    let stats = handle.stats();
    assert_eq!((stats.parks, stats.sleeps), (1, 1));
    let past = Vm::new(code().register(Register::Park, 1).exit(0).config()).expect("starts");
    let handle = past.handle();
    assert!(past.run().success());
    let stats = handle.stats();
    assert_eq!((stats.parks, stats.sleeps), (1, 0));
}

#[test]
fn a_yield_is_no_park_and_takes_no_token() {
    // The token ends the park; without it the guest would sleep until it is stopped.
    let code = code()
        .register(Register::Kick, 0)
        .register(Register::Park, YIELD)
        .register(Register::Park, NO_DEADLINE)
        .exit(3);
    let config = VmConfig {
        timeout: Some(Duration::from_secs(20)),
        ..code.config()
    };
    let vm = Vm::new(config).expect("starts");
    let handle = vm.handle();
    assert_eq!(vm.run().code(), 3);
    let stats = handle.stats();
    assert_eq!((stats.parks, stats.sleeps), (1, 0));
}

#[test]
fn a_kick_wakes_another_vcpu() {
    // vCPU 1 sleeps until vCPU 0 kicks it, then ends the guest; vCPU 0 sleeps
    // for ever.
    let first = code()
        .register(Register::Kick, 1)
        .register(Register::Park, NO_DEADLINE)
        .spin();
    let code = code()
        .first_only(first)
        .register(Register::Park, NO_DEADLINE)
        .exit(9);
    let config = VmConfig {
        vcpus: 2,
        ..code.config()
    };
    let vm = Vm::new(config).expect("starts");
    let handle = vm.handle();
    assert_eq!(vm.run().code(), 9);
    assert_eq!(handle.stats().kicks, 1);
}

#[test]
fn the_doorbell_does_not_leave_the_kernel() {
    let mut ringing = code();
    for _ in 0..100 {
        ringing = ringing.register(Register::Doorbell, 1);
    }
    let vm = Vm::new(ringing.exit(0).config()).expect("starts");
    let handle = vm.handle();
    assert!(vm.run().success());
    assert_eq!(handle.stats().vcpu_exits, 1);
}

#[test]
fn a_guest_that_has_alignment_checked_leaves_as_others_do() {
    let code = code()
        // pushfq; or dword [rsp], 1 << 18; popfq
        .bytes(&[0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d])
        .register(Register::Doorbell, 1)
        .register(Register::Park, 0)
        .exit(6);
    assert_eq!(code.run().code(), 6);
}

#[test]
fn a_guest_that_spins_is_stopped() {
    let config = VmConfig {
        timeout: Some(Duration::from_millis(50)),
        ..code().spin().config()
    };
    let started = Instant::now();
    let status = Vm::new(config).expect("starts").run();
    assert_eq!(status.code(), 124);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_guest_is_stopped_from_another_thread() {
    for code in [
        code().spin(),
        code().register(Register::Park, NO_DEADLINE).spin(),
        // Exits to the VMM all the time.
        code()
            .register(Register::Park, 0)
            .bytes(&[0xeb, (256 - 22) as u8]),
    ] {
        let config = VmConfig {
            vcpus: 2,
            ..code.config()
        };
        let vm = Vm::new(config).expect("starts");
        let handle = vm.handle();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            handle.stop(StopReason::Signal(15));
        });
        assert_eq!(vm.run().code(), 143);
        stopper.join().expect("no panic");
    }
}

#[test]
fn two_guests_run_at_the_same_time() {
    let threads: Vec<_> = (0..4u8)
        .map(|n| std::thread::spawn(move || code().exit(n.into()).run().code()))
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(usize::from(thread.join().expect("no panic")), n);
    }
}

#[test]
fn input_that_never_comes_does_not_hold_the_guest_up() {
    let (reader, _writer) = std::io::pipe().expect("pipe");
    let config = VmConfig {
        stdin: Input::Reader(Box::new(reader)),
        ..code().exit(3).config()
    };
    let started = Instant::now();
    assert_eq!(Vm::new(config).expect("starts").run().code(), 3);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_console_that_nobody_reads_does_not_hold_the_end_up() {
    let (_reader, mut writer) = std::io::pipe().expect("pipe");
    writer.write_all(&[0; 64 << 10]).expect("room");
    let uart = Register::Uart(0).address();
    let unfinished = code().load(u64::from(b'?')).store_byte(uart);
    let config = VmConfig {
        console: Box::new(writer),
        ..unfinished.exit(7).config()
    };
    let (ended, ending) = std::sync::mpsc::channel();
    let vm = Vm::new(config).expect("starts");
    std::thread::spawn(move || ended.send(vm.run().code()));
    assert_eq!(ending.recv_timeout(Duration::from_secs(60)), Ok(7));
}

#[test]
fn what_cannot_start_says_so() {
    let start = |config: VmConfig| {
        let error = Vm::new(config).err().expect("refused");
        error::in_one_line(&error)
    };
    let config = || code().exit(0).config();
    let text = start(VmConfig {
        vcpus: 0,
        ..config()
    });
    assert_eq!(text, "0 vCPUs are not possible: give it 1 to 16");
    let text = start(VmConfig {
        args: vec!["x".repeat(1 << 20)],
        ..config()
    });
    assert!(text.contains("arguments take"), "{text}");
    let text = start(VmConfig {
        image: Image::Bytes((*b"garbage").into()),
        ..config()
    });
    assert!(text.contains("not a 64-bit x86 ELF file"), "{text}");
    let text = start(VmConfig {
        arena_size: 5,
        ..config()
    });
    assert!(text.contains("arena of 5 bytes"), "{text}");
}

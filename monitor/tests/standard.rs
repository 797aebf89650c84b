//! Standard pipes: blocking ends beside a monitor.

mod common;

use arca_monitor::{Monitor, MonitorConfig, SessionEnd};
use arca_shared::notify::Slot;
use arca_shared::pipe::{BidirectionalPipe, Side};
use common::{Peer, digest, link, pattern, until};
use std::io::ErrorKind;
use std::thread;

/// Tells the monitor of a change, as a guest does.
fn notify(peer: &Peer, pipe: &BidirectionalPipe) {
    peer.area.to_monitor().mark(Slot::from(pipe.shm_offset()));
    if peer.area.monitor().claim_wake() {
        peer.ring();
    }
}

#[test]
fn output_and_input_block_and_lose_nothing() {
    for rings in [false, true] {
        let (mut link, arena, _) = link(common::ARENA);
        let mut out = link.standard_pipe(4096).expect("room");
        let mut input = link.standard_pipe(4096).expect("room");
        let peer = Peer::new(&link, arena.clone());
        let join = |place| BidirectionalPipe::join(&arena, place, Side::A).expect("a pipe");
        let (mut guest_out, mut guest_in) = (join(out.place()), join(input.place()));
        let (out_handle, in_handle) = (out.handle(), input.handle());
        let mut monitor = Monitor::new(link, MonitorConfig::default()).expect("a monitor");
        let handle = monitor.handle();
        let session = thread::spawn(move || monitor.event_loop());
        if rings {
            peer.ring();
            until("the end of polling", || {
                (handle.stats().doorbells > 0).then_some(())
            });
        }
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut buffer = [0; 1000];
            loop {
                match out.read(&mut buffer).expect("valid cursors") {
                    0 => return bytes,
                    len => bytes.extend_from_slice(&buffer[..len]),
                }
            }
        });
        let text = pattern(200_000, 1);
        let typed = text.clone();
        let writer = thread::spawn(move || {
            input.write_all(&typed).expect("a reader");
            input.close_write(0);
            input
        });
        let mut got = Vec::new();
        let mut rest = &text[..];
        until("all to be written and read", || {
            if let Ok(len) = guest_out.write(rest) {
                rest = &rest[len..];
                if guest_out.outgoing().should_notify_data() {
                    notify(&peer, &guest_out);
                }
            } else {
                guest_out.outgoing().arm_room(1).expect("a valid cursor");
            }
            let mut buffer = [0; 777];
            let over = guest_in.is_peer_write_closed();
            match guest_in.read(&mut buffer) {
                Ok(len) => {
                    got.extend_from_slice(&buffer[..len]);
                    if guest_in.incoming().should_notify_room(2048) {
                        notify(&peer, &guest_in);
                    }
                    None
                }
                Err(_) => (over && rest.is_empty()).then_some(()),
            }
        });
        assert_eq!(digest(&got), digest(&text));
        // The guest ends without closing anything: what it wrote is read.
        handle.stop();
        out_handle.ended();
        assert_eq!(digest(&reader.join().expect("no panic")), digest(&text));
        assert_eq!(out_handle.pending(), 0);
        let mut input = writer.join().expect("no panic");
        in_handle.ended();
        let error = input.write_all(b"x").expect_err("the guest is gone");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(session.join().expect("no panic"), SessionEnd::Stopped);
    }
}

#[test]
fn what_nobody_reads_is_counted() {
    let (mut link, arena, _) = link(common::ARENA);
    let out = link.standard_pipe(4096).expect("room");
    let mut guest = BidirectionalPipe::join(&arena, out.place(), Side::A).expect("a pipe");
    assert_eq!(guest.write(&[1; 5000]), Ok(4096));
    assert_eq!(out.handle().pending(), 4096);
}

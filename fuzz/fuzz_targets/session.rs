//! A whole monitor, fed arbitrary frames and arbitrary memory: replies or a
//! violation, and nothing left when it is gone.

#![no_main]

use arbitrary::Arbitrary;
use arca_monitor::{Dispatch, Link, Monitor, MonitorConfig, VcpuWaker};
use arca_shared::arena::Arena;
use arca_shared::frame::{Frame, MAX_PAYLOAD};
use arca_shared::message::{Reply, code};
use libfuzzer_sys::fuzz_target;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A small arena: full soon.
const ARENA: usize = 1 << 20;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A request, well-framed; the type and the payload are anything.
    Request {
        message_type: u8,
        id: u8,
        payload: Vec<u8>,
    },
    /// A request with fields that mean something now and then.
    Likely {
        kind: u8,
        id: u8,
        number: u8,
        port: u8,
    },
    Pump,
    Accepts,
    /// Arca writes anywhere.
    Poke {
        at: u32,
        value: u64,
    },
}

struct Nobody;

impl VcpuWaker for Nobody {
    fn wake(&self, _: usize) {}
}

struct Memory(NonNull<u8>, Layout);

// SAFETY: an address; what is behind it is reached atomically, or by rings.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the last arena is gone.
        unsafe { std::alloc::dealloc(self.0.as_ptr(), self.1) }
    }
}

fn likely(kind: u8, number: u8, port: u8) -> (u8, Vec<u8>) {
    // Ids carry a generation in their upper bits; the first of each index is
    // what a fresh session hands out.
    let id = u32::from(number % 8) + 1;
    let port = u16::from(port) + 40_000;
    let mut payload = Vec::new();
    let kinds = [
        code::LISTEN_REQUEST,
        code::CONNECT_REQUEST,
        code::ACCEPT_REQUEST,
        code::HELLO,
        code::CLOSE_LISTENER,
        code::CANCEL,
        code::LISTEN_AT,
        code::CONNECT_TO,
        code::ACCEPT_FROM,
        code::ADDRESSES,
        code::SET_OPTION,
        code::GET_OPTION,
    ];
    let message_type = kinds[usize::from(kind) % kinds.len()];
    match message_type {
        code::LISTEN_REQUEST | code::CONNECT_REQUEST => {
            payload.extend([127, 0, 0, 1]);
            payload.extend(port.to_le_bytes());
        }
        code::HELLO => payload.extend([1, 0, 0, 0, 0x1F, 0, 0, 0, 0, 0, 0, 0]),
        code::LISTEN_AT | code::CONNECT_TO => {
            payload.extend([4, 0]);
            payload.extend(port.to_le_bytes());
            payload.extend([127, 0, 0, 1]);
            payload.resize(28, 0);
            if message_type == code::LISTEN_AT {
                payload.extend([0; 4]);
            }
        }
        code::ADDRESSES | code::SET_OPTION | code::GET_OPTION => {
            payload.push(number % 2 + 1);
            payload.extend(id.to_le_bytes());
            if message_type != code::ADDRESSES {
                payload.push(kind % 12);
            }
            if message_type == code::SET_OPTION {
                payload.extend(u64::from(number).to_le_bytes());
            }
        }
        _ => payload.extend(id.to_le_bytes()),
    }
    (message_type, payload)
}

fn run(steps: &[Step]) {
    let layout = Layout::from_size_align(ARENA, 4096).expect("small");
    // SAFETY: the layout is not empty.
    let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).expect("memory");
    let memory = Arc::new(Memory(base, layout));
    // SAFETY: valid for as long as the owner, which goes along.
    let arena = unsafe { Arena::new(base, ARENA) }.with_owner(memory);
    let link = Link::new(arena.clone(), Arc::new(Nobody), 1).expect("the arena is large enough");
    let Ok(mut monitor) = Monitor::new(link, MonitorConfig::default()) else {
        return;
    };
    for step in steps {
        let result = match step {
            Step::Request {
                message_type,
                id,
                payload,
            } => {
                // Names are looked up on the host: not a fuzzer's business.
                if *message_type == code::CONNECT_NAME {
                    continue;
                }
                send(&mut monitor, *message_type, *id, payload)
            }
            Step::Likely {
                kind,
                id,
                number,
                port,
            } => {
                let (message_type, payload) = likely(*kind, *number, *port);
                send(&mut monitor, message_type, *id, &payload)
            }
            Step::Pump => monitor.pump_once().map(|_| ()),
            Step::Accepts => monitor.poll_accepts().map(|_| ()),
            Step::Poke { at, value } => {
                let index = *at as usize % (ARENA / 8);
                // SAFETY: inside the arena, aligned, and only ever reached
                // atomically where the monitor looks at it while we write.
                let word = unsafe { base.cast::<AtomicU64>().add(index).as_ref() };
                word.store(*value, Ordering::Relaxed);
                Ok(())
            }
        };
        if result.is_err() {
            break;
        }
    }
}

fn send(
    monitor: &mut Monitor,
    message_type: u8,
    id: u8,
    payload: &[u8],
) -> Result<(), arca_monitor::Violation> {
    let frame = Frame::build(message_type, id.into(), |buffer| {
        let len = payload.len().min(MAX_PAYLOAD);
        buffer[..len].copy_from_slice(&payload[..len]);
        len
    });
    let answer = monitor.dispatch_request(&frame)?;
    if let Dispatch::Reply(Reply::Listening { listener_id, .. }) = answer {
        assert_ne!(listener_id, 0);
        assert!(!cfg!(feature = "planted"), "planted: a listener was made");
    }
    Ok(())
}

fuzz_target!(|steps: Vec<Step>| run(&steps));

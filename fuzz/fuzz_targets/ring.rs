//! Both ends of a pipe over memory that is changed at will between operations,
//! and by a second thread during them: an error, or bytes inside the ring. The
//! address sanitizer watches the edges.

#![no_main]

use arbitrary::Arbitrary;
use arca_shared::arena::Arena;
use arca_shared::boot::PipePlace;
use arca_shared::pipe::{BidirectionalPipe, RingSize, Side};
use libfuzzer_sys::fuzz_target;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Arbitrary, Debug)]
enum Step {
    Write {
        side: bool,
        len: u8,
    },
    Read {
        side: bool,
        len: u8,
    },
    Room {
        side: bool,
        limit: u16,
        commit: u16,
    },
    Data {
        side: bool,
        limit: u16,
        consume: u16,
    },
    Wish {
        side: bool,
    },
    Close {
        side: bool,
        read: bool,
    },
    Look {
        side: bool,
    },
    /// The other side lies.
    Poke {
        word: u8,
        value: u64,
    },
}

/// The pipe's memory as words, for whoever lies about it.
struct Words(NonNull<AtomicU64>, usize);

// SAFETY: every access through it is atomic.
unsafe impl Sync for Words {}

impl Words {
    fn get(&self, index: usize) -> &AtomicU64 {
        // SAFETY: inside the memory, aligned, and alive while this is used.
        unsafe { self.0.add(index % self.1).as_ref() }
    }
}

fuzz_target!(|input: (u8, bool, Vec<Step>)| {
    let (size, concurrent, steps) = input;
    let size = RingSize::new(u64::from(size % 32 + 1) * 8).expect("a multiple of 8");
    let bytes = size.required_size() as usize;
    let layout = Layout::from_size_align(bytes, 8).expect("small");
    // SAFETY: the layout is not empty.
    let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).expect("memory");
    // SAFETY: valid until freed below, when both ends are gone.
    let arena = unsafe { Arena::new(base, bytes) };
    let words = Words(base.cast(), bytes / 8);
    let place = PipePlace {
        shm_offset: 0,
        ring_size: size.get(),
    };
    let mut a = BidirectionalPipe::join(&arena, place, Side::A).expect("fits");
    let mut b = BidirectionalPipe::join(&arena, place, Side::B).expect("fits");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if concurrent {
            let header = size.get() as usize / 8 + 3;
            let (words, done) = (&words, &done);
            scope.spawn(move || {
                let mut value = 0u64;
                while !done.load(Ordering::Relaxed) {
                    value = value
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    // Cursors near each other are the ones that are believed.
                    let near = value >> 33 & 0x1FF;
                    let index = [0, 1, header, header + 1][value as usize >> 60 & 3];
                    words.get(index).store(near, Ordering::Relaxed);
                }
            });
        }
        for step in &steps {
            let pick = |side: &bool| match side {
                true => 0,
                false => 1,
            };
            let pipes = [&mut a, &mut b];
            let [first, second] = pipes;
            let of = |side: &bool| {
                if pick(side) == 0 {
                    &mut *first
                } else {
                    &mut *second
                }
            };
            match step {
                Step::Write { side, len } => {
                    let _ = of(side).write(&[7; 255][..usize::from(*len)]);
                }
                Step::Read { side, len } => {
                    let mut buffer = [0; 255];
                    let result = of(side).read(&mut buffer[..usize::from(*len)]);
                    assert!(result.is_ok_and(|read| read <= usize::from(*len)) || result.is_err());
                }
                Step::Room {
                    side,
                    limit,
                    commit,
                } => {
                    let end = of(side).outgoing();
                    if let Ok(parts) = end.room_parts(usize::from(*limit)) {
                        assert!(parts.len() <= size.get() as usize);
                        let extra = usize::from(cfg!(feature = "planted") && *limit == 77);
                        // SAFETY: room that the ring gave out; the planted bug
                        // writes a byte behind it.
                        unsafe {
                            parts.first.0.write_bytes(1, parts.first.1);
                            parts
                                .second
                                .0
                                .write_bytes(2, parts.second.1 + extra * bytes);
                        }
                        end.commit(usize::from(*commit));
                    }
                }
                Step::Data {
                    side,
                    limit,
                    consume,
                } => {
                    let end = of(side).incoming();
                    if let Ok(parts) = end.data_parts(usize::from(*limit)) {
                        let mut sum = 0u8;
                        for (start, len) in [parts.first, parts.second] {
                            for byte in 0..len {
                                // SAFETY: data that the ring gave out.
                                sum ^= unsafe { start.add(byte).read_volatile() };
                            }
                        }
                        std::hint::black_box(sum);
                        end.consume(usize::from(*consume));
                    }
                }
                Step::Wish { side } => {
                    let pipe = of(side);
                    pipe.outgoing().want_room();
                    pipe.incoming().want_data();
                    pipe.outgoing().take_data_wanted();
                    pipe.incoming().take_room_wanted(8);
                }
                Step::Close { side, read } => match read {
                    true => of(side).close_read(),
                    false => of(side).close_write(),
                },
                Step::Look { side } => {
                    let pipe = of(side);
                    let _ = pipe.incoming().is_at_end();
                    pipe.is_closed();
                }
                Step::Poke { word: index, value } => {
                    words
                        .get(usize::from(*index))
                        .store(*value, Ordering::Relaxed);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    drop((a, b, arena));
    // SAFETY: allocated above with this layout.
    unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
});

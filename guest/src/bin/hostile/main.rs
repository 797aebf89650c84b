//! `hostile ATTACK MILLIS SEED [PORT]`: does what a guest must not do, for so many
//! milliseconds, to show that it hurts nobody but itself.
//!
//! | attack | what it does |
//! |---|---|
//! | scribble | writes over all of the arena: headers, cursors, ready sets, sleep flags, the control ring, freed regions |
//! | pipes | breaks the pipes of its own live connections to PORT, while other connections carry data that is checked |
//! | frames | sends requests with bogus ids and in any order, then frames that are cut |
//! | storm | rings, kicks, marks and parks as fast as it can |
//! | uart, log | floods the UART, or the log pipe with records of any shape |
//! | registers | writes to any place of the MMIO page |
//! | stub | writes over the process around it, where it runs in one |
//! | forge | returns from a signal that it made up, where it runs in a process |
//! | die | opens 100 connections to PORT and then crashes |
//! | hoard | takes connections to PORT, listeners and accepts until refused |
//!
//! Exits with 0 where the attack leaves the program alive, after saying how much
//! it did. The same seed does the same.

#![no_std]
#![no_main]

extern crate alloc;

mod control;
mod flood;
mod memory;
mod pipes;
mod stub;

use alloc::vec::Vec;
use arca_guest::net::{AsyncTcpStream, Ipv4Addr, SocketAddr, connect_async};
use arca_guest::process::{ExitCode, exit};
use arca_guest::time::{Duration, Instant};
use arca_guest::{args, block_on, eprintln, println};

arca_guest::entry!(main);

/// A generator: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    /// A number of the kind that breaks things: small, large, or anything.
    fn telling(&mut self, near: u64) -> u64 {
        match self.below(5) {
            0 => self.below(4),
            1 => near.wrapping_add(self.below(16)).wrapping_sub(8),
            2 => u64::MAX - self.below(16),
            3 => self.below(near.saturating_mul(2)),
            _ => self.next(),
        }
    }
}

struct Attack {
    random: Random,
    end: Instant,
    port: u16,
}

impl Attack {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    fn service(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

fn main() -> ExitCode {
    let mut args = args().skip(1);
    let name = args.next().unwrap_or("");
    let mut number = || args.next().and_then(|text| text.parse::<u64>().ok());
    let (Some(millis), Some(seed)) = (number(), number()) else {
        eprintln!("usage: hostile ATTACK MILLIS SEED [PORT]");
        exit(ExitCode(2));
    };
    let mut attack = Attack {
        random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        end: Instant::now() + Duration::from_millis(millis),
        port: number().and_then(|port| port.try_into().ok()).unwrap_or(0),
    };
    let done = match name {
        "scribble" => memory::scribble(&mut attack),
        "pipes" => return pipes::pipes(&mut attack),
        "frames" => control::frames(&mut attack),
        "storm" => flood::storm(&mut attack),
        "uart" => flood::uart(&mut attack),
        "log" => flood::log(&mut attack),
        "registers" => flood::registers(&mut attack),
        "stub" => stub::scribble(&mut attack),
        "forge" => stub::forge(&mut attack),
        "die" => control::die(&attack),
        "hoard" => control::hoard(&attack),
        _ => {
            eprintln!("there is no attack {name:?}");
            exit(ExitCode(2));
        }
    };
    println!("{name}: {done} times");
    ExitCode::SUCCESS
}

/// Opens connections, so that there is something to break, and frees some.
fn connections(attack: &Attack, count: usize) -> Vec<AsyncTcpStream> {
    let connect = async {
        let mut streams = Vec::new();
        for _ in 0..count {
            if let Ok(stream) = connect_async(attack.service()).await {
                streams.push(stream);
            }
        }
        streams
    };
    let mut streams = block_on(connect);
    streams.truncate(count / 2);
    streams
}

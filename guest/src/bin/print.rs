//! `print N`: prints N bytes to standard output and exits at once, with nothing
//! waiting for the output to be taken.
//!
//! Byte number i, counted from 0, is i mod 251: a prime, so that a piece lost or
//! doubled shows wherever it is.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use arca_guest::process::ExitCode;
use arca_guest::stdio::stdout;
use arca_guest::{args, eprintln};

arca_guest::entry!(main);

/// The pattern's period.
const PERIOD: usize = 251;

fn main() -> ExitCode {
    let Some(count) = args().nth(1).and_then(|count| count.parse::<usize>().ok()) else {
        eprintln!("usage: print N");
        return ExitCode(2);
    };
    // Whole periods, so that every piece starts where the pattern does.
    let piece: Vec<u8> = (0..256 * PERIOD).map(|i| (i % PERIOD) as u8).collect();
    let mut left = count;
    while left > 0 {
        let now = left.min(piece.len());
        if stdout().write_all(&piece[..now]).is_err() {
            eprintln!("error: standard output was closed {left} bytes early");
            return ExitCode::FAILURE;
        }
        left -= now;
    }
    ExitCode::SUCCESS
}

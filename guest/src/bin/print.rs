//! `print N`: prints N bytes to standard output, and says whether the host took
//! them. `print N exit` exits at once, with nothing waiting for the output to be
//! taken. `print N stderr` prints letters to standard error.
//!
//! Byte number i, counted from 0, is i mod 251: a prime, so that a piece lost or
//! doubled shows wherever it is.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use arca_guest::process::ExitCode;
use arca_guest::stdio::stdout;
use arca_guest::{args, eprint, eprintln};

arca_guest::entry!(main);

/// The pattern's period.
const PERIOD: usize = 251;

fn main() -> ExitCode {
    let Some(count) = args().nth(1).and_then(|count| count.parse::<usize>().ok()) else {
        eprintln!("usage: print N [exit | stderr]");
        return ExitCode(2);
    };
    let how = args().nth(2);
    if how == Some("stderr") {
        let line = "x".repeat(1000);
        for _ in 0..count / 1000 {
            eprint!("{line}");
        }
        eprint!("{}", &line[..count % 1000]);
        return ExitCode::SUCCESS;
    }
    // Whole periods, so that every piece starts where the pattern does.
    let piece: Vec<u8> = (0..256 * PERIOD).map(|i| (i % PERIOD) as u8).collect();
    let mut left = count;
    while left > 0 {
        let now = left.min(piece.len());
        if let Err(error) = stdout().write_all(&piece[..now]) {
            eprintln!("error: standard output failed {left} bytes early: {error}");
            return ExitCode::FAILURE;
        }
        left -= now;
    }
    if how != Some("exit")
        && let Err(error) = stdout().flush()
    {
        eprintln!("error: standard output failed: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

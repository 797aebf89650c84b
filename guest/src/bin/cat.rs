//! Copies standard input to standard output, byte for byte.

#![no_std]
#![no_main]

extern crate alloc;

use arca_guest::stdio::{Closed, stdin, stdout};

arca_guest::entry!(main);

fn main() -> Result<(), Closed> {
    let mut buffer = alloc::vec![0; 64 << 10];
    loop {
        match stdin().read(&mut buffer)? {
            0 => return stdout().flush(),
            count => stdout().write_all(&buffer[..count])?,
        }
    }
}

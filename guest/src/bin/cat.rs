//! `cat [N]`: copies standard input to standard output, byte for byte, to its end
//! or until N bytes are copied. It reads no more than it copies.

#![no_std]
#![no_main]

extern crate alloc;

use arca_guest::args;
use arca_guest::stdio::{Error, stdin, stdout};

arca_guest::entry!(main);

fn main() -> Result<(), Error> {
    let limit = args().nth(1).and_then(|limit| limit.parse().ok());
    let mut left = limit.unwrap_or(usize::MAX);
    let mut buffer = alloc::vec![0; 64 << 10];
    while left > 0 {
        let wanted = left.min(buffer.len());
        match stdin().read(&mut buffer[..wanted])? {
            0 => break,
            count => {
                stdout().write_all(&buffer[..count])?;
                left -= count;
            }
        }
    }
    stdout().flush()
}

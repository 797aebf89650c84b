//! What the program is given from outside: its arguments and some randomness.

use crate::boot;
use core::str;

/// The program's arguments, its name first.
///
/// Arguments that are not UTF-8 are skipped: the VMM refuses them.
#[must_use]
pub fn args() -> Args {
    let info = boot::info();
    let base = core::ptr::with_exposed_provenance::<u8>(info.args_base as usize);
    // SAFETY: the VMM has written `args_len` bytes there before the first
    // instruction, mapped read-only, and nothing changes them afterwards.
    let bytes = unsafe { core::slice::from_raw_parts(base, info.args_len as usize) };
    Args {
        rest: bytes,
        left: info.args_count,
    }
}

/// Iterator over the program's arguments; see [`args`].
#[derive(Clone, Debug)]
pub struct Args {
    rest: &'static [u8],
    left: u32,
}

impl Iterator for Args {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        while self.left > 0 {
            self.left -= 1;
            let end = self.rest.iter().position(|&byte| byte == 0)?;
            let (argument, rest) = self.rest.split_at(end);
            self.rest = &rest[1..];
            if let Ok(argument) = str::from_utf8(argument) {
                return Some(argument);
            }
        }
        None
    }
}

/// Random bytes from the host, new at every boot and the same at every call: the
/// seed of a generator.
#[must_use]
pub fn random_seed() -> [u8; 32] {
    boot::info().seed
}

#[cfg(test)]
mod tests {
    use super::Args;
    use alloc::vec::Vec;

    #[test]
    fn arguments_are_split_at_zeros() {
        let args = Args {
            rest: b"demo\0--size\0\0bad\xff\0end\0",
            left: 5,
        };
        assert_eq!(args.collect::<Vec<_>>(), ["demo", "--size", "", "end"]);
    }

    #[test]
    fn a_missing_zero_ends_the_arguments() {
        let args = Args {
            rest: b"demo\0cut",
            left: 2,
        };
        assert_eq!(args.collect::<Vec<_>>(), ["demo"]);
    }
}

//! What the processor computes of two operands: the result and the flags.

use crate::decode::Operation;

/// Ones where a value of that many bytes, 1 to 8, has its bits.
#[must_use]
pub const fn mask(width: usize) -> u64 {
    u64::MAX >> (64 - 8 * width)
}

/// The bits of the flags register that an operation sets: carry, parity, auxiliary
/// carry, zero, sign, overflow.
pub const STATUS: u64 = CARRY | PARITY | AUXILIARY | ZERO | SIGN | OVERFLOW;
const CARRY: u64 = 1;
const PARITY: u64 = 1 << 2;
const AUXILIARY: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/// What an operation gives of two values of `width` bytes: the result, and the flags
/// that it sets of [`STATUS`].
#[must_use]
pub fn compute(operation: Operation, first: u64, second: u64, width: usize) -> (u64, u64) {
    let mask = mask(width);
    let sign = mask ^ mask >> 1;
    let (first, second) = (first & mask, second & mask);
    let result = mask
        & match operation {
            Operation::Add => first.wrapping_add(second),
            Operation::Or => first | second,
            Operation::And | Operation::Test => first & second,
            Operation::Subtract | Operation::Compare => first.wrapping_sub(second),
            Operation::Xor => first ^ second,
        };
    // Carry, and the operands' signs where the result's must be this other one.
    let (carry, overflow) = match operation {
        Operation::Add => (result < first, (first ^ result) & (second ^ result)),
        Operation::Subtract | Operation::Compare => {
            (first < second, (first ^ second) & (first ^ result))
        }
        _ => (false, 0),
    };
    let arithmetic = matches!(
        operation,
        Operation::Add | Operation::Subtract | Operation::Compare
    );
    let auxiliary = arithmetic && (first ^ second ^ result) & 0x10 != 0;
    let flags = [
        (carry, CARRY),
        ((result as u8).count_ones().is_multiple_of(2), PARITY),
        (auxiliary, AUXILIARY),
        (result == 0, ZERO),
        (result & sign != 0, SIGN),
        (overflow & sign != 0, OVERFLOW),
    ];
    let set = flags.into_iter().filter(|(is, _)| *is);
    (result, set.fold(0, |all, (_, flag)| all | flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::asm;
    use proptest::prelude::*;

    /// The processor's own answer.
    macro_rules! native {
        ($name:literal, $size:tt, $first:expr, $second:expr) => {{
            let mut first: u64 = $first;
            let flags: u64;
            // SAFETY: the stack is left as it was.
            unsafe {
                asm!(
                    concat!($name, " {0:", $size, "}, {1:", $size, "}"),
                    "pushfq",
                    "pop {2}",
                    inout(reg) first,
                    in(reg) $second,
                    out(reg) flags,
                );
            }
            (first, flags)
        }};
    }

    macro_rules! by_width {
        ($name:literal, $width:expr, $first:expr, $second:expr) => {
            match $width {
                // A byte's operation, at the top of 16 bits: the same flags but for the
                // parity and the auxiliary carry, which the test leaves out.
                2 => native!($name, "x", $first, $second),
                4 => native!($name, "e", $first, $second),
                _ => native!($name, "r", $first, $second),
            }
        };
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0..64u32).prop_map(|shift| 1 << shift),
            (0..64u32).prop_map(|shift| (1u64 << shift).wrapping_sub(1)),
            Just(0),
        ]
    }

    #[test]
    fn flags_are_where_the_processor_has_them() {
        // CF, PF, AF, ZF, SF and OF, as its manual numbers them.
        let bits = [0, 2, 4, 6, 7, 11];
        assert_eq!(STATUS, bits.iter().fold(0, |all, bit| all | 1 << bit));
        assert_eq!(AUXILIARY, 1 << 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_processor_agrees(
            first in number(),
            second in number(),
            width in proptest::sample::select(std::vec![2usize, 4, 8]),
        ) {
            for (operation, (result, flags)) in [
                (Operation::Add, by_width!("add", width, first, second)),
                (Operation::Or, by_width!("or", width, first, second)),
                (Operation::And, by_width!("and", width, first, second)),
                (Operation::Subtract, by_width!("sub", width, first, second)),
                (Operation::Xor, by_width!("xor", width, first, second)),
            ] {
                // What the auxiliary carry is after a logical operation, nobody says.
                let known = match operation {
                    Operation::Add | Operation::Subtract => STATUS,
                    _ => STATUS & !AUXILIARY,
                };
                let (ours, set) = compute(operation, first, second, width);
                prop_assert_eq!(ours, result & mask(width), "{:?}", operation);
                prop_assert_eq!(set & known, flags & known, "{:?}", operation);
            }
            let (_, compared) = compute(Operation::Compare, first, second, width);
            let (_, subtracted) = compute(Operation::Subtract, first, second, width);
            prop_assert_eq!(compared, subtracted);
        }

        #[test]
        fn bytes_are_as_the_processor_has_them(first: u8, second: u8) {
            let (result, flags): (u8, u64);
            // SAFETY: the stack is left as it was.
            unsafe {
                asm!(
                    "sub {0}, {1}",
                    "pushfq",
                    "pop {2}",
                    inout(reg_byte) first => result,
                    in(reg_byte) second,
                    out(reg) flags,
                );
            }
            let ours = compute(Operation::Subtract, first.into(), second.into(), 1);
            prop_assert_eq!(ours, (result.into(), flags & STATUS));
        }
    }
}

//! Which access to memory an instruction is.
//!
//! The guest reaches the MMIO page by what compilers make of a volatile access: a
//! move, or a comparison or computation that reads its operand there. Which address
//! it was for, the processor says; the instruction says how wide it was, what was
//! written, or what becomes of what is read.

use crate::alu::mask;

/// An access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Length of the instruction, in bytes.
    pub len: usize,
    /// Bytes of memory that it accesses: 1, 2, 4 or 8.
    pub width: usize,
    /// What it does.
    pub effect: Effect,
}

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Writes it.
    Store(Operand),
    /// Reads it into a register.
    Load {
        /// The register.
        to: Operand,
        /// Bytes of the register that change.
        extend: usize,
        /// Whether those above the width are copies of the sign, or zeros.
        signed: bool,
    },
    /// Reads it and computes with it; the flags change.
    Compute {
        /// How.
        operation: Operation,
        /// With what.
        with: Operand,
        /// Whether memory is the first operand and `with` the second, or the other
        /// way round. The result of the latter goes where `with` is, unless it is a
        /// comparison.
        memory_first: bool,
    },
}

/// How two operands become flags, and for most a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Their sum.
    Add,
    /// Their common bits or either's.
    Or,
    /// Their common bits.
    And,
    /// Their difference.
    Subtract,
    /// The bits in which they differ.
    Xor,
    /// The flags of their difference.
    Compare,
    /// The flags of their common bits.
    Test,
}

/// What an instruction has besides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The low bytes of the register of that number: 0 is rax, 15 r15, as the
    /// processor counts them.
    Register(u8),
    /// Bits 8 to 15 of that register: ah, ch, dh or bh.
    High(u8),
    /// The value itself.
    Immediate(u64),
}

/// Most bytes of an instruction.
pub const MAX_LEN: usize = 15;

/// The instruction's bytes, one after the other.
struct Reader<'a> {
    code: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.code.get(self.at).copied();
        self.at += 1;
        byte
    }

    /// A constant of that many bytes, of which there are four at most; the sign of
    /// those goes on.
    fn immediate(&mut self, width: usize) -> Option<Operand> {
        let mut value = 0;
        for index in 0..width.min(4) {
            value |= u64::from(self.next()?) << (8 * index);
        }
        Some(Operand::Immediate(match width {
            8 => i64::from(value as u32 as i32) as u64,
            _ => value,
        }))
    }
}

/// Decodes the instruction at the start of `code`; `None` if it is none of those that
/// read or write memory once and plainly, or cut off.
#[must_use]
pub fn decode(code: &[u8]) -> Option<Access> {
    let code = &code[..code.len().min(MAX_LEN)];
    let mut reader = Reader { code, at: 0 };
    let mut half = false;
    let mut short_address = false;
    let mut byte = reader.next()?;
    loop {
        match byte {
            0x66 => half = true,
            0x67 => short_address = true,
            // Segments, which change nothing that the processor has not said.
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
            _ => break,
        }
        byte = reader.next()?;
    }
    let rex = if byte & 0xf0 == 0x40 {
        let rex = byte;
        byte = reader.next()?;
        Some(rex)
    } else {
        None
    };
    let wide = rex.is_some_and(|rex| rex & 8 != 0);
    let word = match (wide, half) {
        (true, _) => 8,
        (false, true) => 2,
        (false, false) => 4,
    };
    // The lowest bit of most opcodes.
    let width = if byte & 1 == 0 { 1 } else { word };
    // By the number of its field in the ModRM byte.
    let register = |modrm: u8, width: usize| {
        let low = modrm >> 3 & 7;
        match rex {
            None if width == 1 && low >= 4 => Operand::High(low - 4),
            _ => Operand::Register(low | rex.map_or(0, |rex| (rex & 4) << 1)),
        }
    };
    let load = |to, extend: usize, signed| Effect::Load {
        to,
        // What is written of a register is at least half of it.
        extend: if extend == 4 { 8 } else { extend },
        signed,
    };

    let (width, effect) = match byte {
        0x88 | 0x89 => {
            let modrm = skip_address(&mut reader)?;
            (width, Effect::Store(register(modrm, width)))
        }
        0x8a | 0x8b => {
            let modrm = skip_address(&mut reader)?;
            (width, load(register(modrm, width), width, false))
        }
        0x0f => {
            let (width, signed) = match reader.next()? {
                0xb6 => (1, false),
                0xb7 => (2, false),
                0xbe => (1, true),
                0xbf => (2, true),
                _ => return None,
            };
            let modrm = skip_address(&mut reader)?;
            // The register is a whole one here.
            (width, load(register(modrm, word), word, signed))
        }
        0xa0..=0xa3 => {
            for _ in 0..if short_address { 4 } else { 8 } {
                reader.next()?;
            }
            let rax = Operand::Register(0);
            let effect = match byte {
                0xa0 | 0xa1 => load(rax, width, false),
                _ => Effect::Store(rax),
            };
            (width, effect)
        }
        0xc6 | 0xc7 => {
            let modrm = skip_address(&mut reader)?;
            if modrm >> 3 & 7 != 0 {
                return None;
            }
            (width, Effect::Store(reader.immediate(width)?))
        }
        0x00..=0x3f => {
            let operation = operation(byte >> 3)?;
            let memory_first = match byte & 7 {
                // Only a comparison leaves memory as it is.
                0 | 1 if operation == Operation::Compare => true,
                2 | 3 => false,
                _ => return None,
            };
            let modrm = skip_address(&mut reader)?;
            let with = register(modrm, width);
            let effect = Effect::Compute {
                operation,
                with,
                memory_first,
            };
            (width, effect)
        }
        0x80 | 0x81 | 0x83 => {
            let modrm = skip_address(&mut reader)?;
            if operation(modrm >> 3 & 7) != Some(Operation::Compare) {
                return None;
            }
            let with = if byte == 0x83 {
                let byte = reader.next()?;
                Operand::Immediate(byte as i8 as u64 & mask(width))
            } else {
                reader.immediate(width)?
            };
            (width, against_memory(Operation::Compare, with))
        }
        0x84 | 0x85 => {
            let modrm = skip_address(&mut reader)?;
            (
                width,
                against_memory(Operation::Test, register(modrm, width)),
            )
        }
        0xf6 | 0xf7 => {
            let modrm = skip_address(&mut reader)?;
            if modrm >> 3 & 7 > 1 {
                return None;
            }
            (
                width,
                against_memory(Operation::Test, reader.immediate(width)?),
            )
        }
        _ => return None,
    };
    Some(Access {
        len: reader.at,
        width,
        effect,
    })
}

/// The operation of that number in opcodes and ModRM bytes; `None` for those that
/// need the carry.
fn operation(number: u8) -> Option<Operation> {
    match number {
        0 => Some(Operation::Add),
        1 => Some(Operation::Or),
        4 => Some(Operation::And),
        5 => Some(Operation::Subtract),
        6 => Some(Operation::Xor),
        7 => Some(Operation::Compare),
        _ => None,
    }
}

fn against_memory(operation: Operation, with: Operand) -> Effect {
    Effect::Compute {
        operation,
        with,
        memory_first: true,
    }
}

/// Passes over the ModRM byte, which it gives, and what belongs to the address after
/// it; `None` if that is a register.
fn skip_address(reader: &mut Reader<'_>) -> Option<u8> {
    let modrm = reader.next()?;
    let (mode, base) = (modrm >> 6, modrm & 7);
    let mut displacement = match mode {
        0 if base == 5 => 4,
        0 => 0,
        1 => 1,
        2 => 4,
        _ => return None,
    };
    if base == 4 {
        let sib = reader.next()?;
        if mode == 0 && sib & 7 == 5 {
            displacement = 4;
        }
    }
    for _ in 0..displacement {
        reader.next()?;
    }
    Some(modrm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};
    use proptest::prelude::*;

    #[track_caller]
    fn store(code: &[u8]) -> (usize, Operand) {
        let decoded = decode(code).expect("an access");
        assert_eq!(decoded.len, code.len());
        match decoded.effect {
            Effect::Store(operand) => (decoded.width, operand),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stores_are_known() {
        use Operand::*;
        // mov [rax], rcx; mov [rax + 8], r9; mov [r12 + 8], cl; mov [rax], ch
        assert_eq!(store(&[0x48, 0x89, 0x08]), (8, Register(1)));
        assert_eq!(store(&[0x4c, 0x89, 0x48, 0x08]), (8, Register(9)));
        assert_eq!(store(&[0x41, 0x88, 0x4c, 0x24, 0x08]), (1, Register(1)));
        assert_eq!(store(&[0x88, 0x28]), (1, High(1)));
        assert_eq!(store(&[0x40, 0x88, 0x28]), (1, Register(5)));
        // movabs [address], rax; mov qword [rax + 24], -2; mov word [rip + 0], 0x1234
        let absolute = [0x48, 0xa3, 0, 0, 0, 0xd0, 0, 0, 0, 0];
        assert_eq!(store(&absolute), (8, Register(0)));
        let constant = [0x48, 0xc7, 0x40, 0x18, 0xfe, 0xff, 0xff, 0xff];
        assert_eq!(store(&constant), (8, Immediate(-2i64 as u64)));
        let short = [0x66, 0xc7, 0x05, 0, 0, 0, 0, 0x34, 0x12];
        assert_eq!(store(&short), (2, Immediate(0x1234)));
    }

    #[test]
    fn what_is_no_plain_access_is_not_decoded() {
        for code in [
            &[][..],
            &[0x48],
            &[0x48, 0x89],
            &[0x48, 0x89, 0xc8],       // between registers
            &[0x48, 0xc7, 0x48, 0, 0], // no move
            &[0x0f, 0x11, 0x00],       // movups
            &[0x48, 0x01, 0x08],       // add to memory
            &[0x48, 0x13, 0x08],       // adc
            &[0xf0, 0x48, 0x89, 0x08], // lock
            &[0x48, 0xa3, 0, 0, 0, 0xd0, 0, 0, 0],
        ] {
            assert_eq!(decode(code), None, "{code:x?}");
        }
    }

    fn number(register: Register) -> Operand {
        match register {
            Register::AH => Operand::High(0),
            Register::CH => Operand::High(1),
            Register::DH => Operand::High(2),
            Register::BH => Operand::High(3),
            other => Operand::Register(other.full_register().number() as u8),
        }
    }

    fn operand(instruction: &Instruction, index: u32, width: usize) -> Operand {
        match instruction.op_kind(index) {
            OpKind::Register => number(instruction.op_register(index)),
            _ => Operand::Immediate(instruction.immediate(index) & mask(width)),
        }
    }

    /// What a decoder of all instructions makes of it.
    fn expected(instruction: &Instruction) -> Option<Access> {
        use iced_x86::Mnemonic;
        let width = instruction.memory_size().size();
        let memory = |index| instruction.op_kind(index) == OpKind::Memory;
        let vector_or_segment = |index: u32| {
            let register = instruction.op_register(index);
            instruction.op_kind(index) == OpKind::Register && !register.is_gpr()
        };
        if instruction.op_count() != 2 || vector_or_segment(0) || vector_or_segment(1) {
            return None;
        }
        if instruction.has_lock_prefix() {
            return None;
        }
        let operation = match instruction.mnemonic() {
            Mnemonic::Add => Some(Operation::Add),
            Mnemonic::Or => Some(Operation::Or),
            Mnemonic::And => Some(Operation::And),
            Mnemonic::Sub => Some(Operation::Subtract),
            Mnemonic::Xor => Some(Operation::Xor),
            Mnemonic::Cmp => Some(Operation::Compare),
            Mnemonic::Test => Some(Operation::Test),
            _ => None,
        };
        let effect = match (instruction.mnemonic(), operation) {
            (Mnemonic::Mov, _) if memory(0) => Effect::Store(operand(instruction, 1, width)),
            (Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx, _) if memory(1) => {
                let to = instruction.op0_register();
                Effect::Load {
                    to: number(to),
                    extend: match to.size() {
                        4 => 8,
                        size => size,
                    },
                    signed: instruction.mnemonic() == Mnemonic::Movsx,
                }
            }
            (_, Some(operation @ (Operation::Compare | Operation::Test))) if memory(0) => {
                Effect::Compute {
                    operation,
                    with: operand(instruction, 1, width),
                    memory_first: true,
                }
            }
            (_, Some(operation)) if memory(1) => Effect::Compute {
                operation,
                with: operand(instruction, 0, width),
                memory_first: false,
            },
            _ => return None,
        };
        Some(Access {
            len: instruction.len(),
            width,
            effect,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// Whatever is decoded is what the instruction does.
        #[test]
        fn another_decoder_agrees(
            prefixes in proptest::collection::vec(
                proptest::sample::select(std::vec![0x66u8, 0x67, 0x2e, 0x3e, 0x64, 0xf0, 0xf2, 0xf3]), 0..3),
            rex in proptest::option::of(0x40u8..0x50),
            map in proptest::option::of(proptest::strategy::Just(0x0fu8)),
            // A REX prefix before another prefix means nothing, and no compiler has it.
            opcode in any::<u8>().prop_filter("a prefix", |byte| {
                !matches!(byte, 0x40..=0x4f | 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
            }),
            rest: [u8; 12],
        ) {
            let mut code = prefixes;
            code.extend(rex);
            code.extend(map);
            code.push(opcode);
            code.extend(rest);
            let instruction = Decoder::with_ip(64, &code, 0x20_0000, DecoderOptions::NONE).decode();
            let decoded = decode(&code);
            if let Some(decoded) = decoded {
                prop_assert_eq!(Some(decoded), expected(&instruction), "{:x?}", code);
            } else if !code.iter().take(3).any(|byte| matches!(byte, 0xf2 | 0xf3)) {
                // A repeat prefix means nothing here, and no compiler writes one.
                prop_assert_eq!(None, expected(&instruction), "{:x?}", code);
            }
        }
    }
}

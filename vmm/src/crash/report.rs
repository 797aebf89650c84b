//! Making the report from what a vCPU left behind.

use crate::crash::CrashState;
use crate::crash::exception::{self, PAGE_FAULT};
use crate::crash::symbols::Symbols;
use crate::crash::{Cause, CrashReport, Frame, Place, Registers, backtrace, page_fault_summary};
use crate::memory::GuestMemory;
use crate::memory::image::CheckedImage;
use crate::memory::map::AddressMap;
use arca_shared::protocol::register::Register;

/// Bytes of code that are shown.
const CODE_LEN: u64 = 16;

/// Makes the report. All vCPUs have stopped.
pub fn report(
    state: CrashState,
    image: &CheckedImage,
    map: &AddressMap,
    memory: &GuestMemory,
) -> CrashReport {
    let CrashState {
        vcpu,
        cause,
        registers,
    } = state;
    let bytes = image.bytes();
    let symbols = Symbols::new(bytes.as_deref().unwrap_or(&[]));
    let at = match cause {
        Cause::Panic | Cause::BadAccess { .. } | Cause::NoSuchVcpu(_) | Cause::SystemCall => {
            At::Next
        }
        _ => At::Instruction,
    };
    let fault_address = match cause {
        Cause::Exception { address, .. } => address,
        _ => None,
    };
    let mut backtrace = frames(&symbols, map, memory, &registers, at);
    let mut code = code(registers.rip, map, memory);
    if cause == Cause::Panic {
        leave_out_panicking(&mut backtrace);
        // It is that of the panic handler.
        code.clear();
    }
    CrashReport {
        vcpu,
        address_is: fault_address.map(|address| map.describe(address)),
        summary: summary(&cause, map),
        code,
        backtrace,
        registers,
        cause,
    }
}

/// What an instruction pointer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The instruction: an exception leaves it there.
    Instruction,
    /// The one after it: a write to a register of the MMIO page leaves it there.
    Next,
}

/// How the program got to where it is, innermost first. The first frame is where it
/// is.
pub fn frames(
    symbols: &Symbols<'_>,
    map: &AddressMap,
    memory: &GuestMemory,
    registers: &Registers,
    at: At,
) -> Vec<Frame> {
    let address = match at {
        At::Instruction => registers.rip,
        At::Next => registers.rip.wrapping_sub(1),
    };
    let here = Frame {
        address: registers.rip,
        places: symbols.find(address),
        times: 1,
        left_out: 0,
    };
    let callers = backtrace::condense(&backtrace::walk(memory, map, registers))
        .into_iter()
        .map(|run| Frame {
            address: run.address,
            // What a return address follows is the call.
            places: symbols.find(run.address.wrapping_sub(1)),
            times: run.times,
            left_out: run.left_out,
        });
    std::iter::once(here).chain(callers).collect()
}

/// Leaves out how a panic is told: the handler, and the standard library's functions
/// that lead to it. The first frame is then the program's call that panicked.
fn leave_out_panicking(backtrace: &mut Vec<Frame>) {
    let of_library = |place: &Place| {
        let line = place.line.as_ref();
        line.is_some_and(|(file, _)| file.starts_with("library/"))
    };
    let told = |frame: &Frame| {
        let outer = frame.places.last();
        let handler = outer.is_some_and(|place| {
            let name = &place.function;
            name.starts_with("__rustc::") || name.starts_with("core::panicking::")
        });
        handler || (outer.is_some() && frame.places.iter().all(of_library))
    };
    // Without one of the program's own, all of it is better than nothing.
    if let Some(first) = backtrace.iter().position(|frame| !told(frame)) {
        backtrace.drain(..first);
    }
    // The library's functions that are inlined into it, as a vector's, too.
    if let Some(Frame { places, .. }) = backtrace.first_mut()
        && let Some(first) = places.iter().position(|place| !of_library(place))
    {
        places.drain(..first);
    }
}

fn code(rip: u64, map: &AddressMap, memory: &GuestMemory) -> Vec<u8> {
    let Some((physical, left)) = map.translate(rip) else {
        return Vec::new();
    };
    let mut code = vec![0; left.min(CODE_LEN) as usize];
    if memory.read(physical, &mut code) {
        code
    } else {
        Vec::new()
    }
}

fn summary(cause: &Cause, map: &AddressMap) -> String {
    match cause {
        Cause::Exception {
            vector: PAGE_FAULT,
            error_code,
            address: Some(address),
        } => page_fault_summary(
            exception::attempt(error_code.unwrap_or(0)),
            *address,
            map.find(*address).map(|region| region.kind),
        ),
        Cause::Exception { vector, .. } => exception::name(*vector).0.into(),
        Cause::Panic => "panic".into(),
        Cause::BadAccess { address, written } => {
            let register = Register::containing(*address).map_or("no register", Register::name);
            match written {
                None => format!(
                    "read of MMIO address {address:#x} ({register}), which has nothing to read"
                ),
                Some(bytes) => format!(
                    "write of {} bytes ({bytes:02x?}) to MMIO address {address:#x} ({register}), which does not take it",
                    bytes.len()
                ),
            }
        }
        Cause::SystemCall => "a system call, which nobody answers".into(),
        Cause::NoSuchVcpu(index) => format!("kick of vCPU {index}, which does not exist"),
        Cause::Shutdown => "an exception that could not be delivered (triple fault)".into(),
        Cause::Emulation => {
            "an instruction on memory that it cannot be emulated on (is it an MMIO address?)".into()
        }
        Cause::EntryRefused(reason) => {
            format!("the processor refused to enter the guest (reason {reason:#x})")
        }
        Cause::Unexpected(exit) => format!("unexpected exit from the guest: {exit}"),
    }
}

//! The stub: a process that carries a guest where there is no KVM.
//!
//! Guest code runs natively, a thread for each vCPU, in a process that has given up
//! all but six system calls. A store to the MMIO page faults, since nothing is
//! mapped there; the stub's signal handler decodes it and does what the register is
//! for, or hands it to the VMM. An exception is a signal whose frame holds what the
//! processor said.
//!
//! The guest shares the process with the stub, so it can write all of the stub's
//! memory and jump to any of its instructions. Nothing of what the stub does protects
//! the host: that the kernel does, by the filter ([`filter`]) and by what is not
//! mapped. The VMM believes nothing that it reads in the [`area`].
//!
//! The program (`main.rs`) consists of these modules and of those that only it has;
//! the VMM has this library for what the two share.
//!
//! | module | holds |
//! |---|---|
//! | [`area`] | the memory that VMM and stub share, besides the guest's |
//! | [`park`] | the word on which a vCPU sleeps |
//! | [`decode`] | which access to memory an instruction is |
//! | [`alu`] | what the processor computes of two operands |
//! | [`filter`] | the system calls that are left, as a seccomp program |
//! | [`layout`] | where the stub is in its address space |

#![no_std]

#[cfg(test)]
extern crate std;

pub mod alu;
pub mod area;
pub mod decode;
pub mod filter;
pub mod layout;
pub mod park;

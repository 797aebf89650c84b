//! What is in guest memory before the first instruction.
//!
//! | file | holds |
//! |---|---|
//! | `file.rs` | memory that another process has too |
//! | `guest.rs` | [`GuestMemory`]: low memory and the arena |
//! | `image.rs` | the image: opened, checked, loaded |
//! | `elf.rs` | what its headers say, and whether that can be loaded |
//! | `map.rs` | the address space: which range of addresses is what |
//! | `paging.rs` | page tables, made from the address space |
//! | `tables.rs` | GDT, TSSs, IDT and exception stubs |
//! | `boot.rs` | boot information and arguments |

pub mod boot;
pub mod elf;
pub mod file;
mod guest;
pub mod image;
pub mod map;
pub mod paging;
pub mod tables;

pub use guest::GuestMemory;

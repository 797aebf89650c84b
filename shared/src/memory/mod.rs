//! The memory that both sides share.
//!
//! | file | holds |
//! |---|---|
//! | `arena.rs` | [`Arena`]: the shared region, and [`ShmOffset`]s into it |
//! | `buddy.rs` | [`BuddyAllocator`]: carves the arena up |

mod arena;
mod buddy;

pub use arena::{Arena, ArenaError, ShmOffset};
pub use buddy::{BuddyAllocator, MIN_BLOCK};

//! A data pipe: two rings in one region of the arena.
//!
//! ```text
//! shm_offset                                          + required_size
//! ├─ header A ─┬─ data A ───────┬─ header B ─┬─ data B ───────┤
//! │  24 bytes  │  ring_size     │  24 bytes  │  ring_size     │
//! └────────────┴────────────────┴────────────┴────────────────┘
//!   ring A: Arca → Linux          ring B: Linux → Arca
//! ```
//!
//! Arca is side A, the monitor side B. DATAPIPE.md is the specification.
//!
//! The pipe itself never waits. [`Read`] and [`Write`] are what waiting is made of;
//! [`SyncStream`] and [`AsyncStream`] are the draft's streams, over a pipe and
//! nothing else.
//!
//! | file | holds |
//! |---|---|
//! | `geometry.rs` | [`PipePlace`] and [`RingSize`]: where a pipe is, and how large |
//! | `region.rs` | [`PipeRegion`]: the memory of one pipe, owned |
//! | `bidirectional.rs` | [`BidirectionalPipe`]: one side of a pipe |
//! | `io.rs` | [`Read`] and [`Write`]: what waiting is made of |
//! | `stream.rs` | [`SyncStream`] and [`AsyncStream`]: the draft's streams |

mod bidirectional;
mod geometry;
mod io;
mod region;
mod stream;

pub use bidirectional::{BidirectionalPipe, Side};
pub use geometry::{PipeError, PipePlace, RingSize};
pub use io::{Incomplete, Read, Write};
pub use region::PipeRegion;
pub use stream::{AsyncStream, SyncStream};

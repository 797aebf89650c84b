//! What the monitor counts.
//!
//! The monitor's thread counts in plain integers and publishes them once a
//! turn; anyone may take a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Numbers of a session, as of the monitor's last turn.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct MonitorStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl MonitorStats {
            /// Every number with its name, in the order of this list.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        /// [`MonitorStats`] as other threads read them.
        #[derive(Debug, Default)]
        pub(crate) struct SharedStats {
            $($name: AtomicU64,)*
        }

        impl SharedStats {
            // Relaxed throughout: numbers to report, which order nothing.

            pub(crate) fn publish(&self, stats: &MonitorStats) {
                $(self.$name.store(stats.$name, Ordering::Relaxed);)*
            }

            pub(crate) fn snapshot(&self) -> MonitorStats {
                MonitorStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Bytes that went from rings to sockets.
    bytes_to_tcp,
    /// Bytes that went from sockets to rings.
    bytes_from_tcp,
    /// Requests taken from the control pipe.
    frames_in,
    /// Replies put into it.
    frames_out,
    /// Connections opened by the guest.
    connections_out,
    /// Connections accepted for the guest.
    connections_in,
    /// Connects that failed, for whatever reason.
    refused,
    /// Connections that ended with an error, or with a reset by either side.
    reset,
    /// Connections that were given up because their peer took nothing, for the
    /// orphan timeout, of what Arca had written before it closed both ends.
    given_up,
    /// Bytes of those that nobody got.
    undelivered,
    /// Connections there are now, those included that wait for the guest to
    /// close its end.
    connections,
    /// Listeners there are now.
    listeners,
    /// Data pipes allocated now.
    pipes_allocated,
    /// Doorbells that woke the monitor.
    doorbells,
    /// Turns of the event loop in which the monitor slept.
    epoll_turns,
    /// Times that a socket had to wait because its ring to the guest was full.
    ring_full,
    /// Times that a ring from the guest was found empty.
    ring_empty,
    /// Bytes of rings that were filled in before the guest came to them.
    prefaulted,
    /// Wakes sent to vCPUs.
    wakes_sent,
    /// Wakes saved because no vCPU slept.
    wakes_suppressed,
    /// Bytes of the arena allocated now.
    arena_used,
    /// The most that ever were.
    arena_peak,
    /// Doorbells that the guest says it rang.
    guest_doorbells,
    /// Doorbells that the guest says it saved because the monitor was awake.
    guest_suppressed,
    /// Parks that the guest counted.
    guest_parks,
}

impl MonitorStats {
    /// Whether bytes or frames were moved, or a connection came or went, since
    /// `earlier`.
    pub(crate) fn moved_since(&self, earlier: &Self) -> bool {
        let moved = |s: &Self| {
            let bytes = (s.bytes_to_tcp, s.bytes_from_tcp);
            let frames = (s.frames_in, s.frames_out);
            (bytes, frames, s.connections, s.reset)
        };
        moved(self) != moved(earlier)
    }
}

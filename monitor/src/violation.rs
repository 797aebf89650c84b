//! The rules whose breach ends a session.

use arca_shared::protocol::frame::FrameError;
use arca_shared::protocol::message::MessageError;
use arca_shared::ring::InvalidCursor;

/// The rule that the guest broke, in one line. Its session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The control ring does not hold frames.
    #[error("the guest broke the framing of the control pipe: {0}")]
    Frame(#[from] FrameError),
    /// A frame does not hold a request.
    #[error("the guest sent a malformed request: {0}")]
    Message(#[from] MessageError),
    /// The reply ring's read cursor cannot be true.
    #[error("the guest broke the reply ring of the control pipe: {0}")]
    Replies(#[from] InvalidCursor),
    /// More replies were due than the reply ring holds: requests were
    /// dispatched without taking the replies.
    #[error("the guest left no room in the reply ring of the control pipe")]
    NoRoom,
}

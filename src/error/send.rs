//! What goes wrong with a frame that is to be sent.

use std::{error, fmt, io};

use super::framing::EncodeError;

/// Why a frame was not queued. Nothing of it was: the stream is as it was before the call.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The id names no open connection: it is gone, or on its way out.
    Disconnected,
    /// The connection is not established yet: wait for [`on_connect`](crate::Handler::on_connect).
    Connecting,
    /// The payload cannot be a frame of the connection's framing.
    Encode(EncodeError),
    /// The closure given to [`send_with`](crate::Net::send_with) failed.
    Writer(io::Error),
    /// A frame was begun with [`begin_frame`](crate::Net::begin_frame) and is not complete.
    FrameOpen {
        /// How many bytes of its payload are missing.
        missing: u64,
    },
    /// There is no frame to append to or to finish: [`begin_frame`](crate::Net::begin_frame) comes first.
    NoFrameOpen,
    /// A piece is longer than what is left of the frame that is open.
    ChunkTooLong {
        /// The length of the piece, in bytes.
        len: usize,
        /// How many bytes of the frame are missing.
        left: u64,
    },
    /// As much waits to be written as may. [`on_drain`](crate::Handler::on_drain) tells when to try again, unless
    /// [`overflow`](crate::Config::overflow) says that this ends the connection.
    QueueFull {
        /// How much waits, in bytes.
        queued: u64,
        /// The limit, [`max_queued_bytes`](crate::Config::max_queued_bytes).
        max: u64,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("not sent: the connection is gone or closing"),
            Self::Connecting => f.write_str("not sent: the connection is not established yet"),
            Self::Encode(error) => write!(f, "not sent: {error}"),
            Self::Writer(error) => write!(f, "not sent: the encoding closure failed: {error}"),
            Self::FrameOpen { missing } => write!(
                f,
                "a frame is open: {missing} bytes of its payload are missing"
            ),
            Self::NoFrameOpen => f.write_str("no frame is open: begin_frame comes first"),
            Self::ChunkTooLong { len, left } => write!(
                f,
                "not sent: a piece of {len} bytes, where {left} are left of the frame"
            ),
            Self::QueueFull { queued, max } => write!(
                f,
                "not sent: {queued} bytes wait for the peer already, where the limit is {max}"
            ),
        }
    }
}

impl error::Error for SendError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Writer(error) => Some(error),
            _ => None,
        }
    }
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match &error {
            SendError::Disconnected | SendError::Connecting => io::ErrorKind::NotConnected,
            SendError::Encode(EncodeError::OutOfMemory { .. }) => io::ErrorKind::OutOfMemory,
            SendError::Encode(_)
            | SendError::FrameOpen { .. }
            | SendError::NoFrameOpen
            | SendError::ChunkTooLong { .. } => io::ErrorKind::InvalidInput,
            SendError::Writer(error) => error.kind(),
            SendError::QueueFull { .. } => io::ErrorKind::WouldBlock,
        };
        Self::new(kind, error)
    }
}

/// What was refused, with the payload that was given.
///
/// Returned where the call took ownership, so that nothing is lost by the refusal.
pub struct Rejected<T, E = SendError> {
    /// Why it was refused.
    pub error: E,
    /// What was to be sent.
    pub payload: T,
}

impl<T, E: fmt::Debug> fmt::Debug for Rejected<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> fmt::Display for Rejected<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T, E: error::Error> error::Error for Rejected<T, E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<Rejected<T>> for SendError {
    fn from(rejected: Rejected<T>) -> Self {
        rejected.error
    }
}

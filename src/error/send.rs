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
    /// A write has failed: the peer takes nothing any more. What it sent before is still delivered; then
    /// [`on_disconnect`](crate::Handler::on_disconnect) reports why.
    WriteFailed,
    /// This side was [half-closed](crate::Net::half_close): nothing more is sent.
    HalfClosed,
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
            Self::WriteFailed => f.write_str("not sent: an earlier write to the peer failed"),
            Self::HalfClosed => f.write_str("not sent: this side was half-closed"),
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
            SendError::WriteFailed | SendError::HalfClosed => io::ErrorKind::BrokenPipe,
            SendError::Encode(error) => error.kind(),
            SendError::FrameOpen { .. }
            | SendError::NoFrameOpen
            | SendError::ChunkTooLong { .. } => io::ErrorKind::InvalidInput,
            SendError::Writer(error) => error.kind(),
            SendError::QueueFull { .. } => io::ErrorKind::WouldBlock,
        };
        Self::new(kind, error)
    }
}

/// Why something was refused, together with what was given: a payload, a closure, a socket.
///
/// Returned where the call took ownership, so that nothing is lost by the refusal.
///
/// ```
/// # use throng::{Config, ConnectOptions, EventLoop};
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let mut event_loop: EventLoop = EventLoop::new(Config::default().max_connections(0))?;
/// match event_loop.net().adopt(stream, ConnectOptions::default()) {
///     Ok(_) => unreachable!("there is no room"),
///     Err(rejected) => println!("{}: {:?} is still open", rejected.error, rejected.value),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Rejected<T, E = SendError> {
    /// Why it was refused.
    pub error: E,
    /// What was given.
    pub value: T,
}

impl<T, E> Rejected<T, E> {
    pub(crate) fn new(error: E, value: T) -> Self {
        Self { error, value }
    }

    /// The same refusal, in the words of another operation.
    pub(crate) fn map<D>(self, error: impl FnOnce(E) -> D) -> Rejected<T, D> {
        Rejected::new(error(self.error), self.value)
    }
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

/// What was given is dropped.
impl<T, E> From<Rejected<T, E>> for io::Error
where
    io::Error: From<E>,
{
    fn from(rejected: Rejected<T, E>) -> Self {
        rejected.error.into()
    }
}

impl<T> From<Rejected<T>> for SendError {
    fn from(rejected: Rejected<T>) -> Self {
        rejected.error
    }
}

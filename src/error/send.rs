//! Errors of sending a frame.

use std::{error, fmt, io};

use super::framing::EncodeError;

/// Why a frame was not queued, or a connection was not [half-closed](crate::Net::half_close) or
/// [released](crate::Net::release). The connection is unchanged: no part of the frame was queued.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The id does not refer to an open connection: it is closed or closing.
    Disconnected,
    /// The connection is not established yet: wait for [`on_connect`](crate::Handler::on_connect).
    Connecting,
    /// An earlier write failed: the peer no longer accepts data. Data that the peer sent before is still delivered;
    /// then [`on_disconnect`](crate::Handler::on_disconnect) reports the cause.
    WriteFailed,
    /// This side was [half-closed](crate::Net::half_close): nothing more is sent.
    HalfClosed,
    /// The payload cannot be encoded in the connection's framing.
    Encode(EncodeError),
    /// The closure passed to [`send_with`](crate::Net::send_with) failed.
    Writer(io::Error),
    /// The connection has TLS and cannot be [released](crate::Net::release): its stream is of no use without the session.
    #[cfg(feature = "tls")]
    Secured,
    /// A frame was begun with [`begin_frame`](crate::Net::begin_frame) and is not complete.
    FrameOpen {
        /// The number of payload bytes that are missing.
        missing: u64,
    },
    /// No frame is open to append to or to finish: call [`begin_frame`](crate::Net::begin_frame) first.
    NoFrameOpen,
    /// A chunk is longer than the rest of the open frame.
    ChunkTooLong {
        /// The length of the chunk, in bytes.
        len: usize,
        /// The number of bytes missing from the frame.
        left: u64,
    },
    /// The queue is full. [`on_drain`](crate::Handler::on_drain) is called when there is room again, unless
    /// [`overflow`](crate::Config::overflow) closes the connection.
    QueueFull {
        /// The number of queued bytes.
        queued: u64,
        /// The limit, [`max_queued_bytes`](crate::Config::max_queued_bytes).
        max: u64,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the connection is closed or closing"),
            Self::Connecting => f.write_str("the connection is not established yet"),
            Self::WriteFailed => f.write_str("an earlier write to the peer failed"),
            Self::HalfClosed => f.write_str("this side was half-closed"),
            Self::Encode(error) => write!(f, "not sent: {error}"),
            Self::Writer(error) => write!(f, "not sent: the encoding closure failed: {error}"),
            #[cfg(feature = "tls")]
            Self::Secured => f.write_str("a connection with TLS cannot be released"),
            Self::FrameOpen { missing } => write!(
                f,
                "a frame is open: {missing} bytes of its payload are missing"
            ),
            Self::NoFrameOpen => f.write_str("no frame is open: call begin_frame first"),
            Self::ChunkTooLong { len, left } => write!(
                f,
                "not sent: a chunk of {len} bytes exceeds the {left} bytes left of the frame"
            ),
            Self::QueueFull { queued, max } => write!(
                f,
                "not sent: {queued} bytes are already queued, and the limit is {max}"
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
            #[cfg(feature = "tls")]
            SendError::Secured => io::ErrorKind::Unsupported,
            SendError::Writer(error) => error.kind(),
            SendError::QueueFull { .. } => io::ErrorKind::WouldBlock,
        };
        Self::new(kind, error)
    }
}

/// An error together with the refused value: a payload, a closure, a socket.
///
/// Returned by calls that take ownership, so that the value is not lost.
///
/// ```
/// # use throng::{Config, ConnectOptions, EventLoop};
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let mut event_loop: EventLoop = EventLoop::new(Config::default().max_connections(0))?;
/// match event_loop.net().adopt(stream, ConnectOptions::default()) {
///     Ok(_) => unreachable!("max_connections is 0"),
///     Err(rejected) => println!("{}: {:?} is still open", rejected.error, rejected.value),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Rejected<T, E = SendError> {
    /// The error.
    pub error: E,
    /// The refused value.
    pub value: T,
}

impl<T, E> Rejected<T, E> {
    pub(crate) fn new(error: E, value: T) -> Self {
        Self { error, value }
    }

    /// Converts the error and keeps the value.
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

/// Drops the value.
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

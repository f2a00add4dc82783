//! The errors of throng, one small type per operation.
//!
//! Why a connection ended is no error of an operation: that is a [`DisconnectReason`](crate::DisconnectReason).

use std::net::SocketAddr;
use std::{error, fmt, io};

/// The first bytes of something that could not be understood, kept so that a person can see what arrived.
///
/// An HTTP client on the wrong port shows as `"GET / HT"`.
///
/// ```
/// use throng::FirstBytes;
///
/// let first = FirstBytes::of(b"GET / HTTP/1.1\r\n");
/// assert_eq!(first.as_bytes(), b"GET / HT");
/// assert_eq!(first.to_string(), r#""GET / HT""#);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FirstBytes {
    bytes: [u8; FirstBytes::MAX],
    len: u8,
}

impl FirstBytes {
    /// How many bytes are kept at most.
    pub const MAX: usize = 8;

    /// Keeps the first [`MAX`](Self::MAX) bytes of `input`.
    pub fn of(input: &[u8]) -> Self {
        let len = input.len().min(Self::MAX);
        let mut bytes = [0; Self::MAX];
        bytes[..len].copy_from_slice(&input[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// The bytes that were kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes could not be cut into frames. It is final: after it the boundaries of the stream are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A frame is longer than the limit.
    FrameTooLarge {
        /// The length the header declares, in bytes; for a format without one, the bytes seen so far.
        declared: u64,
        /// The longest payload accepted, in bytes.
        max: u64,
        /// How the frame begins, header included.
        first_bytes: FirstBytes,
    },
    /// The bytes break the rules of the format.
    Malformed {
        /// What the format expected.
        expected: &'static str,
        /// What stood there instead.
        first_bytes: FirstBytes,
    },
    /// The memory to hold an unfinished frame could not be had.
    OutOfMemory {
        /// How many more bytes were asked for.
        requested: usize,
    },
}

impl DecodeError {
    /// The error of bytes that can be no frame: what was expected, and the `input` that stood there.
    pub fn malformed(expected: &'static str, input: &[u8]) -> Self {
        Self::Malformed {
            expected,
            first_bytes: FirstBytes::of(input),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameTooLarge {
                declared,
                max,
                first_bytes,
            } => write!(
                f,
                "a frame of {declared} bytes, where at most {max} are accepted; it begins {first_bytes}"
            ),
            Self::Malformed {
                expected,
                first_bytes,
            } => write!(f, "expected {expected}, got {first_bytes}"),
            Self::OutOfMemory { requested } => {
                write!(f, "no memory for {requested} more bytes of a frame")
            }
        }
    }
}

impl error::Error for DecodeError {}

/// Why a payload cannot be sent as a frame of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload is longer than the limit, or than the length field can say.
    FrameTooLarge {
        /// The length of the payload, in bytes.
        len: u64,
        /// The longest payload that may be sent, in bytes.
        max: u64,
    },
    /// The payload contains the byte that ends a frame.
    ContainsDelimiter {
        /// The delimiter.
        delimiter: u8,
        /// Where in the payload it first stands.
        position: usize,
    },
    /// A custom format refuses the payload.
    Refused {
        /// What the format expects of a payload.
        expected: &'static str,
    },
    /// The memory for the encoded frame could not be had.
    OutOfMemory {
        /// How many bytes were asked for.
        requested: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameTooLarge { len, max } => {
                write!(
                    f,
                    "a payload of {len} bytes, where at most {max} can be sent"
                )
            }
            Self::ContainsDelimiter {
                delimiter,
                position,
            } => write!(
                f,
                "the payload contains the delimiter '{}' at byte {position}",
                delimiter.escape_ascii()
            ),
            Self::Refused { expected } => write!(f, "the format expects {expected}"),
            Self::OutOfMemory { requested } => {
                write!(f, "no memory for a frame of {requested} bytes")
            }
        }
    }
}

impl error::Error for EncodeError {}

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

impl<T> From<Rejected<T, MailboxError>> for MailboxError {
    fn from(rejected: Rejected<T, MailboxError>) -> Self {
        rejected.error
    }
}

/// Why a [`Handle`](crate::Handle) did not take a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailboxError {
    /// As much waits for the loop as may, [`max_pending_commands`](crate::Config::max_pending_commands) or
    /// [`max_pending_bytes`](crate::Config::max_pending_bytes), or other threads wait for room.
    Full {
        /// How many commands wait.
        commands: u64,
        /// How much their payloads are, in bytes.
        bytes: u64,
    },
    /// This is a callback of a loop, in which nothing may wait for an answer.
    InCallback,
    /// The loop is gone.
    Closed,
}

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { commands, bytes } => write!(
                f,
                "the mailbox is full: {commands} commands with {bytes} bytes wait for the loop"
            ),
            Self::InCallback => f.write_str("in a callback nothing can wait for a loop"),
            Self::Closed => f.write_str("the loop is gone"),
        }
    }
}

impl error::Error for MailboxError {}

impl From<MailboxError> for io::Error {
    fn from(error: MailboxError) -> Self {
        let kind = match &error {
            MailboxError::Full { .. } => io::ErrorKind::WouldBlock,
            MailboxError::InCallback => io::ErrorKind::Deadlock,
            MailboxError::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Options that contradict each other, found before anything is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionsError {
    /// `max_frame_len` allows a frame whose length the framing cannot write.
    MaxFrameLenTooWide {
        /// The limit that was asked for, in bytes.
        max_frame_len: u64,
        /// The longest payload the framing can say, in bytes.
        framing_max: u64,
    },
    /// A timeout of zero would end every connection at once.
    ZeroTimeout {
        /// The setting.
        setting: &'static str,
    },
    /// Not `low_watermark < high_watermark <= max_queued_bytes`.
    WatermarksOutOfOrder {
        /// When backpressure ends, in bytes.
        low_watermark: u64,
        /// When backpressure begins, in bytes.
        high_watermark: u64,
        /// The most that may wait, in bytes.
        max_queued_bytes: u64,
    },
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxFrameLenTooWide {
                max_frame_len,
                framing_max,
            } => write!(
                f,
                "max_frame_len is {max_frame_len}, but the framing says {framing_max} at most"
            ),
            Self::ZeroTimeout { setting } => {
                write!(f, "expected {setting} to be longer than nothing, got 0")
            }
            Self::WatermarksOutOfOrder {
                low_watermark,
                high_watermark,
                max_queued_bytes,
            } => write!(
                f,
                "expected low_watermark < high_watermark <= max_queued_bytes, got {low_watermark}, {high_watermark}, \
                 {max_queued_bytes}"
            ),
        }
    }
}

impl error::Error for OptionsError {}

impl From<OptionsError> for io::Error {
    fn from(error: OptionsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Why a listener could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The options contradict each other.
    Options(OptionsError),
    /// A [`shutdown`](crate::Net::shutdown) is under way.
    ShuttingDown,
    /// The address could not be resolved, or resolved to nothing.
    Resolve(io::Error),
    /// The operating system refused to listen on the path.
    BindUnix {
        /// The path.
        path: std::path::PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The operating system refused to do something with a socket that was [adopted](crate::Net::adopt_listener).
    Adopt(io::Error),
    /// The operating system refused to listen on the address.
    Bind {
        /// The last address that was tried.
        addr: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => write!(f, "cannot listen: {error}"),
            Self::ShuttingDown => f.write_str("cannot listen: the loop shuts down"),
            Self::Resolve(error) => write!(f, "cannot resolve the address to listen on: {error}"),
            Self::Bind { addr, error } => write!(f, "cannot listen on {addr}: {error}"),
            Self::BindUnix { path, error } => {
                write!(f, "cannot listen on {}: {error}", path.display())
            }
            Self::Adopt(error) => write!(f, "cannot take over a listener: {error}"),
        }
    }
}

impl error::Error for ListenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Options(error) => Some(error),
            Self::Resolve(error)
            | Self::Bind { error, .. }
            | Self::BindUnix { error, .. }
            | Self::Adopt(error) => Some(error),
            Self::ShuttingDown => None,
        }
    }
}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> Self {
        let kind = match &error {
            ListenError::Options(_) => io::ErrorKind::InvalidInput,
            ListenError::ShuttingDown => io::ErrorKind::NotConnected,
            ListenError::Resolve(error)
            | ListenError::Bind { error, .. }
            | ListenError::BindUnix { error, .. }
            | ListenError::Adopt(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

/// Why a source of the user's own could not be registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// Tokens with the top bit set are the loop's.
    TokenReserved {
        /// The token that was asked for.
        token: mio::Token,
    },
    /// The selector refused.
    Os(io::Error),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenReserved { token } => write!(
                f,
                "expected a token without the top bit, got {:#x}: such tokens are the loop's",
                token.0
            ),
            Self::Os(error) => write!(f, "the selector refused a source: {error}"),
        }
    }
}

impl error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::TokenReserved { .. } => None,
            Self::Os(error) => Some(error),
        }
    }
}

impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> Self {
        let kind = match &error {
            RegisterError::TokenReserved { .. } => io::ErrorKind::InvalidInput,
            RegisterError::Os(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

/// Why a connection attempt could not even be started.
///
/// An attempt that was started and fails later ends in
/// [`on_disconnect`](crate::Handler::on_disconnect).
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options contradict each other.
    Options(OptionsError),
    /// The loop already has as many connections as [`Config`](crate::Config) allows.
    TooManyConnections {
        /// The limit.
        max_connections: usize,
    },
    /// A [`shutdown`](crate::Net::shutdown) is under way.
    ShuttingDown,
    /// The operating system refused to connect to a Unix domain socket.
    OsUnix {
        /// Where to.
        path: std::path::PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The operating system refused to do something with a stream that was to be [adopted](crate::Net::adopt).
    Adopt(io::Error),
    /// The operating system refused.
    Os {
        /// Where to.
        addr: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => write!(f, "cannot connect: {error}"),
            Self::TooManyConnections { max_connections } => write!(
                f,
                "cannot connect: the loop has its {max_connections} connections already"
            ),
            Self::ShuttingDown => f.write_str("cannot connect: the loop shuts down"),
            Self::Os { addr, error } => write!(f, "cannot connect to {addr}: {error}"),
            Self::OsUnix { path, error } => {
                write!(f, "cannot connect to {}: {error}", path.display())
            }
            Self::Adopt(error) => write!(f, "cannot take over a stream: {error}"),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Options(error) => Some(error),
            Self::Os { error, .. } | Self::OsUnix { error, .. } | Self::Adopt(error) => Some(error),
            Self::TooManyConnections { .. } | Self::ShuttingDown => None,
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Options(_) => io::ErrorKind::InvalidInput,
            ConnectError::ShuttingDown => io::ErrorKind::NotConnected,
            ConnectError::TooManyConnections { .. } => io::ErrorKind::QuotaExceeded,
            ConnectError::Os { error, .. }
            | ConnectError::OsUnix { error, .. }
            | ConnectError::Adopt(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

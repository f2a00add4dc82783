//! Errors of opening a listener or a connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{error, fmt, io};

/// Options that contradict each other or are out of range, detected before anything is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionsError {
    /// `max_frame_len` allows a frame whose length the framing cannot encode.
    MaxFrameLenTooWide {
        /// The requested limit, in bytes.
        max_frame_len: u64,
        /// The longest payload that the framing can encode, in bytes.
        framing_max: u64,
    },
    /// A timeout is zero, which would close every connection at once.
    ZeroTimeout {
        /// The setting.
        setting: &'static str,
    },
    /// A rate limit is zero, which would never read from a connection.
    ZeroRate {
        /// The setting.
        setting: &'static str,
    },
    /// A timeout is longer than the system supports.
    TimeoutTooLong {
        /// The setting.
        setting: &'static str,
        /// The requested timeout.
        timeout: Duration,
        /// The longest supported timeout.
        max: Duration,
    },
    /// The size of a kernel buffer is out of the range that systems support.
    SizeOutOfRange {
        /// The setting.
        setting: &'static str,
        /// The requested size, in bytes.
        bytes: u64,
        /// The smallest size, in bytes.
        min: u64,
        /// The largest size, in bytes.
        max: u64,
    },
    /// The options violate `low_watermark < high_watermark <= max_queued_bytes`.
    WatermarksOutOfOrder {
        /// The queue length at which backpressure ends, in bytes.
        low_watermark: u64,
        /// The queue length above which backpressure begins, in bytes.
        high_watermark: u64,
        /// The limit of the queue, in bytes.
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
                "max_frame_len is {max_frame_len}, but the framing can encode at most {framing_max}"
            ),
            Self::ZeroTimeout { setting } | Self::ZeroRate { setting } => {
                write!(f, "expected {setting} to be greater than zero, got 0")
            }
            Self::TimeoutTooLong {
                setting,
                timeout,
                max,
            } => write!(
                f,
                "expected {setting} to be at most {max:?}, got {timeout:?}"
            ),
            Self::SizeOutOfRange {
                setting,
                bytes,
                min,
                max,
            } => write!(
                f,
                "expected {setting} to be from {min} to {max} bytes, got {bytes}"
            ),
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

/// Why a listener or a connection could not be opened.
///
/// An attempt to connect that was started and fails later is reported by
/// [`on_disconnect`](crate::Handler::on_disconnect).
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The options contradict each other.
    Options(OptionsError),
    /// A [`shutdown`](crate::Net::shutdown) is in progress.
    ShuttingDown,
    /// The loop already has as many connections as [`Config`](crate::Config) allows.
    TooManyConnections {
        /// The limit.
        max_connections: usize,
    },
    /// The address to listen on could not be resolved, or resolved to nothing.
    Resolve(io::Error),
    /// The operating system refused to listen on the address.
    Bind {
        /// The last address that was tried.
        addr: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The operating system refused to listen on the path.
    BindUnix {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The operating system refused to connect to the address.
    Connect {
        /// The address.
        addr: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The operating system refused to connect to the path.
    ConnectUnix {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The operating system refused an operation on a stream or listener that was to be
    /// [adopted](crate::Net::adopt).
    Adopt(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => write!(f, "invalid options: {error}"),
            Self::ShuttingDown => f.write_str("the loop is shutting down"),
            Self::TooManyConnections { max_connections } => {
                write!(f, "the loop already has {max_connections} connections")
            }
            Self::Resolve(error) => write!(f, "cannot resolve the address to listen on: {error}"),
            Self::Bind { addr, error } => write!(f, "cannot listen on {addr}: {error}"),
            Self::BindUnix { path, error } => write!(f, "cannot listen on {path:?}: {error}"),
            Self::Connect { addr, error } => write!(f, "cannot connect to {addr}: {error}"),
            Self::ConnectUnix { path, error } => write!(f, "cannot connect to {path:?}: {error}"),
            Self::Adopt(error) => write!(f, "cannot take over a socket: {error}"),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Options(error) => Some(error),
            Self::Resolve(error)
            | Self::Bind { error, .. }
            | Self::BindUnix { error, .. }
            | Self::Connect { error, .. }
            | Self::ConnectUnix { error, .. }
            | Self::Adopt(error) => Some(error),
            Self::ShuttingDown | Self::TooManyConnections { .. } => None,
        }
    }
}

impl OpenError {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Options(_) => io::ErrorKind::InvalidInput,
            Self::ShuttingDown => io::ErrorKind::NotConnected,
            Self::TooManyConnections { .. } => io::ErrorKind::QuotaExceeded,
            Self::Resolve(error)
            | Self::Bind { error, .. }
            | Self::BindUnix { error, .. }
            | Self::Connect { error, .. }
            | Self::ConnectUnix { error, .. }
            | Self::Adopt(error) => error.kind(),
        }
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        Self::new(error.kind(), error)
    }
}

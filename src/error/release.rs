//! Errors of releasing a connection.

use std::{error, fmt, io};

/// Why a connection was not [released](crate::Net::release). The connection is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The id does not refer to an open connection: it is closed, closing, or was [half-closed](crate::Net::half_close).
    Disconnected,
    /// The connection is not established yet.
    Connecting,
    /// The connection has TLS: its stream is of no use without the session.
    #[cfg(feature = "tls")]
    Tls,
    /// A frame was begun with [`begin_frame`](crate::Net::begin_frame) and is not complete.
    FrameOpen {
        /// The number of payload bytes that are missing.
        missing: u64,
    },
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => {
                f.write_str("not released: the connection is closed, closing, or half-closed")
            }
            Self::Connecting => f.write_str("not released: the connection is not established yet"),
            #[cfg(feature = "tls")]
            Self::Tls => f.write_str("not released: the connection has TLS"),
            Self::FrameOpen { missing } => write!(
                f,
                "not released: a frame is open: {missing} bytes of its payload are missing"
            ),
        }
    }
}

impl error::Error for ReleaseError {}

impl From<ReleaseError> for io::Error {
    fn from(error: ReleaseError) -> Self {
        let kind = match &error {
            ReleaseError::Disconnected | ReleaseError::Connecting => io::ErrorKind::NotConnected,
            ReleaseError::FrameOpen { .. } => io::ErrorKind::InvalidInput,
            #[cfg(feature = "tls")]
            ReleaseError::Tls => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

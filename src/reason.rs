//! Why a connection ended.

use std::time::Duration;
use std::{error, fmt, io};

use crate::error::DecodeError;
use crate::socket::Stream;

/// Why a connection ended; passed once to [`on_disconnect`](crate::Handler::on_disconnect).
///
/// ```
/// use throng::{DecodeError, DisconnectCause, DisconnectReason, Side};
///
/// fn note(reason: &DisconnectReason) {
///     match reason.cause {
///         DisconnectCause::PeerClosed => println!("left"),
///         DisconnectCause::Decode(DecodeError::FrameTooLarge { declared, .. }) => println!("{declared} bytes"),
///         _ if reason.side() == Side::Network => println!("lost: {reason}"),
///         _ => println!("ended: {reason}"),
///     }
/// }
/// # let _ = note;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct DisconnectReason {
    /// The cause.
    pub cause: DisconnectCause,
    /// The stage that the connection had reached when it was decided to end it.
    pub stage: Stage,
    /// The number of frames that were accepted by a send and not written completely; partly written frames count.
    pub unsent_frames: u64,
    /// The unwritten bytes of these frames, headers included. Bytes that were written may still not have reached the
    /// peer; only a reply from the peer confirms that.
    pub unsent_bytes: u64,
    /// The number of bytes that were received and not delivered to the handler: frames held back by a
    /// [pause](crate::Net::pause), and an incomplete frame, whose header counts only while the header itself is
    /// incomplete. If a paused connection was reset, bytes that were still in the kernel count too. Zero if the
    /// connection was [`Released`](DisconnectCause::Released), which returns these bytes.
    pub unshown_bytes: u64,
}

/// The event that ended a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// The peer closed its side between two frames. This is the usual cause.
    PeerClosed,
    /// The peer closed its side in the middle of a frame.
    PeerClosedInsideFrame {
        /// The number of bytes of the unfinished frame that had arrived. The header counts only while the header itself
        /// is incomplete.
        received: u64,
    },
    /// The connection was reset by the peer or by a host in between, or a write failed because the peer no longer
    /// accepts data.
    ///
    /// If a write detected it, all data that had arrived was delivered first, unless the connection was
    /// [paused](crate::Net::pause).
    Reset(io::Error),
    /// The connection failed with another network error, such as unreachable or timed out by the kernel.
    Network(io::Error),
    /// An outbound connection could not be established.
    ConnectFailed(io::Error),
    /// An outbound connection was not established in time.
    ConnectTimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The TLS handshake failed: the two sides have no version or cipher in common, a certificate is missing or not
    /// trusted, or the peer does not speak TLS. [`on_connect`](crate::Handler::on_connect) was not called.
    #[cfg(feature = "tls")]
    HandshakeFailed(rustls::Error),
    /// The TLS handshake was not done in time; see
    /// [`handshake_timeout`](crate::ListenOptions::handshake_timeout).
    #[cfg(feature = "tls")]
    HandshakeTimedOut {
        /// The timeout.
        after: Duration,
    },
    /// An established TLS session failed: the peer sent an alert, or a record that is invalid or was changed on its way.
    #[cfg(feature = "tls")]
    Tls(rustls::Error),
    /// The peer's stream ended without the close_notify with which a TLS session ends. Anyone on the way could have cut
    /// it off, so it is not complete, unless the protocol says so. Peers that end or crash without closing their session
    /// have this cause, during the handshake as well.
    #[cfg(feature = "tls")]
    Truncated,
    /// The peer sent bytes that cannot be decoded: a frame longer than the limit, or bytes that are not a frame of the
    /// connection's framing, such as an HTTP request that is read as a length. Or there was no memory for the frame.
    Decode(DecodeError),
    /// This side closed the connection with [`disconnect`](crate::Net::disconnect): the queue was flushed, and the peer
    /// has closed its side.
    ClosedLocally,
    /// The connection was closing, and the peer did not read the queued bytes, or did not close its side, in time. It
    /// was closing because of [`disconnect`](crate::Net::disconnect), [`release`](crate::Net::release) or
    /// [`shutdown`](crate::Net::shutdown), or because the peer had closed its side.
    DrainTimedOut {
        /// The [`disconnect_timeout`](crate::Config::disconnect_timeout), or the timeout of the shutdown.
        after: Duration,
    },
    /// This side closed the connection with [`shutdown`](crate::Net::shutdown): the queue was flushed, and the peer has
    /// closed its side.
    ShutDown,
    /// This side [released](crate::Net::release) the connection. Contains the socket, which is closed if this is
    /// dropped.
    Released(Box<Released>),
    /// This side closed the connection immediately with [`abort`](crate::Net::abort).
    Aborted,
    /// The peer sent a frame longer than [`stream_frames_over`](crate::Config::stream_frames_over), and the handler
    /// does not implement [`on_chunk`](crate::Handler::on_chunk).
    ChunkNotHandled {
        /// The length of the frame in bytes, if its format declares it.
        total: Option<u64>,
    },
    /// A reader passed to [`send_reader`](crate::Net::send_reader) ended early, so its frame cannot be completed.
    ReaderEnded {
        /// The number of missing bytes.
        missing: u64,
    },
    /// A reader passed to [`send_reader`](crate::Net::send_reader) had more data than the announced length.
    ReaderTooLong,
    /// A reader passed to [`send_reader`](crate::Net::send_reader) failed, or returned data that the framing cannot
    /// encode.
    ReaderFailed(io::Error),
    /// Neither side sent a byte within the [`idle_timeout`](crate::Config::idle_timeout).
    Idle {
        /// The time without a byte.
        after: Duration,
    },
    /// The peer began a frame and continued it too slowly; see
    /// [`frame_stall_timeout`](crate::Config::frame_stall_timeout).
    FrameStalled {
        /// The bytes of the frame that arrived in the last period.
        received: u64,
        /// The minimum number of bytes per period.
        min: u64,
        /// The period.
        within: Duration,
    },
    /// Bytes were queued, and the peer did not accept any within the
    /// [`write_stall_timeout`](crate::Config::write_stall_timeout).
    WriteStalled {
        /// The time without progress.
        after: Duration,
        /// The number of queued bytes.
        queued: u64,
    },
    /// The peer sent more frames or bytes per second than allowed, and [`Excess::Disconnect`](crate::Excess::Disconnect)
    /// is set.
    RateExceeded {
        /// The limit.
        limit: RateLimit,
    },
    /// All connections of the loop together held more than the [`memory_budget`](crate::Config::memory_budget), and
    /// this connection is one of the smallest set whose end frees enough.
    MemoryBudget {
        /// The bytes that this connection held: its queue, and the received part of an incomplete frame.
        held: u64,
        /// The budget, in bytes.
        budget: u64,
    },
    /// The peer did not read fast enough: a frame did not fit into the queue, and
    /// [`Overflow::Disconnect`](crate::Overflow::Disconnect) is set.
    SlowConsumer {
        /// The number of queued bytes.
        queued: u64,
        /// The limit, [`max_queued_bytes`](crate::Config::max_queued_bytes).
        max: u64,
    },
}

/// A connection that was [released](crate::Net::release), now owned by the holder of this value.
#[derive(Debug)]
#[non_exhaustive]
pub struct Released {
    /// The socket. It is non-blocking, and everything that was sent has been written to it.
    pub stream: Stream,
    /// The bytes that were read from the socket and not delivered, as they came over the wire. Pass them to
    /// [`adopt_with`](crate::Net::adopt_with).
    pub unread: Vec<u8>,
}

/// A limit of what a peer may send per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RateLimit {
    /// [`max_frames_per_second`](crate::Config::max_frames_per_second).
    Frames(u64),
    /// [`max_bytes_per_second`](crate::Config::max_bytes_per_second).
    Bytes(u64),
}

/// The side that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The peer closed the connection, or violated the protocol.
    Peer,
    /// This side.
    Us,
    /// Neither side: the network, or a host in between.
    Network,
}

/// The stage of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Outbound and not yet established: [`on_connect`](crate::Handler::on_connect) was not called.
    Connecting,
    /// Established.
    Open,
    /// Closing: flushing the queue, or waiting for the peer to close.
    Closing,
}

impl DisconnectReason {
    /// Returns the side that ended the connection.
    pub fn side(&self) -> Side {
        use DisconnectCause as Cause;
        match self.cause {
            Cause::PeerClosed
            | Cause::PeerClosedInsideFrame { .. }
            | Cause::Decode(DecodeError::FrameTooLarge { .. } | DecodeError::Malformed { .. }) => {
                Side::Peer
            }
            #[cfg(feature = "tls")]
            Cause::HandshakeFailed(_) | Cause::Tls(_) | Cause::Truncated => Side::Peer,
            #[cfg(feature = "tls")]
            Cause::HandshakeTimedOut { .. } => Side::Us,
            Cause::Reset(_)
            | Cause::Network(_)
            | Cause::ConnectFailed(_)
            | Cause::ConnectTimedOut { .. } => Side::Network,
            Cause::Decode(DecodeError::OutOfMemory(_))
            | Cause::ClosedLocally
            | Cause::ShutDown
            | Cause::DrainTimedOut { .. }
            | Cause::Aborted
            | Cause::Released(_)
            | Cause::ChunkNotHandled { .. }
            | Cause::ReaderEnded { .. }
            | Cause::ReaderTooLong
            | Cause::ReaderFailed(_)
            | Cause::Idle { .. }
            | Cause::FrameStalled { .. }
            | Cause::WriteStalled { .. }
            | Cause::RateExceeded { .. }
            | Cause::MemoryBudget { .. }
            | Cause::SlowConsumer { .. } => Side::Us,
        }
    }
}

impl DisconnectReason {
    /// Returns `true` if an attempt to connect has failed.
    pub(crate) fn is_failed_attempt(&self) -> bool {
        use DisconnectCause::{ConnectFailed, ConnectTimedOut};
        matches!(self.cause, ConnectFailed(_) | ConnectTimedOut { .. })
    }
}

/// Has the same source as its [`cause`](Self::cause).
impl error::Error for DisconnectReason {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.source()
    }
}

impl error::Error for DisconnectCause {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            Self::Reset(error)
            | Self::Network(error)
            | Self::ConnectFailed(error)
            | Self::ReaderFailed(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::HandshakeFailed(error) | Self::Tls(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        match self.stage {
            Stage::Connecting => f.write_str(", while connecting")?,
            Stage::Closing => f.write_str(", while closing")?,
            Stage::Open => {}
        }
        if self.unsent_frames > 0 {
            write!(
                f,
                "; {} frames ({} bytes) were not sent",
                self.unsent_frames, self.unsent_bytes
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for DisconnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::PeerClosedInsideFrame { received } => write!(
                f,
                "the peer closed the connection inside a frame, {received} bytes into it"
            ),
            Self::Reset(error) => write!(f, "the connection was reset: {error}"),
            Self::Network(error) => write!(f, "the network failed: {error}"),
            Self::ConnectFailed(error) => write!(f, "could not connect: {error}"),
            Self::ConnectTimedOut { after } => write!(f, "could not connect within {after:?}"),
            #[cfg(feature = "tls")]
            Self::HandshakeFailed(error) => write!(f, "the TLS handshake failed: {error}"),
            #[cfg(feature = "tls")]
            Self::HandshakeTimedOut { after } => {
                write!(f, "the TLS handshake was not done within {after:?}")
            }
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "the TLS session failed: {error}"),
            #[cfg(feature = "tls")]
            Self::Truncated => f.write_str("the stream ended without a TLS close_notify"),
            Self::Decode(error) => write!(f, "cannot decode the input: {error}"),
            Self::ClosedLocally => f.write_str("disconnected by this side"),
            Self::DrainTimedOut { after } => {
                write!(
                    f,
                    "within {after:?} the peer did not read what was queued, or did not close its side"
                )
            }
            Self::ShutDown => f.write_str("this side is shutting down"),
            Self::Released(_) => f.write_str("released by this side"),
            Self::Aborted => f.write_str("aborted by this side"),
            Self::ChunkNotHandled { total: Some(total) } => write!(
                f,
                "a frame of {total} bytes came in chunks, and the handler has no on_chunk"
            ),
            Self::ChunkNotHandled { total: None } => {
                f.write_str("a frame came in chunks, and the handler has no on_chunk")
            }
            Self::ReaderEnded { missing } => write!(
                f,
                "a reader ended {missing} bytes before the end of its frame"
            ),
            Self::ReaderTooLong => {
                f.write_str("a reader has more data than the length of its frame")
            }
            Self::ReaderFailed(error) => write!(f, "a reader failed: {error}"),
            Self::Idle { after } => write!(f, "nothing was sent or received for {after:?}"),
            Self::FrameStalled {
                received,
                min,
                within,
            } => write!(
                f,
                "the peer began a frame and sent {received} bytes of it in {within:?}, and the minimum is {min}"
            ),
            Self::WriteStalled { after, queued } => write!(
                f,
                "the peer accepted none of the {queued} queued bytes for {after:?}"
            ),
            Self::RateExceeded { limit } => {
                let (max, what) = match limit {
                    RateLimit::Frames(max) => (max, "frames"),
                    RateLimit::Bytes(max) => (max, "bytes"),
                };
                write!(f, "the peer sent more than {max} {what} per second")
            }
            Self::MemoryBudget { held, budget } => write!(
                f,
                "the connections exceed the memory budget of {budget} bytes; this one held {held}"
            ),
            Self::SlowConsumer { queued, max } => write!(
                f,
                "the peer does not read: {queued} bytes are queued, and the limit is {max}"
            ),
        }
    }
}

impl DisconnectCause {
    /// Returns the cause that corresponds to an error of an established socket.
    pub(crate) fn of_socket(error: io::Error) -> Self {
        #[cfg(feature = "tls")]
        let error = match error.downcast::<rustls::Error>() {
            Ok(broken) => return Self::Tls(broken),
            Err(error) => error,
        };
        match error.kind() {
            // No socket returns this.
            #[cfg(feature = "tls")]
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            // The socket was connected before.
            | io::ErrorKind::NotConnected => Self::Reset(error),
            _ => Self::Network(error),
        }
    }
}

impl From<DecodeError> for DisconnectCause {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

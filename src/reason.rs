//! Why a connection ended.

use std::time::Duration;
use std::{error, fmt, io};

use crate::error::{DecodeError, FirstBytes};
use crate::socket::Stream;

/// Why a connection ended, given once to [`on_disconnect`](crate::Handler::on_disconnect).
///
/// ```
/// use throng::{DisconnectCause, DisconnectReason, Side};
///
/// fn note(reason: &DisconnectReason) {
///     match reason.cause {
///         DisconnectCause::PeerClosed => println!("left"),
///         DisconnectCause::FrameTooLarge { declared, .. } => println!("sent nonsense: {declared}"),
///         _ if reason.side() == Side::Network => println!("lost: {reason}"),
///         _ => println!("ended: {reason}"),
///     }
/// }
/// # let _ = note;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct DisconnectReason {
    /// What happened.
    pub cause: DisconnectCause,
    /// How far the connection had come when it was decided that it ends.
    pub stage: Stage,
    /// Frames that were accepted by a send and not written whole; a frame partly written counts.
    pub unsent_frames: u64,
    /// Bytes of these frames that were not written, headers included. Bytes that were written may still not have
    /// reached the peer: only an answer of its own tells that.
    pub unsent_bytes: u64,
    /// Bytes that were received and not delivered to the handler: of frames that a [paused](crate::Net::pause) connection
    /// held back, and of one that was not complete, whose header counts only while it is incomplete itself. If a paused
    /// connection was reset, what the kernel still held counts, too. Zero if the connection was
    /// [`Released`](DisconnectCause::Released), which passes these bytes on.
    pub unshown_bytes: u64,
}

/// What ended a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// The peer closed its side between two frames: the usual end.
    PeerClosed,
    /// The peer closed its side in the middle of a frame.
    PeerClosedInsideFrame {
        /// How many bytes of the unfinished frame had arrived (its header counts only while it is unfinished too).
        received: u64,
    },
    /// The peer, or something in between, reset the connection; or the peer takes nothing any more, so that a write failed.
    ///
    /// If a write found out, everything that had arrived was delivered before, unless the connection was
    /// [paused](crate::Net::pause).
    Reset(io::Error),
    /// The network failed the connection in another way: unreachable, timed out by the kernel.
    Network(io::Error),
    /// An outbound connection could not be established.
    ConnectFailed(io::Error),
    /// An outbound connection was not established in time.
    ConnectTimedOut {
        /// The time it was given.
        after: Duration,
    },
    /// The peer began a frame that is longer than the limit. An HTTP request read as a length ends here.
    FrameTooLarge {
        /// The length the header declares, in bytes; for a format without one, the bytes seen so far.
        declared: u64,
        /// The longest payload accepted, in bytes.
        max: u64,
        /// How the frame begins, header included.
        first_bytes: FirstBytes,
    },
    /// The peer sent what can be no frame of the connection's framing.
    Malformed {
        /// What the framing expected.
        expected: &'static str,
        /// What stood there instead.
        first_bytes: FirstBytes,
    },
    /// The memory to hold an unfinished frame could not be had.
    OutOfMemory {
        /// How many more bytes were asked for.
        requested: usize,
    },
    /// We ended it, by [`disconnect`](crate::Net::disconnect): the queue was flushed, and the peer has closed its side.
    ClosedLocally,
    /// It was closing, by [`disconnect`](crate::Net::disconnect), [`release`](crate::Net::release) or
    /// [`shutdown`](crate::Net::shutdown), or because the peer had closed its side, and the peer took no byte of what was
    /// queued, or did not close, in time.
    DrainTimedOut {
        /// The [`disconnect_timeout`](crate::Config::disconnect_timeout), or the timeout of the shutdown.
        after: Duration,
    },
    /// We ended it, by [`shutdown`](crate::Net::shutdown): the queue was flushed, and the peer has closed its side.
    ShuttingDown,
    /// We [released](crate::Net::release) it: this is its socket, and it is not closed unless this is dropped.
    Released(Box<Released>),
    /// We ended it at once, by [`abort`](crate::Net::abort).
    Aborted,
    /// The peer sent a frame longer than [`stream_frames_over`](crate::Config::stream_frames_over), and the handler does
    /// not implement [`on_chunk`](crate::Handler::on_chunk).
    ChunkNotHandled {
        /// The length of the frame, in bytes, if its format tells it.
        total: Option<u64>,
    },
    /// A reader given to [`send_reader`](crate::Net::send_reader) ended early, so that the frame it was for cannot be
    /// completed.
    ReaderEnded {
        /// How many bytes were missing.
        missing: u64,
    },
    /// A reader given to [`send_reader`](crate::Net::send_reader) had more to give than the length that was announced.
    ReaderTooLong,
    /// A reader given to [`send_reader`](crate::Net::send_reader) failed, or gave what the framing cannot carry.
    ReaderFailed(io::Error),
    /// Neither side had sent a byte for the [`idle_timeout`](crate::Config::idle_timeout).
    Idle {
        /// The time without a byte.
        after: Duration,
    },
    /// The peer began a frame and was too slow to go on with it; see
    /// [`frame_stall_timeout`](crate::Config::frame_stall_timeout).
    FrameStalled {
        /// Bytes of the frame that arrived in the last period.
        received: u64,
        /// How many had to arrive.
        min: u64,
        /// The period.
        within: Duration,
    },
    /// Frames waited to be written, and the peer had not taken a byte for the
    /// [`write_stall_timeout`](crate::Config::write_stall_timeout).
    WriteStalled {
        /// The time without progress.
        after: Duration,
        /// How much waited to be written, in bytes.
        queued: u64,
    },
    /// All connections of the loop together held more than the [`memory_budget`](crate::Config::memory_budget), and this
    /// one was among the fewest whose end frees enough.
    MemoryBudget {
        /// What this connection held, in bytes: queued for it, or received of a frame that was not complete.
        held: u64,
        /// The budget, in bytes.
        budget: u64,
    },
    /// The peer did not read what it was sent: a frame was to be queued and there was no room, where
    /// [`Overflow::Disconnect`](crate::Overflow::Disconnect) is set.
    SlowConsumer {
        /// How much waited to be written, in bytes.
        queued: u64,
        /// The limit, [`max_queued_bytes`](crate::Config::max_queued_bytes).
        max: u64,
    },
}

/// A connection that was [released](crate::Net::release): it belongs to whoever has this.
#[derive(Debug)]
#[non_exhaustive]
pub struct Released {
    /// The socket. It does not block; all that was sent is in it.
    pub stream: Stream,
    /// What was read from it and not shown, as it came over the wire. [`adopt_with`](crate::Net::adopt_with) takes it.
    pub unread: Vec<u8>,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The peer closed, or broke the protocol.
    Peer,
    /// This side.
    Us,
    /// Neither: the network, or a host in between.
    Network,
}

/// How far a connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Outbound and not yet established: there was no [`on_connect`](crate::Handler::on_connect).
    Connecting,
    /// Established.
    Open,
    /// Already on its way out: flushing, or waiting for the peer to close.
    Closing,
}

impl DisconnectReason {
    /// Who ended the connection.
    pub fn side(&self) -> Side {
        use DisconnectCause as Cause;
        match self.cause {
            Cause::PeerClosed
            | Cause::PeerClosedInsideFrame { .. }
            | Cause::FrameTooLarge { .. }
            | Cause::Malformed { .. } => Side::Peer,
            Cause::Reset(_)
            | Cause::Network(_)
            | Cause::ConnectFailed(_)
            | Cause::ConnectTimedOut { .. } => Side::Network,
            Cause::OutOfMemory { .. }
            | Cause::ClosedLocally
            | Cause::ShuttingDown
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
            | Cause::MemoryBudget { .. }
            | Cause::SlowConsumer { .. } => Side::Us,
        }
    }
}

impl DisconnectReason {
    /// Whether an attempt to connect has failed.
    pub(crate) fn is_failed_attempt(&self) -> bool {
        use DisconnectCause::{ConnectFailed, ConnectTimedOut};
        matches!(self.cause, ConnectFailed(_) | ConnectTimedOut { .. })
    }
}

impl error::Error for DisconnectReason {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            DisconnectCause::Reset(error)
            | DisconnectCause::Network(error)
            | DisconnectCause::ConnectFailed(error)
            | DisconnectCause::ReaderFailed(error) => Some(error),
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
            Self::FrameTooLarge {
                declared,
                max,
                first_bytes,
            } => write!(
                f,
                "the peer sent a frame of {declared} bytes, where at most {max} are accepted; it begins {first_bytes}"
            ),
            Self::Malformed {
                expected,
                first_bytes,
            } => write!(f, "the peer sent {first_bytes}, expected was {expected}"),
            Self::OutOfMemory { requested } => {
                write!(f, "no memory for {requested} more bytes of a frame")
            }
            Self::ClosedLocally => f.write_str("disconnected by this side"),
            Self::DrainTimedOut { after } => {
                write!(
                    f,
                    "within {after:?} the peer did not read what was queued, or did not close its side"
                )
            }
            Self::ShuttingDown => f.write_str("this side shuts down"),
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
            Self::ReaderTooLong => f.write_str("a reader goes on where its frame ends"),
            Self::ReaderFailed(error) => write!(f, "a reader failed: {error}"),
            Self::Idle { after } => write!(f, "nothing was sent or received for {after:?}"),
            Self::FrameStalled {
                received,
                min,
                within,
            } => write!(
                f,
                "the peer began a frame and sent {received} bytes of it in {within:?}, where {min} are the least"
            ),
            Self::WriteStalled { after, queued } => write!(
                f,
                "the peer took nothing of the {queued} bytes that wait for it for {after:?}"
            ),
            Self::MemoryBudget { held, budget } => write!(
                f,
                "the connections hold more than the budget of {budget} bytes, this one {held} of them"
            ),
            Self::SlowConsumer { queued, max } => write!(
                f,
                "the peer does not read: {queued} bytes wait for it, where the limit is {max}"
            ),
        }
    }
}

impl DisconnectCause {
    /// The cause an error of an established socket stands for.
    pub(crate) fn of_socket(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            // It was connected.
            | io::ErrorKind::NotConnected => Self::Reset(error),
            _ => Self::Network(error),
        }
    }
}

impl From<DecodeError> for DisconnectCause {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::FrameTooLarge {
                declared,
                max,
                first_bytes,
            } => Self::FrameTooLarge {
                declared,
                max,
                first_bytes,
            },
            DecodeError::Malformed {
                expected,
                first_bytes,
            } => Self::Malformed {
                expected,
                first_bytes,
            },
            DecodeError::OutOfMemory { requested } => Self::OutOfMemory { requested },
        }
    }
}

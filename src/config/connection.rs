//! The settings of a connection: for all connections of a loop, for those of a listener, or for a single outbound one.
//!
//! Each setting is declared once, below; a macro generates its setters for three types.

#[cfg(test)]
use std::any::Any;
use std::time::Duration;

use super::{Config, ConnectOptions, ListenOptions};
use crate::error::OptionsError;
use crate::frame::Framing;

/// What happens to a frame that does not fit into a connection's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The frame is refused with [`SendError::QueueFull`](crate::SendError::QueueFull), and the connection stays open.
    /// [`on_drain`](crate::Handler::on_drain) is called when there is room again.
    Refuse,
    /// The frame is refused in the same way, and the connection is closed with the cause
    /// [`SlowConsumer`](crate::DisconnectCause::SlowConsumer). For streams in which a gap is worse than a disconnect.
    /// Before that, the queue is written as far as the socket and the [`write_budget`](crate::Config::write_budget) allow:
    /// no connection is closed for bytes that only wait for the end of the turn.
    Disconnect,
}

/// What happens if a peer sends more than [`max_frames_per_second`](Config::max_frames_per_second) or
/// [`max_bytes_per_second`](Config::max_bytes_per_second).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Excess {
    /// throng stops reading from the connection until the excess is paid for. Nothing is lost: what has arrived waits,
    /// and TCP slows the peer down.
    Pause,
    /// The connection is closed with the cause [`RateExceeded`](crate::DisconnectCause::RateExceeded), after the frame
    /// that exceeds the limit was delivered.
    Disconnect,
}

/// Generates for each setting a field, an override, and a setter of `Config`, `ListenOptions` and `ConnectOptions`.
macro_rules! connection_options {
    ($($(#[$doc:meta])* $name:ident($argument:ident: $from:ty): $type:ty = $default:expr;)*) => {
        /// The settings of a connection.
        #[derive(Debug, Clone)]
        pub(crate) struct ConnectionOptions {
            $(pub(crate) $name: $type,)*
        }

        impl Default for ConnectionOptions {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        #[cfg(test)]
        impl ConnectionOptions {
            /// Returns each setting with its name, so that a test can try all settings of a type.
            pub(super) fn fields(&mut self) -> Vec<(&'static str, &mut dyn Any)> {
                vec![$((stringify!($name), &mut self.$name as &mut dyn Any),)*]
            }
        }

        /// The settings that override those of the loop.
        #[derive(Debug, Clone, Default)]
        pub(super) struct Overrides {
            $($name: Option<$type>,)*
        }

        impl Overrides {
            pub(super) fn over(&self, base: &ConnectionOptions) -> Result<ConnectionOptions, OptionsError> {
                let mut options = ConnectionOptions {
                    $($name: self.$name.as_ref().unwrap_or(&base.$name).clone(),)*
                };
                // A limit set for the whole loop may exceed what this framing can encode. It applies again to a later framing
                // that can encode more.
                let limit = options.max_frame_len;
                if self.max_frame_len.is_none() {
                    options.max_frame_len = limit.min(options.framing.max_payload_len());
                }
                options.validate()?;
                options.forget_what_never_comes();
                options.max_frame_len = limit;
                Ok(options)
            }
        }

        impl Config {
            $($(#[$doc])* pub fn $name(mut self, $argument: $from) -> Self {
                self.connection.$name = $argument.into();
                self
            })*
        }

        impl ListenOptions {
            $($(#[$doc])* pub fn $name(mut self, $argument: $from) -> Self {
                self.connection.$name = Some($argument.into());
                self
            })*
        }

        impl ConnectOptions {
            $($(#[$doc])* pub fn $name(mut self, $argument: $from) -> Self {
                self.connection.$name = Some($argument.into());
                self
            })*
        }
    };
}

connection_options! {
    /// Sets how the byte stream is split into frames. Default: [`Framing::length_prefix`], a little-endian `u32`.
    framing(framing: impl Into<Framing>): Framing = Framing::default();

    /// Sets the longest payload, in bytes, in both directions. A peer that exceeds it is disconnected as soon as the
    /// header has arrived; a send that exceeds it is refused. Default: what the framing can encode.
    ///
    /// It does not apply to [`Framing::raw`], which has no frames to limit.
    max_frame_len(bytes: u64): u64 = u64::MAX;

    /// Sets the payload length, in bytes, above which frames are not buffered, but passed to
    /// [`on_chunk`](crate::Handler::on_chunk) in chunks as they arrive, in constant memory. Default: `u64::MAX`, so all
    /// frames arrive whole. No frame is longer than [`max_frame_len`](Self::max_frame_len), so a value of at least that
    /// streams none.
    ///
    /// It does not apply to [`Framing::raw`], nor to [`custom`](Framing::custom) formats that find the length of a
    /// frame only at its end.
    stream_frames_over(bytes: u64): u64 = u64::MAX;

    /// Sets the limit of a connection's outbound queue, in bytes, headers included. Default: 16 MiB. Bytes that the
    /// kernel has accepted do not count: up to some MiB per connection, unless [`send_buffer`](Self::send_buffer)
    /// limits it.
    ///
    /// A frame is accepted while fewer bytes than this are queued, so no frame is too large for an empty queue. The
    /// queue can exceed the limit by at most one frame. At the limit, [`overflow`](Self::overflow) decides.
    max_queued_bytes(bytes: u64): u64 = 16 * 1024 * 1024;

    /// Sets what happens to a frame above [`max_queued_bytes`](Self::max_queued_bytes). Default: [`Overflow::Refuse`].
    overflow(policy: Overflow): Overflow = Overflow::Refuse;

    /// Sets the number of queued bytes above which a connection is under backpressure. throng then stops reading from
    /// it, unless [`read_under_backpressure`](Self::read_under_backpressure) is set, as for outbound connections;
    /// [`on_drain`](crate::Handler::on_drain) is called when backpressure ends. Default: 4 MiB, a burst of any usual
    /// size, or [`max_queued_bytes`](Self::max_queued_bytes) if that is less.
    high_watermark(bytes: u64): Option<u64> = None;

    /// Sets the number of queued bytes at or below which backpressure ends. Default: a quarter of the
    /// [`high_watermark`](Self::high_watermark), which keeps the socket busy until more is sent.
    low_watermark(bytes: u64): Option<u64> = None;

    /// Sets whether throng still reads from a peer that does not read what it is sent. Default: true for outbound
    /// connections, false for inbound and [adopted](crate::Net::adopt) ones.
    ///
    /// Consider a server that answers each frame with one frame, such as an echo server. It stays within its limits if
    /// it stops reading from a peer that does not drain its replies. If both sides did this, they could deadlock: each
    /// with a full queue, neither reading until its own queue has drained. Therefore the side that sends the requests,
    /// usually the one that connected, has to keep reading.
    ///
    /// Set it to `true` if the server has to read from a peer at all times, and on the requesting side of an adopted
    /// stream; then only [`max_queued_bytes`](Self::max_queued_bytes) limits the queue. Set it to `false` on an
    /// outbound connection if the peer sends the requests.
    read_under_backpressure(read: bool): Option<bool> = None;

    /// Sets how many frames a peer may send per second; at least 1. Default: `None`, no limit.
    ///
    /// A peer that was silent for a second may send one second's worth at once. Above the limit,
    /// [`excess`](Self::excess) decides. Frames that arrive in chunks count at their end; with
    /// [`Framing::raw`] each call of [`on_data`](crate::Handler::on_data) counts.
    ///
    /// Frames cost CPU time even if they are small: one connection that sends without pause can use a whole core. A
    /// limit prevents that. A connection with a limit costs some hundred instructions more per read, one without costs
    /// nothing.
    max_frames_per_second(frames: impl Into<Option<u64>>): Option<u64> = None;

    /// Sets how many bytes a peer may send per second, headers included; at least 1. Default: `None`, no limit.
    ///
    /// A peer that was silent for a second may send one second's worth at once. Above the limit,
    /// [`excess`](Self::excess) decides. A frame may be longer than one second's worth: it is received over several
    /// seconds.
    max_bytes_per_second(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// Sets what happens if a peer exceeds [`max_frames_per_second`](Self::max_frames_per_second) or
    /// [`max_bytes_per_second`](Self::max_bytes_per_second). Default: [`Excess::Pause`].
    ///
    /// While reading is paused, the connection causes no wake-up except the one that ends the pause, after 10 ms at the
    /// earliest. No timeout for what the peer sends runs meanwhile. [`Stats::throttled`](crate::Stats::throttled)
    /// counts the pauses.
    excess(policy: Excess): Excess = Excess::Pause;

    /// Sets how long a connection may be without a byte in either direction before it is closed with the cause
    /// [`Idle`](crate::DisconnectCause::Idle). More than 49 days means no limit. Default: `None`, no limit.
    ///
    /// Before the connection is closed, a read and a write are tried, so bytes that have arrived in the kernel count.
    /// Bytes that the kernel is still sending do not: a peer that needs longer than this to read a reply of some MiB
    /// looks idle, unless [`max_unsent_in_kernel`](Self::max_unsent_in_kernel) or [`send_buffer`](Self::send_buffer)
    /// limits what the kernel accepts.
    ///
    /// The timeout does not run while throng does not read from the connection because it is
    /// [paused](crate::Net::pause) or under backpressure.
    idle_timeout(timeout: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Sets the period in which an unfinished frame has to grow by [`frame_stall_bytes`](Self::frame_stall_bytes) or to
    /// be completed. Otherwise the connection is closed with the cause
    /// [`FrameStalled`](crate::DisconnectCause::FrameStalled). More than 49 days means no limit. Default: `None`, no
    /// limit.
    ///
    /// This closes connections of peers that send a byte now and then to stay connected (slowloris), but not those of
    /// slow uploaders that make progress. The timeout does not run while throng does not read from the connection.
    frame_stall_timeout(timeout: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Sets how many bytes of an unfinished frame have to arrive in each
    /// [`frame_stall_timeout`](Self::frame_stall_timeout). Default: 1024.
    frame_stall_bytes(bytes: u64): u64 = 1024;

    /// Sets how long the peer may accept no queued byte before the connection is closed with the cause
    /// [`WriteStalled`](crate::DisconnectCause::WriteStalled). More than 49 days means no limit. Default: `None`, no
    /// limit.
    ///
    /// Each accepted byte restarts the timeout, so a slow reader stays connected. Before the connection is closed a
    /// write is tried, because the system accepts bytes long before it reports the socket as writable.
    ///
    /// A peer accepts bytes in steps, in which its system announces room: up to half of its receive buffer, which Linux
    /// grows to some MiB for a peer that was fast. A peer that needs longer than the timeout for a step looks stalled:
    /// with 30 s, a peer that reads less than about 100 kB/s after it was fast.
    write_stall_timeout(timeout: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Lets the kernel probe a connection on which nothing has arrived for this long, and again after every quarter of
    /// it. After four probes without an answer the connection ends with the cause
    /// [`Network`](crate::DisconnectCause::Network), so a peer whose machine is unreachable is detected after twice the
    /// time. Rounded up to seconds; at most 32,767 s (9 hours). Default: `None`, no probes.
    ///
    /// Use it for peers that may be silent for long and should stay connected while they are reachable. For peers that
    /// have to send something regularly, prefer [`idle_timeout`](Self::idle_timeout). On platforms that cannot set
    /// these times, listening and connecting fail with `Unsupported`.
    keepalive(after: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Lets the kernel end a connection on which written bytes were not acknowledged for this long, with the cause
    /// [`Network`](crate::DisconnectCause::Network) (`TCP_USER_TIMEOUT`). Rounded up to milliseconds; at most
    /// 2,147,483,647 ms (24 days). Default: `None`, the system's timeout, which may be a quarter of an hour.
    ///
    /// It also ends the connection of a reachable peer that does not read, once its buffers are full. It detects an
    /// unreachable peer even if all unacknowledged bytes fit into the kernel, where
    /// [`write_stall_timeout`](Self::write_stall_timeout) detects nothing. Linux only; elsewhere listening and
    /// connecting fail with `Unsupported`.
    user_timeout(after: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Sets the size of the kernel's send buffer, in bytes (`SO_SNDBUF`). From 1 byte to 2 GiB - 1; the system may
    /// round it up or cap it, and Linux doubles it for its own bookkeeping. Default: `None`, sized by the system: Linux
    /// grows the buffer up to some MiB while the peer reads.
    ///
    /// Data in this buffer can no longer be replaced by [`send_latest`](crate::Net::send_latest), and does not count as
    /// queued. A small buffer therefore keeps data fresh, but limits the throughput to one buffer per round trip.
    /// [`max_unsent_in_kernel`](Self::max_unsent_in_kernel) costs no throughput, on platforms that support it. A size
    /// that is set is fixed: the system no longer adapts it.
    send_buffer(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// Sets the size of the kernel's receive buffer, in bytes (`SO_RCVBUF`). It also limits the TCP window: how much a
    /// peer can send that is not yet read. From 1 byte to 2 GiB - 1; the system may round it up or cap it, and Linux
    /// doubles it for its own bookkeeping. Default: `None`, sized by the system. A size that is set is fixed: the
    /// system no longer adapts it.
    ///
    /// It is set before listening and connecting. Linux ignores it on Unix domain sockets, where the sender's
    /// [`send_buffer`](Self::send_buffer) is the limit.
    receive_buffer(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// Sets how many bytes the kernel accepts beyond those that it has already sent to the peer (`TCP_NOTSENT_LOWAT`);
    /// the rest stays in the connection's queue. From 1 byte to 2 GiB - 1. Default: `None`, as much as fits into the
    /// send buffer, which may be some MiB.
    ///
    /// Data in the queue can be replaced by [`send_latest`](crate::Net::send_latest) and counts for
    /// [`write_stall_timeout`](Self::write_stall_timeout) and the watermarks; data in the kernel does not. The limit
    /// costs no throughput, because data in flight does not count, but more events and writes. A write that begins
    /// below the limit may exceed it.
    ///
    /// Linux and Android only; elsewhere listening and connecting fail with `Unsupported`. Unix domain sockets have no
    /// such limit and ignore it: set [`send_buffer`](Self::send_buffer) for them.
    max_unsent_in_kernel(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// Sets how long a closing connection waits for its peer to accept the next queued byte and, once everything is
    /// written, to close. Then the connection is dropped with the cause
    /// [`DrainTimedOut`](crate::DisconnectCause::DrainTimedOut). Default: 5 s. [`Duration::MAX`] means no limit; zero
    /// drops the connection in the next turn if the socket has not accepted everything by then.
    ///
    /// Each byte that the peer accepts restarts the timeout; once everything is written, each byte that it sends does.
    /// A slow reader therefore gets its last message. In total a connection closes within 12 times the timeout (1
    /// minute by default).
    ///
    /// Data that is in the kernel's send buffer by then is still delivered, unless the peer sends more, which the
    /// system answers with a reset; [`max_unsent_in_kernel`](Self::max_unsent_in_kernel) keeps this data small. The
    /// timeout applies to [`disconnect`](crate::Net::disconnect), to replies for a peer that has closed its sending
    /// side, and, after a write has failed, to a peer that is still sending.
    disconnect_timeout(timeout: Duration): Duration = Duration::from_secs(5);

    /// Sets whether a connection stays open for late replies when the peer half-closes it.
    ///
    /// [`on_half_close`](crate::Handler::on_half_close) reports the half-close; the connection then stays open until
    /// [`disconnect`](crate::Net::disconnect). Default: false, which means that the queue is flushed and the connection
    /// closed.
    allow_half_open(allow: bool): bool = false;
}

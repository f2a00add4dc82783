//! What can be set for a connection: for all of a loop, for those of a listener, for one that is made.
//!
//! Each setting is named once, below; three types have a setter for it.

#[cfg(test)]
use std::any::Any;
use std::time::Duration;

use super::Config;
use crate::error::OptionsError;
use crate::frame::Framing;

/// The largest size that systems take, in bytes.
const MAX_SIZE: u64 = i32::MAX as u64;

/// What can be measured with the 32 bits of milliseconds that a connection notes, and some hours for a loop that is late.
/// What is longer is never.
const MAX_TIMEOUT: Duration = Duration::from_secs(49 * 24 * 3600);

/// The longest that Linux takes, which is the shortest of all systems: 15 bits of seconds.
const MAX_KEEPALIVE: Duration = Duration::from_secs(i16::MAX as u64);

/// The longest that Linux takes, as a number of milliseconds.
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What becomes of a frame for which a connection's queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// It is refused, with [`SendError::QueueFull`](crate::SendError::QueueFull); the connection goes on.
    /// [`on_drain`](crate::Handler::on_drain) tells when to try again.
    Refuse,
    /// It is refused in the same way, and the connection is ended as a
    /// [`SlowConsumer`](crate::DisconnectCause::SlowConsumer): for streams in which a gap is worse than an end.
    Disconnect,
}

/// The settings of a listener and of the connections it accepts. What is not set is as in the loop's [`Config`].
///
/// ```
/// use throng::{Config, EventLoop, Framing, ListenOptions};
///
/// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
/// let lines = ListenOptions::default().framing(Framing::delimiter(b'\n')).max_frame_len(1024);
/// event_loop.net().listen_with("127.0.0.1:0", lines)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListenOptions {
    connection: Overrides,
    pub(crate) backlog: u32,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
    #[cfg(unix)]
    pub(crate) replace_stale_socket: bool,
    #[cfg(unix)]
    pub(crate) remove_socket_file: bool,
    #[cfg(unix)]
    pub(crate) socket_file_mode: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connection: Overrides::default(),
            backlog: 4096,
            only_v6: false,
            reuse_port: false,
            #[cfg(unix)]
            replace_stale_socket: false,
            #[cfg(unix)]
            remove_socket_file: true,
            #[cfg(unix)]
            socket_file_mode: None,
        }
    }
}

impl ListenOptions {
    /// How many peers may wait to be accepted. Default: 4096, so that a burst of connects is not lost; the system may
    /// cut it (Linux: to `net.core.somaxconn`).
    pub fn backlog(mut self, peers: u32) -> Self {
        self.backlog = peers;
        self
    }

    /// Whether a listener on an IPv6 address refuses IPv4 peers. Default: false: `[::]` takes both, on every platform.
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = only;
        self
    }

    /// Lets several listeners share the address, each getting a part of the peers (`SO_REUSEPORT`). Default: false.
    ///
    /// Where the platform has no such option, listening fails with `Unsupported`.
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Lets [`listen_unix`](crate::Net::listen_unix) replace the file that a server has left which crashed. Default: false,
    /// a file in the way is an error.
    ///
    /// A file is replaced if it is a socket that refuses a connection. A server that is alive may see that attempt as a peer
    /// that leaves at once, and keeps its file. It is no lock: of two servers that start at the same moment the second may
    /// replace the file of the first.
    #[cfg(unix)]
    pub fn replace_stale_socket(mut self, replace: bool) -> Self {
        self.replace_stale_socket = replace;
        self
    }

    /// Removes the file that [`listen_unix`](crate::Net::listen_unix) has made when the listener closes or the loop is
    /// dropped, if it is still the same one. Default: true.
    ///
    /// Turn it off where the socket is passed on to another process, which goes on listening at the path.
    #[cfg(unix)]
    pub fn remove_socket_file(mut self, remove: bool) -> Self {
        self.remove_socket_file = remove;
        self
    }

    /// The permissions of the file that [`listen_unix`](crate::Net::listen_unix) makes, as of `chmod`: `0o660` lets the
    /// owner and the group connect. They are set before a peer can connect. Default: `None`, as the umask has it.
    ///
    /// Linux asks for permission to write when a peer connects; some other systems ignore the mode of the file, so that
    /// only that of its directory protects it.
    #[cfg(unix)]
    pub fn socket_file_mode(mut self, mode: impl Into<Option<u32>>) -> Self {
        self.socket_file_mode = mode.into();
        self
    }

    pub(crate) fn connection(&self, config: &Config) -> Result<ConnectionOptions, OptionsError> {
        self.connection.over(&config.connection)
    }
}

/// The settings of an outbound connection. What is not set is as in the loop's [`Config`].
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    connection: Overrides,
    pub(crate) timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            connection: Overrides::default(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl ConnectOptions {
    /// How long establishing the connection may take. Default: 10 s, where operating systems try for minutes.
    /// [`Duration::MAX`] leaves it to the operating system. With zero, an attempt fails in the next turn unless it has
    /// succeeded by then.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn connection(&self, config: &Config) -> Result<ConnectionOptions, OptionsError> {
        self.connection.over(&config.connection)
    }
}

/// Makes of each setting a field, an override, and a setter of `Config`, `ListenOptions` and `ConnectOptions`.
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
            /// Each setting with its name, so that a test can try all of one type and forget none.
            pub(super) fn fields(&mut self) -> Vec<(&'static str, &mut dyn Any)> {
                vec![$((stringify!($name), &mut self.$name as &mut dyn Any),)*]
            }
        }

        /// What differs from the settings of the loop.
        #[derive(Debug, Clone, Default)]
        struct Overrides {
            $($name: Option<$type>,)*
        }

        impl Overrides {
            fn over(&self, base: &ConnectionOptions) -> Result<ConnectionOptions, OptionsError> {
                let mut options = ConnectionOptions {
                    $($name: self.$name.as_ref().unwrap_or(&base.$name).clone(),)*
                };
                // A limit meant for all says nothing of a framing that cannot even reach it.
                if self.max_frame_len.is_none() {
                    let reach = options.framing.max_payload_len();
                    options.max_frame_len = options.max_frame_len.min(reach);
                }
                options.validate()?;
                options.forget_what_never_comes();
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
    /// How the byte stream is cut into frames. Default: [`Framing::length_prefix`], a little-endian `u32`.
    framing(framing: impl Into<Framing>): Framing = Framing::default();

    /// The longest payload, in bytes, in both directions. A peer that exceeds it is disconnected as soon as the
    /// header is known; a send that exceeds it is refused. Default: what the framing can say.
    ///
    /// It does not apply to [`Framing::raw`], which has no frames to limit.
    max_frame_len(bytes: u64): u64 = u64::MAX;

    /// Frames with a payload of more than so many bytes are not held, but given to
    /// [`on_chunk`](crate::Handler::on_chunk) piece by piece as they arrive, in constant memory. Default: `u64::MAX`, all
    /// frames arrive whole.
    ///
    /// It does not apply to [`Framing::raw`], nor to [`custom`](Framing::custom) formats that find the length of a frame
    /// only at its end.
    stream_frames_over(bytes: u64): u64 = u64::MAX;

    /// How much may wait to be written to a connection, in bytes, headers included. Default: 16 MiB. What the kernel has taken
    /// does not count: up to some MiB per connection, unless [`send_buffer`](Self::send_buffer) limits it.
    ///
    /// A frame is accepted as long as less than this waits, so that no frame is too large for an empty queue: what
    /// waits may exceed the limit by one frame, and no more. Above it [`overflow`](Self::overflow) decides.
    max_queued_bytes(bytes: u64): u64 = 16 * 1024 * 1024;

    /// What becomes of a frame above [`max_queued_bytes`](Self::max_queued_bytes). Default: [`Overflow::Refuse`].
    overflow(policy: Overflow): Overflow = Overflow::Refuse;

    /// A connection for which more than this waits to be written, in bytes, is under backpressure: reading from it stops
    /// (unless [`read_under_backpressure`](Self::read_under_backpressure) is set, as for outbound connections), and
    /// [`on_drain`](crate::Handler::on_drain) will tell when that is over. Default: 1 MiB, a burst of any usual size, or
    /// [`max_queued_bytes`](Self::max_queued_bytes) if that is less.
    high_watermark(bytes: u64): Option<u64> = None;

    /// When no more than this waits to be written, in bytes, backpressure is over. Default: a quarter of the
    /// [`high_watermark`](Self::high_watermark), which keeps the socket busy until more is sent.
    low_watermark(bytes: u64): Option<u64> = None;

    /// Whether a peer that does not read what it is sent is still read. Default: outbound connections are, inbound and
    /// [adopted](crate::Net::adopt) ones are not.
    ///
    /// A server that answers each frame with one, as an echo server does, stays within its limits if it stops reading from
    /// a peer that does not drain its answers. Such a peer waits until it has read. If both sides did that they would wait
    /// for each other for ever: each with a full queue, each not reading until its own queue has drained. So the side that
    /// asks, usually the one that connected, goes on reading.
    ///
    /// Set it to `true` where a peer must be heard all the time, and on the asking side of an adopted stream: then
    /// [`max_queued_bytes`](Self::max_queued_bytes) alone limits what is queued. Set it to `false` on an outbound connection
    /// whose peer sends requests that are answered.
    read_under_backpressure(read: bool): Option<bool> = None;

    /// How long a connection may be without a byte in either direction, before it is ended as
    /// [`Idle`](crate::DisconnectCause::Idle). More than 49 days is no limit. Default: `None`, no limit.
    ///
    /// Before it is ended, a read and a write are tried: bytes that have arrived in the kernel count. Bytes that the kernel is
    /// still sending do not: a peer that reads a reply of some MiB more slowly than this looks idle, unless
    /// [`max_unsent_in_kernel`](Self::max_unsent_in_kernel) or [`send_buffer`](Self::send_buffer) limits what the kernel
    /// takes.
    ///
    /// The time stands still while the connection is not read because it is [paused](crate::Net::pause) or under
    /// backpressure.
    idle_timeout(timeout: impl Into<Option<Duration>>): Option<Duration> = None;

    /// The period in which a frame that was begun has to grow by [`frame_stall_bytes`](Self::frame_stall_bytes), or to be
    /// complete: else the connection is ended as [`FrameStalled`](crate::DisconnectCause::FrameStalled). More than
    /// 49 days is no limit. Default: `None`, no limit.
    ///
    /// It is what rids a server of peers that send a byte now and then to stay (slowloris), and lets a slow uploader go
    /// on as long as it is honest. The time stands still while the connection is not read.
    frame_stall_timeout(timeout: impl Into<Option<Duration>>): Option<Duration> = None;

    /// How much of an unfinished frame has to arrive in each [`frame_stall_timeout`](Self::frame_stall_timeout), in
    /// bytes. Default: 1024.
    frame_stall_bytes(bytes: u64): u64 = 1024;

    /// How long the peer may take nothing of what is queued, before the connection is ended as
    /// [`WriteStalled`](crate::DisconnectCause::WriteStalled). More than 49 days is no limit. Default: `None`, no limit.
    ///
    /// Any byte it takes restarts the time: a slow reader stays. Before the connection is ended a write is tried, because
    /// the system takes bytes long before it reports that it would. A peer takes bytes in the steps in which its system
    /// announces room: up to half of its receive buffer, which Linux grows to some MiB for a peer that was fast. A peer that
    /// takes longer than the timeout for a step looks stalled: with 30 s, one that reads less than about 100 kB/s after it was
    /// fast.
    write_stall_timeout(timeout: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Lets the kernel probe a connection on which nothing has arrived for so long, and every quarter of that again; after
    /// four probes without an answer it ends, as [`Network`](crate::DisconnectCause::Network): a peer whose machine is
    /// gone is noticed after twice the time. Rounded up to seconds; at most 32,767 s (9 hours). Default: `None`, no probes.
    ///
    /// For peers that may be silent for long and should be kept as long as they are there; one that has to say something
    /// now and then is better served by [`idle_timeout`](Self::idle_timeout). Where the platform cannot be told these
    /// times, listening and connecting fail with `Unsupported`.
    keepalive(after: impl Into<Option<Duration>>): Option<Duration> = None;

    /// Lets the kernel end a connection on which bytes were written and not acknowledged for so long, as
    /// [`Network`](crate::DisconnectCause::Network) (`TCP_USER_TIMEOUT`). Rounded up to milliseconds; at most
    /// 2,147,483,647 ms (24 days). Default: `None`, what the system does, which may be a quarter of an hour.
    ///
    /// A peer that is there and does not read counts as well, once its buffers are full. It notices that a peer's machine is
    /// gone also while little enough waits to be in the kernel altogether, where
    /// [`write_stall_timeout`](Self::write_stall_timeout) sees nothing. Linux only; elsewhere listening and connecting
    /// fail with `Unsupported`.
    user_timeout(after: impl Into<Option<Duration>>): Option<Duration> = None;

    /// The size of the kernel's send buffer, in bytes (`SO_SNDBUF`). From 1 byte to 2 GiB - 1; the system may round it up
    /// or cap it, and Linux doubles it for its own bookkeeping. Default: `None`, as the system does it: Linux grows the
    /// buffer up to some MiB while the peer reads.
    ///
    /// What is in this buffer can no longer be replaced by [`send_latest`](crate::Net::send_latest), and does not count as
    /// queued. A small buffer therefore keeps data fresh, and limits the throughput to one buffer per round trip.
    /// [`max_unsent_in_kernel`](Self::max_unsent_in_kernel) costs no throughput, where the platform has it. A size that is
    /// set is fixed: the system no longer adapts it.
    send_buffer(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// The size of the kernel's receive buffer, in bytes (`SO_RCVBUF`), which also limits the TCP window: how much a peer
    /// can send that is not read. From 1 byte to 2 GiB - 1; the system may round it up or cap it, and Linux doubles it for
    /// its own bookkeeping. Default: `None`, as the system does it. A size that is set is fixed: the system no longer
    /// adapts it.
    ///
    /// It is set before listening and connecting. Linux ignores it on Unix domain sockets, where the sender's
    /// [`send_buffer`](Self::send_buffer) is the limit.
    receive_buffer(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// How many bytes the kernel takes beyond those that it has already sent to the peer (`TCP_NOTSENT_LOWAT`); the rest
    /// waits in the connection's queue. From 1 byte to 2 GiB - 1. Default: `None`, as much as fits into the send buffer,
    /// which may be some MiB.
    ///
    /// What waits in the queue can be replaced by [`send_latest`](crate::Net::send_latest) and is seen by
    /// [`write_stall_timeout`](Self::write_stall_timeout) and the watermarks; what is in the kernel is not. It costs no
    /// throughput, since what is on its way to the peer does not count, but more events and writes. A write that begins
    /// below the limit may pass it.
    ///
    /// Linux and Android only; elsewhere listening and connecting fail with `Unsupported`. Unix domain sockets have no such
    /// limit and ignore it: there, set [`send_buffer`](Self::send_buffer).
    max_unsent_in_kernel(bytes: impl Into<Option<u64>>): Option<u64> = None;

    /// How long a closing connection waits for its peer: to take the next byte of what is queued and, once everything is
    /// written, to close. Then the connection is dropped, as
    /// [`DrainTimedOut`](crate::DisconnectCause::DrainTimedOut). Default: 5 s. [`Duration::MAX`] is no limit;
    /// zero drops the connection in the next turn if the socket has not accepted everything by then.
    ///
    /// Each byte that the peer takes restarts the time, and when everything is written each byte that it sends: a slow reader
    /// gets its last message. All in all a connection closes within 12 times the timeout (1 minute by default). What is in
    /// the kernel's send buffer by then is still delivered, unless the peer sends more, which the system answers with a
    /// reset; [`max_unsent_in_kernel`](Self::max_unsent_in_kernel) keeps it small. The timeout applies to [`disconnect`](crate::Net::disconnect),
    /// to replies for a peer that has closed its sending side, and, after a write has failed, to a peer that is still
    /// sending.
    disconnect_timeout(timeout: Duration): Duration = Duration::from_secs(5);

    /// Keeps the connection when the peer closes its sending side, for late replies.
    ///
    /// [`on_half_close`](crate::Handler::on_half_close) tells of it; from then on the connection lasts until
    /// [`disconnect`](crate::Net::disconnect). Default: false, the queue is flushed and the connection closed.
    allow_half_open(allow: bool): bool = false;
}

impl ConnectionOptions {
    /// Finds settings that contradict each other.
    pub(crate) fn validate(&self) -> Result<(), OptionsError> {
        let framing_max = self.framing.max_payload_len();
        if self.max_frame_len != u64::MAX && self.max_frame_len > framing_max {
            return Err(OptionsError::MaxFrameLenTooWide {
                max_frame_len: self.max_frame_len,
                framing_max,
            });
        }
        let timeouts = [
            ("idle_timeout", self.idle_timeout, Duration::MAX),
            (
                "frame_stall_timeout",
                self.frame_stall_timeout,
                Duration::MAX,
            ),
            (
                "write_stall_timeout",
                self.write_stall_timeout,
                Duration::MAX,
            ),
            ("keepalive", self.keepalive, MAX_KEEPALIVE),
            ("user_timeout", self.user_timeout, MAX_USER_TIMEOUT),
        ];
        for (setting, timeout, max) in timeouts {
            match timeout {
                Some(Duration::ZERO) => return Err(OptionsError::ZeroTimeout { setting }),
                Some(timeout) if timeout > max => {
                    return Err(OptionsError::TimeoutTooLong {
                        setting,
                        timeout,
                        max,
                    });
                }
                _ => {}
            }
        }
        let sizes = [
            ("send_buffer", self.send_buffer),
            ("receive_buffer", self.receive_buffer),
            ("max_unsent_in_kernel", self.max_unsent_in_kernel),
        ];
        for (setting, bytes) in sizes {
            if let Some(bytes) = bytes.filter(|bytes| !(1..=MAX_SIZE).contains(bytes)) {
                let (min, max) = (1, MAX_SIZE);
                return Err(OptionsError::SizeOutOfRange {
                    setting,
                    bytes,
                    min,
                    max,
                });
            }
        }
        let (low_watermark, high_watermark) = (self.low(), self.high());
        if low_watermark >= high_watermark || high_watermark > self.max_queued_bytes {
            return Err(OptionsError::WatermarksOutOfOrder {
                low_watermark,
                high_watermark,
                max_queued_bytes: self.max_queued_bytes,
            });
        }
        Ok(())
    }

    /// Timeouts that are too long to be measured are none.
    fn forget_what_never_comes(&mut self) {
        for timeout in [
            &mut self.idle_timeout,
            &mut self.frame_stall_timeout,
            &mut self.write_stall_timeout,
        ] {
            *timeout = timeout.filter(|timeout| *timeout <= MAX_TIMEOUT);
        }
    }

    /// The high watermark, in bytes.
    pub(crate) fn high(&self) -> u64 {
        self.high_watermark
            .unwrap_or(self.max_queued_bytes.min(1024 * 1024))
    }

    /// From so many bytes on a connection is congested: more than the high watermark, or as much as may wait at all.
    pub(crate) fn congested_from(&self) -> u64 {
        let above = self.high().saturating_add(1);
        above.min(self.max_queued_bytes)
    }

    /// The low watermark, in bytes.
    pub(crate) fn low(&self) -> u64 {
        self.low_watermark.unwrap_or(self.high() / 4)
    }
}

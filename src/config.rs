//! What can be set: for the loop, for a listener, for an outbound connection. Units, defaults, and why they are so.

use std::time::Duration;

use crate::error::OptionsError;
use crate::frame::Framing;

/// The settings of a loop. What concerns single connections is in [`ListenOptions`] and [`ConnectOptions`].
///
/// ```
/// use throng::{Config, EventLoop};
///
/// let event_loop = EventLoop::new(Config::default().max_connections(10_000))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) max_connections: usize,
    pub(crate) read_buffer: usize,
    pub(crate) read_budget: usize,
    pub(crate) write_budget: usize,
    pub(crate) accepts_per_turn: usize,
    pub(crate) events_per_poll: usize,
    pub(crate) accept_retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: crate::connection_id::MAX_SLOTS,
            read_buffer: 64 * 1024,
            read_budget: 256 * 1024,
            write_budget: 1024 * 1024,
            accepts_per_turn: 64,
            events_per_poll: 1024,
            accept_retry: Duration::from_millis(100),
        }
    }
}

impl Config {
    /// How many connections the loop has at most, inbound and outbound together.
    ///
    /// A peer above it is accepted and closed at once, logged and counted; [`connect`](crate::Net::connect) gives an
    /// error. Default: 2^30, so that only the limit on open files counts.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.min(crate::connection_id::MAX_SLOTS);
        self
    }

    /// The size of the one read buffer that all connections of the loop share, in bytes; at least 512.
    ///
    /// A frame that fits is handed over where it lies. Default: 64 KiB. Smaller costs system calls (4 KiB: three
    /// quarters of the throughput at frames of 4 KiB), larger costs cache.
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes.max(512);
        self
    }

    /// How much is read from one connection before the others have their turn, in bytes. Default: 256 KiB.
    pub fn read_budget(mut self, bytes: usize) -> Self {
        self.read_budget = bytes.max(1);
        self
    }

    /// How much is written to one connection before the others have their turn, in bytes. Default: 1 MiB.
    pub fn write_budget(mut self, bytes: usize) -> Self {
        self.write_budget = bytes.max(1);
        self
    }

    /// How many peers one listener accepts before the connections have their turn. Default: 64.
    pub fn accepts_per_turn(mut self, accepts: usize) -> Self {
        self.accepts_per_turn = accepts.max(1);
        self
    }

    /// How many events one poll brings at most. Default: 1024; from 256 on it makes no difference in speed.
    pub fn events_per_poll(mut self, events: usize) -> Self {
        self.events_per_poll = events.max(1);
        self
    }

    /// How long accepting pauses when the system has no descriptor or memory for another connection. It is resumed
    /// earlier when a connection closes. Default: 100 ms.
    pub fn accept_retry(mut self, pause: Duration) -> Self {
        self.accept_retry = pause;
        self
    }
}

/// What every connection has, wherever it comes from.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionOptions {
    pub(crate) framing: Framing,
    pub(crate) max_frame_len: u64,
    pub(crate) disconnect_timeout: Duration,
    pub(crate) allow_half_open: bool,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            framing: Framing::default(),
            max_frame_len: u64::MAX,
            disconnect_timeout: Duration::from_secs(5),
            allow_half_open: false,
        }
    }
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
        Ok(())
    }
}

/// The setters that listeners and outbound connections share.
macro_rules! connection_setters {
    () => {
        /// How the byte stream is cut into frames. Default: [`Framing::length_prefix`], a little-endian `u32`.
        pub fn framing(mut self, framing: impl Into<Framing>) -> Self {
            self.connection.framing = framing.into();
            self
        }

        /// The longest payload, in bytes, in both directions. A peer that exceeds it is disconnected as soon as the
        /// header is known; a send that exceeds it is refused. Default: what the framing can say.
        ///
        /// It does not apply to [`Framing::raw`], which has no frames to limit.
        pub fn max_frame_len(mut self, bytes: u64) -> Self {
            self.connection.max_frame_len = bytes;
            self
        }

        /// How long a [`disconnect`](crate::Net::disconnect) may take to flush the queue and to see the peer close,
        /// before the connection is dropped. Default: 5 s.
        pub fn disconnect_timeout(mut self, timeout: Duration) -> Self {
            self.connection.disconnect_timeout = timeout;
            self
        }

        /// Keeps the connection when the peer closes its sending side, for late replies.
        ///
        /// [`on_half_close`](crate::Handler::on_half_close) tells of it; from then on the connection lasts until
        /// [`disconnect`](crate::Net::disconnect). Default: false, the queue is flushed and the connection closed.
        pub fn allow_half_open(mut self, allow: bool) -> Self {
            self.connection.allow_half_open = allow;
            self
        }
    };
}

/// The settings of a listener and of the connections it accepts.
///
/// ```
/// use throng::{Config, EventLoop, Framing, ListenOptions};
///
/// let mut event_loop = EventLoop::new(Config::default())?;
/// let lines = ListenOptions::default().framing(Framing::delimiter(b'\n')).max_frame_len(1024);
/// event_loop.net().listen_with("127.0.0.1:0", lines)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListenOptions {
    pub(crate) connection: ConnectionOptions,
    pub(crate) backlog: u32,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions::default(),
            backlog: 4096,
            only_v6: false,
            reuse_port: false,
        }
    }
}

impl ListenOptions {
    connection_setters!();

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
}

/// The settings of an outbound connection.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(crate) connection: ConnectionOptions,
    pub(crate) timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions::default(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl ConnectOptions {
    connection_setters!();

    /// How long establishing the connection may take. Default: 10 s, where operating systems try for minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

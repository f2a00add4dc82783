//! The settings of a loop, with units, defaults and reasons.
//!
//! Settings of single connections are in [`connection`]. They are set here for all connections of a loop, and there for
//! those of one listener or for one outbound connection.

mod check;
mod connection;
mod hardened;
mod open;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use crate::error::OptionsError;

pub(crate) use connection::ConnectionOptions;
pub use connection::{Excess, Overflow};
pub use open::{ConnectOptions, ListenOptions};
#[cfg(feature = "tls")]
pub(crate) use tls::Security;

/// The settings of a loop, and of all its connections unless [`ListenOptions`] or [`ConnectOptions`] override them.
///
/// ```
/// use std::time::Duration;
/// use throng::{Config, EventLoop, ListenOptions};
///
/// let config = Config::default().max_connections(10_000).max_frame_len(64 * 1024);
/// let mut event_loop: EventLoop = EventLoop::new(config)?;
/// // Like the loop's other connections, but with frames of up to a gigabyte.
/// let uploads = ListenOptions::default().max_frame_len(1 << 30);
/// event_loop.net().listen_with("127.0.0.1:0", uploads)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) connection: ConnectionOptions,
    pub(crate) max_connections: usize,
    pub(crate) accept_again_below: Option<usize>,
    pub(crate) max_connections_per_ip: Option<usize>,
    pub(crate) max_accepts_per_second_per_ip: Option<u64>,
    pub(crate) memory_budget: u64,
    pub(crate) read_buffer: usize,
    pub(crate) read_budget: usize,
    pub(crate) turn_budget: u64,
    pub(crate) frames_per_turn: u64,
    pub(crate) write_budget: usize,
    pub(crate) accepts_per_turn: usize,
    pub(crate) events_per_poll: usize,
    pub(crate) max_pending_commands: u64,
    pub(crate) max_pending_bytes: u64,
    pub(crate) commands_per_turn: usize,
    pub(crate) timers_per_turn: usize,
    pub(crate) accept_retry: Duration,
    pub(crate) slow_callback: Option<Duration>,
    pub(crate) busy_poll: Duration,
    #[cfg(feature = "tls")]
    pub(crate) handshakes_per_turn: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions::default(),
            max_connections: crate::connection_id::MAX_SLOTS,
            accept_again_below: None,
            max_connections_per_ip: None,
            max_accepts_per_second_per_ip: None,
            memory_budget: u64::MAX,
            read_buffer: 256 * 1024,
            read_budget: 1024 * 1024,
            turn_budget: 8 * 1024 * 1024,
            frames_per_turn: 512,
            write_budget: 1280 * 1024,
            accepts_per_turn: 64,
            events_per_poll: 1024,
            max_pending_commands: 64 * 1024,
            max_pending_bytes: 16 * 1024 * 1024,
            commands_per_turn: 4096,
            timers_per_turn: 4096,
            accept_retry: Duration::from_millis(100),
            slow_callback: None,
            busy_poll: Duration::ZERO,
            #[cfg(feature = "tls")]
            handshakes_per_turn: tls::HANDSHAKES_PER_TURN,
        }
    }
}

#[cfg(test)]
impl Config {
    /// Returns each setting with its name, so that a test can try all settings of a type.
    pub(crate) fn fields(&mut self) -> Vec<(&'static str, &mut dyn std::any::Any)> {
        macro_rules! fields {
            ($($name:ident),* $(,)?) => {{
                let Self { connection, $($name,)* #[cfg(feature = "tls")] handshakes_per_turn } = self;
                let mut fields = connection.fields();
                $(fields.push((stringify!($name), $name));)*
                #[cfg(feature = "tls")]
                fields.push(("handshakes_per_turn", handshakes_per_turn));
                fields
            }};
        }
        fields![
            max_connections,
            accept_again_below,
            max_connections_per_ip,
            max_accepts_per_second_per_ip,
            memory_budget,
            read_buffer,
            read_budget,
            turn_budget,
            frames_per_turn,
            write_budget,
            accepts_per_turn,
            events_per_poll,
            max_pending_commands,
            max_pending_bytes,
            commands_per_turn,
            timers_per_turn,
            accept_retry,
            slow_callback,
            busy_poll,
        ]
    }
}

impl Config {
    /// Returns an error if settings contradict each other.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        ListenOptions::default().connection(self).map(|_| ())
    }

    /// Sets the maximum number of connections of the loop, inbound and outbound together.
    ///
    /// A peer above the limit is accepted and closed at once, logged and counted; [`connect`](crate::Net::connect)
    /// returns an error. Peers whose PROXY header is awaited count as connections. Default: 2^30, so that only the limit on open files applies.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.min(crate::connection_id::MAX_SLOTS);
        self
    }

    /// Lets a loop that has reached [`max_connections`](Self::max_connections) accept peers again only when it has
    /// fewer connections than this. Default: `None`, which means as soon as one connection closes.
    pub fn accept_again_below(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.accept_again_below = connections.into();
        self
    }

    /// Sets the maximum number of inbound connections from one address. With IPv6 a /64 network counts as one address,
    /// because a single customer usually has a whole /64. Link-local addresses (`fe80::/10`) count individually, per
    /// link. A peer above the limit is accepted and closed at once, logged and counted. Default: `None`, no limit.
    ///
    /// Mobile networks and office routers put many people behind one address, so a limit of one is too low.
    pub fn max_connections_per_ip(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections_per_ip = connections.into();
        self
    }

    /// Sets how many peers may connect from one address per second; at least 1. Addresses are counted as for
    /// [`max_connections_per_ip`](Self::max_connections_per_ip). One second's worth may come at once, for example when
    /// all clients of an office reconnect. A peer above the limit is accepted and closed at once, logged and counted.
    /// Default: `None`, no limit.
    ///
    /// Peers that are refused for another reason do not count, except those that
    /// [`on_accept`](crate::Handler::on_accept) refuses.
    pub fn max_accepts_per_second_per_ip(mut self, accepts: impl Into<Option<u64>>) -> Self {
        self.max_accepts_per_second_per_ip = accepts.into().map(|accepts| accepts.max(1));
        self
    }

    /// Limits the memory of all connections together, in bytes: what is queued for them, and the received part of
    /// incomplete frames. Default: no limit.
    ///
    /// If it is exceeded, throng first writes as much as the sockets accept. If that is not enough, it closes as few
    /// connections as possible, with the cause [`MemoryBudget`](crate::DisconnectCause::MemoryBudget): those that free
    /// the most memory. Only received bytes count, not the announced length of a frame.
    ///
    /// A payload [shared](crate::Net::send_bytes) by several queues counts once, and is freed when the last of them has
    /// written it. Its readers are closed last, and only those to which nothing was written for a second: a large
    /// broadcast closes no connection whose peer reads it. A payload that was passed to the handler does not count.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// Sets the size of the read buffer, which all connections of the loop share, in bytes; at least 512.
    ///
    /// A frame that fits is passed to the handler in place. Default: 256 KiB, of which only connections with much input
    /// use more than 64 KiB. A smaller buffer costs system calls (4 KiB: three quarters of the throughput at frames of 4
    /// KiB).
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes.max(512);
        self
    }

    /// Sets the most bytes read from a connection before other ready connections are served; at least 512. Default: 1
    /// MiB, so that a frame of this size takes few calls.
    ///
    /// A single read returns this much only inside a frame that is longer than the [`read_buffer`](Self::read_buffer). A
    /// connection is read again until the budget is used up, or that of the [turn](Self::turn_budget), or until its socket
    /// is empty.
    ///
    /// This applies to heavy connections, which have used half of their last opportunity or more. A light connection is
    /// served before them. It is read once, and becomes heavy if that returns 32 KiB or more, or if 32 KiB are queued for
    /// it when its socket is full. While [light connections send](Self::turn_budget), 4 KiB are enough.
    pub fn read_budget(mut self, bytes: usize) -> Self {
        self.read_budget = bytes.max(512);
        self
    }

    /// Sets the work after which a turn serves no further heavy connection, in bytes that are read and written; each frame
    /// that is received or sent counts as 128 bytes more. The next turn then serves connections with new events first, and
    /// continues where this one has stopped. At least one heavy connection is served in each turn. Default: 8 MiB, which
    /// takes one or two milliseconds plus the time of the callbacks.
    ///
    /// A light connection waits for one such budget, and for what the last service exceeds it by, however many heavy
    /// connections there are. For a second after a light connection has sent less than 4 KiB, the budget is an eighth of
    /// this, at most 128 KiB, and no more than that (but at least 4 KiB) is read from or written to a heavy connection at
    /// once. So light connections wait less, and heavy ones that send large frames reach up to a third less throughput.
    pub fn turn_budget(mut self, bytes: u64) -> Self {
        self.turn_budget = bytes;
        self
    }

    /// Sets the most frames of a connection that are handled before all other ready connections are served; at least 1.
    /// Default: 512, which take some tens of microseconds plus the time of the callbacks. Frames that were read and not
    /// handled are kept until then.
    pub fn frames_per_turn(mut self, frames: usize) -> Self {
        self.frames_per_turn = frames.max(1) as u64;
        self
    }

    /// Sets the most bytes written to a connection before all other ready connections are served; at least 512.
    /// Default: 1.25 MiB, so that a frame of 1 MiB takes one call.
    pub fn write_budget(mut self, bytes: usize) -> Self {
        self.write_budget = bytes.max(512);
        self
    }

    /// Sets the most peers that a listener accepts before the connections are served; at least 1. Default: 64.
    pub fn accepts_per_turn(mut self, accepts: usize) -> Self {
        self.accepts_per_turn = accepts.max(1);
        self
    }

    /// Sets the most events that one poll returns; from 1 to 65,536. Default: 1024; from 256 on the value makes no
    /// difference in speed.
    pub fn events_per_poll(mut self, events: usize) -> Self {
        self.events_per_poll = events.clamp(1, 65_536);
        self
    }

    /// Sets the most commands of [`Handle`](crate::Handle)s that can be pending; from 1 to 8,388,607. Default: 65,536,
    /// some MiB of memory. While threads are blocked because the mailbox is full, [`try_`
    /// forms](crate::Handle#when-there-is-no-room) can exceed it by a sixteenth.
    pub fn max_pending_commands(mut self, commands: u64) -> Self {
        self.max_pending_commands = commands;
        self
    }

    /// Sets the most bytes of payload in pending commands of [`Handle`](crate::Handle)s; from 1 to 512 GiB. A command
    /// is accepted while fewer bytes than this are pending, so no payload is too large. Default: 16 MiB. While threads
    /// are blocked because the mailbox is full, [`try_` forms](crate::Handle#when-there-is-no-room) can exceed it by a
    /// sixteenth.
    pub fn max_pending_bytes(mut self, bytes: u64) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// Sets the most commands of [`Handle`](crate::Handle)s that are run before the connections are served; at least 1.
    /// Default: 4096, about half a millisecond for small sends.
    pub fn commands_per_turn(mut self, commands: usize) -> Self {
        self.commands_per_turn = commands.max(1);
        self
    }

    /// Sets the most user timers that fire in one turn; at least 1. Default: 4096. The rest fire in the next turn,
    /// which follows without blocking.
    pub fn timers_per_turn(mut self, timers: usize) -> Self {
        self.timers_per_turn = timers.max(1);
        self
    }

    /// Sets how long accepting pauses when the system has no file descriptor or memory for another connection. It
    /// resumes earlier if a connection closes. At least 1 ms; [`Duration::MAX`] means that only a closing connection
    /// ends the pause. Default: 100 ms.
    pub fn accept_retry(mut self, pause: Duration) -> Self {
        self.accept_retry = pause.max(Duration::from_millis(1));
        self
    }

    /// Makes an [`EventLoop`](crate::EventLoop) poll without sleeping for this long after its last event, before it waits
    /// for events. Default: zero, off.
    ///
    /// A sleeping thread has to be woken for each event, which takes some microseconds, more on virtual machines. This
    /// setting removes them from the latency, at the price of a processor that is busy for this long after each event. It
    /// is for loops with a processor of their own: where loop and peers share one, it makes both slower. The time in which
    /// nothing comes counts as waited in [`Stats`](crate::Stats).
    ///
    /// Does not apply to a [`Reactor`](crate::Reactor), nor to a loop that is driven by `turn` without waiting: there your
    /// own poll decides. Poll with a timeout of zero until the time has passed.
    pub fn busy_poll(mut self, duration: Duration) -> Self {
        self.busy_poll = duration;
        self
    }

    /// Reports a call of the [`Handler`](crate::Handler) that takes longer than this and thereby delays all other
    /// connections. Such a call is logged with its connection, its name and its duration, and counted in
    /// [`slow_callbacks`](crate::Stats::slow_callbacks). Default: `None`, which means that no call is timed; otherwise
    /// the clock is read twice per call.
    pub fn slow_callback(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.slow_callback = threshold.into();
        self
    }
}

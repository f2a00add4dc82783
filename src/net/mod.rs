//! `Net`: the connections and listeners of a loop, and the operations on them.
//!
//! Holds all state of the loop except the selector and the handler. No method of `Net` calls the handler, so callbacks
//! never nest. [`crate::reactor`] makes all callbacks.
//!
//! One file per group of operations: [`listen`](mod@listen), [`accept`](mod@accept), [`admission`], [`connect`],
//! [`adopt`], [`lifecycle`], [`send`], [`stream`], [`fanout`], [`flush`], [`backpressure`], [`throttle`], [`budget`],
//! [`deadlines`], [`timers`], [`user_sources`], [`shutdown`], [`queries`], [`view`], [`warnings`], [`turn`],
//! [`service`].

mod accept;
mod admission;
mod adopt;
mod backpressure;
mod budget;
mod connect;
mod connections;
mod deadlines;
mod fanout;
mod flush;
#[cfg(debug_assertions)]
mod invariants;
mod lifecycle;
mod listen;
mod queries;
mod replies;
mod send;
mod service;
mod shutdown;
mod slow_callbacks;
mod stream;
mod table;
mod throttle;
mod timers;
mod turn;
mod user_sources;
mod view;
mod warnings;

use std::fmt;
use std::time::{Duration, Instant};

use mio::Registry;

use crate::config::Config;
use crate::connection::Common;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::stats::Stats;
use crate::timers::{TimerKey, Timers};
use crate::work::Work;
use admission::Admissions;
use connections::Connections;
use shutdown::Shutdown;
use table::Table;
use timers::UserTimer;
use warnings::Warnings;

pub(crate) use accept::Accepted;
pub(crate) use admission::Refusal;
pub(crate) use fanout::Encoded;
pub use fanout::SendReport;
use listen::Listener;
pub(crate) use listen::Peer;
pub(crate) use service::{EndOfStream, Input, Received};
pub use timers::{Expired, Timer, TimerId};
pub use view::ConnectionRef;
pub(crate) use warnings::Warning;

/// The connections and listeners of a loop, and all operations on them.
///
/// Every callback receives `&mut Net`; between turns, [`EventLoop::net`](crate::EventLoop::net) returns it. Any method
/// may be called from any callback, for any id. No method makes a callback. Stale ids are ignored: an operation on a
/// closed connection has no effect, and most return `false`, `None` or an error.
///
/// | operation | |
/// |---|---|
/// | **Listening** | |
/// | [`listen`](Self::listen), [`listen_with`](Self::listen_with) | listen on an address |
/// | [`listen_unix`](Self::listen_unix) | listen on the path of a Unix domain socket |
/// | [`adopt_listener`](Self::adopt_listener) | take over a listening socket |
/// | [`close_listener`](Self::close_listener) | stop listening; its connections stay |
/// | **Opening and closing** | |
/// | [`connect`](Self::connect) | connect to a peer |
/// | [`connect_with`](Self::connect_with) | … with options |
/// | [`connect_unix`](Self::connect_unix) | … on a Unix domain socket |
/// | [`adopt`](Self::adopt), [`adopt_with`](Self::adopt_with) | take over a connected stream |
/// | [`disconnect`](Self::disconnect) | close gracefully |
/// | [`disconnect_with`](Self::disconnect_with) | close gracefully with a last frame |
/// | [`half_close`](Self::half_close) | end sending, and keep receiving |
/// | [`abort`](Self::abort) | close immediately, with a reset |
/// | [`release`](Self::release) | detach a connection and return its stream |
/// | **Sending** | |
/// | [`send`](Self::send) | copy a payload into the queue |
/// | [`send_with`](Self::send_with) | encode directly into the queue |
/// | [`send_bytes`](Self::send_bytes) | queue a large payload by reference |
/// | [`send_frame`](Self::send_frame) | forward a received frame |
/// | [`send_latest`](Self::send_latest) | replace the previous frame of a slot |
/// | [`send_many`](Self::send_many), [`broadcast`](Self::broadcast) | send to many connections, encoding once |
/// | [`send_reader`](Self::send_reader) | send from a reader, in constant memory |
/// | [`wake_reader`](Self::wake_reader) | call a reader again that had no data |
/// | [`begin_frame`](Self::begin_frame) | begin a frame that is sent in chunks |
/// | [`push_chunk`](Self::push_chunk) | add a chunk to the open frame |
/// | [`finish_frame`](Self::finish_frame) | end the open frame |
/// | **Receiving and backpressure** | |
/// | [`set_framing`](Self::set_framing) | change how the stream is cut into frames |
/// | [`pause`](Self::pause), [`resume`](Self::resume) | stop and continue reading |
/// | **Queries** | |
/// | [`connection`](Self::connection), [`is_connected`](Self::is_connected) | one connection |
/// | [`connections`](Self::connections) | all established connections |
/// | [`len`](Self::len) | how many are established |
/// | [`is_empty`](Self::is_empty) | whether none is established |
/// | [`local_addr`](Self::local_addr), [`local_path`](Self::local_path) | where a listener listens |
/// | [`memory_in_use`](Self::memory_in_use) | bytes held by all connections |
/// | [`stats`](Self::stats) | counters and gauges |
/// | [`now`](Self::now) | the time of this turn |
/// | **Timers and sources** | |
/// | [`set_timer`](Self::set_timer) | set a timer, for the loop or a connection |
/// | [`cancel_timer`](Self::cancel_timer) | cancel a timer |
/// | [`register`](Self::register) | add your own mio source |
/// | [`reregister`](Self::reregister) | change what is reported of it |
/// | [`deregister`](Self::deregister) | remove it |
/// | **Shutdown** | |
/// | [`shutdown`](Self::shutdown) | close everything gracefully, then stop |
/// | [`is_shutting_down`](Self::is_shutting_down) | whether a shutdown is in progress |
/// | [`stop`](Self::stop), [`is_stopping`](Self::is_stopping) | make `run` return |
pub struct Net {
    config: Config,
    common: Common,
    now: Instant,
    /// The end of the last turn, if it was reported by `note_turn_end`.
    turn_ended: Instant,
    connections: Connections,
    listeners: Table<Listener, ListenerId>,
    work: Work,
    /// The number of connections in phase `Open`.
    open: usize,
    timers: Timers<Deadline>,
    user_timers: Timers<UserTimer>,
    /// Counts the turns in which user timers were fired.
    timer_round: u32,
    admissions: Admissions,
    /// The last turn in which all queues were flushed because the memory budget was exceeded.
    tried_to_write: u64,
    /// The timer that resumes paused listeners; set while any listener waits for a file descriptor.
    accept_retry: Option<TimerKey>,
    trim_scheduled: bool,
    warnings: Warnings,
    /// A connection has left its phase, was held back or changed its framing: a delivery has to look it up again.
    upset: bool,
    shutdown: Option<Shutdown>,
    stopping: bool,
    /// A turn is due although there is no work to do in it, because `stop` or `shutdown` was called.
    turn_is_due: bool,
    /// Commands are left in the mailbox: turns before this one are due without an event.
    mail_until: u64,
    stats: Stats,
}

/// What to do when a deadline passes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// A connection attempt has timed out.
    Connect(ConnectionId, Duration),
    /// The clock of an open connection has to be checked: it may be idle or stalled.
    Check(ConnectionId),
    /// The timeout of a closing connection has passed. While its peer keeps taking bytes it is extended, up to the
    /// instant.
    Drain(ConnectionId, Instant),
    /// Paused listeners try again to accept.
    AcceptRetry,
    /// The timeout of a shutdown has passed.
    Shutdown(Duration),
    /// Warnings were counted and have to be logged.
    Report(Warning),
    /// Unused memory is returned to the allocator.
    Trim,
}

impl Net {
    /// Creates a `Net` without connections, at the time `now`. Sockets are registered with `registry`.
    pub(crate) fn new(registry: Registry, config: Config, now: Instant) -> Self {
        Self {
            config,
            common: Common::new(registry),
            now,
            turn_ended: now,
            connections: Connections::new(),
            listeners: Table::new(),
            work: Work::default(),
            open: 0,
            timers: Timers::new(now),
            user_timers: Timers::new(now),
            timer_round: 0,
            admissions: Admissions::default(),
            tried_to_write: 0,
            accept_retry: None,
            trim_scheduled: false,
            warnings: Warnings::default(),
            upset: false,
            shutdown: None,
            stopping: false,
            turn_is_due: false,
            mail_until: 0,
            stats: Stats::default(),
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.common.registry
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.len())
            .field("ready", &self.work.sources())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

//! `Net`: the connections and listeners of a loop, and the operations on them.
//!
//! Holds all state of the loop except the selector and the handler. No method of `Net` calls the handler, so callbacks
//! never nest. [`crate::reactor`] makes all callbacks.
//!
//! One file per group of operations: [`listen`](mod@listen), [`listeners`], [`listener_view`], [`accept`](mod@accept),
//! [`admission`], [`connect`], [`adopt`], [`lifecycle`], [`send`], [`stream`], [`fanout`], [`flush`], [`backpressure`],
//! [`throttle`], [`budget`], [`deadlines`], [`timers`], [`user_sources`], [`shutdown`], [`queries`], [`view`],
//! [`warnings`], [`turn`], [`service`], [`finish`].

mod accept;
mod admission;
mod adopt;
#[cfg(feature = "proxy")]
mod arrivals;
mod backpressure;
mod budget;
mod connect;
mod connections;
mod deadlines;
mod fanout;
mod finish;
mod flush;
#[cfg(debug_assertions)]
mod invariants;
#[cfg(feature = "sim")]
mod ledger;
mod lifecycle;
mod listen;
mod listener_view;
mod listeners;
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
#[cfg(feature = "tls")]
mod tls;
mod turn;
mod uncopied;
mod user_sources;
mod view;
mod warnings;

use std::fmt;
use std::time::{Duration, Instant};

use mio::Registry;

use crate::config::Config;
use crate::connection::Common;
#[cfg(feature = "proxy")]
use crate::connection_id::ArrivalId;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::stats::Stats;
use crate::timers::Timers;
use crate::work::Work;
use admission::Admissions;
#[cfg(feature = "proxy")]
use arrivals::Arrival;
use connections::Connections;
use shutdown::Shutdown;
use table::Table;
use timers::UserTimers;
use turn::Schedule;
use warnings::Warnings;

pub(crate) use accept::{Accepted, Newcomer};
pub(crate) use admission::Refusal;
#[cfg(feature = "proxy")]
pub(crate) use arrivals::NoHeader;
pub(crate) use fanout::Encoded;
pub use fanout::SendReport;
#[cfg(feature = "sim")]
pub(crate) use ledger::Entry;
use listen::Listener;
pub(crate) use listen::Peer;
pub use listener_view::ListenerRef;
pub(crate) use replies::COPIED_UP_TO;
pub(crate) use service::{Input, Received};
pub use timers::{Expired, Timer, TimerId};
#[cfg(feature = "tls")]
pub use tls::Tls;
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
/// | [`pause_listener`](Self::pause_listener), [`resume_listener`](Self::resume_listener) | let peers wait |
/// | [`release_listener`](Self::release_listener) | detach a listener and return its socket |
/// | [`close_listener`](Self::close_listener) | stop listening; its connections stay |
#[cfg_attr(
    feature = "tls",
    doc = "| [`set_listener_tls`](Self::set_listener_tls) | secure later peers with other certificates |"
)]
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
/// | [`connection_count`](Self::connection_count) | how many are established |
/// | [`listener`](Self::listener) | one listener |
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
    connections: Connections,
    listeners: Table<Listener, ListenerId>,
    #[cfg(feature = "proxy")]
    arrivals: Table<Arrival, ArrivalId>,
    work: Work,
    /// The number of connections in phase `Open`.
    open: usize,
    timers: Timers<Deadline>,
    user_timers: UserTimers,
    admissions: Admissions,
    warnings: Warnings,
    /// A connection has left its phase, was held back or changed its framing: a delivery has to look it up again.
    upset: bool,
    shutdown: Option<Shutdown>,
    schedule: Schedule,
    stats: Stats,
}

/// What to do when a deadline passes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// A connection attempt has timed out.
    Connect(ConnectionId, Duration),
    /// The PROXY header of a peer is late.
    #[cfg(feature = "proxy")]
    Header(ArrivalId, Duration),
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
            common: Common::new(registry.into()),
            now,
            connections: Connections::new(),
            listeners: Table::new(),
            #[cfg(feature = "proxy")]
            arrivals: Table::new(),
            work: Work::default(),
            open: 0,
            timers: Timers::new(now),
            user_timers: UserTimers::new(now),
            admissions: Admissions::default(),
            warnings: Warnings::default(),
            upset: false,
            shutdown: None,
            schedule: Schedule::new(now),
            stats: Stats::default(),
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.common.registry
    }

    /// Opens all sockets in a simulated network from now on.
    #[cfg(feature = "sim")]
    pub(crate) fn simulate(&mut self, port: crate::socket::sim::Port) {
        self.common.registry.simulate(port);
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

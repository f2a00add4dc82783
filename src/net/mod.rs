//! `Net`: the connections and listeners of a loop, and what a callback may do with them.
//!
//! It holds all state of the loop but the selector and the handler. It never calls the handler: no method of `Net`
//! runs a callback, so callbacks never nest. [`crate::reactor`] does that, between turns and nowhere else.
//!
//! One file per group of operations:
//! [`listen`](mod@listen), [`accept`](mod@accept), [`admission`], [`connect`], [`adopt`], [`lifecycle`],
//! [`send`], [`stream`], [`flush`], [`backpressure`], [`budget`],
//! [`deadlines`], [`timers`], [`user_sources`], [`shutdown`], [`queries`], [`warnings`], [`turn`].

mod accept;
mod admission;
mod adopt;
mod backpressure;
mod budget;
mod connect;
mod deadlines;
mod fanout;
mod flush;
#[cfg(debug_assertions)]
mod invariants;
mod lifecycle;
mod listen;
mod queries;
mod send;
mod service;
mod shutdown;
mod slow_callbacks;
mod stats;
mod stream;
mod table;
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
use crate::link::Link;
use crate::timers::{TimerKey, Timers};
use crate::work::Work;
use admission::Admissions;
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
pub(crate) use service::EndOfStream;
pub use stats::Stats;
pub use timers::{Expired, Timer, TimerId};
pub use view::ConnectionRef;
pub(crate) use warnings::Warning;

/// The connections of a loop, and everything that can be done with them.
///
/// A `Net` is lent to every callback, and by [`EventLoop::net`](crate::EventLoop::net) to the owner of the loop between
/// turns. All of its methods may be called from every callback, on every id; none of them runs a callback. An id whose
/// connection is gone does no harm.
pub struct Net {
    config: Config,
    common: Common,
    now: Instant,
    /// When the last turn ended, as far as that was noted.
    turn_ended: Instant,
    connections: Table<Link, ConnectionId>,
    listeners: Table<Listener, ListenerId>,
    work: Work,
    /// Connections in phase `Open`.
    open: usize,
    timers: Timers<Deadline>,
    user_timers: Timers<UserTimer>,
    /// Counts the turns in which they have fired.
    timer_round: u32,
    admissions: Admissions,
    /// The turn in which everything queued was last tried to be written for the sake of memory.
    tried_to_write: u64,
    /// Some listener waits for a descriptor to become free; this ends its patience.
    accept_retry: Option<TimerKey>,
    trim_scheduled: bool,
    warnings: Warnings,
    /// Some connection has left its phase or changed its framing: who delivers to one has to look at it anew.
    upset: bool,
    shutdown: Option<Shutdown>,
    stopping: bool,
    /// Something was asked for that has to be seen in a turn, though there is nothing to do in it.
    turn_is_due: bool,
    /// Commands were left over in the mailbox: turns before this one are due without an event.
    mail_until: u64,
    stats: Stats,
}

/// What is to happen at an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// An attempt to connect has had its time.
    Connect(ConnectionId, Duration),
    /// An open connection may have been idle, or without progress, for too long.
    Check(ConnectionId),
    /// A closing connection has had its time, unless its peer goes on to take bytes: then it may go on until the instant.
    Drain(ConnectionId, Instant),
    /// Listeners that paused try again.
    AcceptRetry,
    /// A shutdown has had its time.
    Shutdown(Duration),
    /// Warnings were counted, which is to be logged.
    Report(Warning),
    /// Unused memory goes back to the allocator.
    Trim,
}

impl Net {
    /// No connections, at the time `now`. Sockets are registered with `registry`.
    pub(crate) fn new(registry: Registry, config: Config, now: Instant) -> Self {
        Self {
            config,
            common: Common::new(registry),
            now,
            turn_ended: now,
            connections: Table::new(),
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

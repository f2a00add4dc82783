//! `Net`: the connections and listeners of a loop, and what a callback may do with them.
//!
//! It holds all state of the loop but the selector and the handler. It never calls the handler: no method of `Net`
//! runs a callback, so callbacks never nest. [`crate::dispatch`] does that, between turns and nowhere else.
//!
//! One file per group of operations:
//! [`listen`](mod@listen), [`accept`](mod@accept), [`admission`], [`connect`], [`adopt`], [`lifecycle`],
//! [`send`], [`stream`], [`flush`], [`backpressure`], [`budget`],
//! [`deadlines`], [`timers`], [`foreign`], [`shutdown`], [`ask`], [`warnings`], [`turn`].

mod accept;
mod admission;
mod adopt;
mod ask;
mod backpressure;
mod budget;
mod connect;
mod deadlines;
mod fanout;
mod flush;
mod foreign;
mod lifecycle;
mod listen;
mod send;
mod shutdown;
mod slow;
mod stats;
mod stream;
mod table;
mod timers;
mod turn;
mod warnings;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use crate::config::{Config, ListenOptions};
use crate::connection::{Common, Connection};
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::socket::{Readiness, claim, give_up};
use crate::timers::{TimerKey, Timers};
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
pub use stats::Stats;
pub use timers::{Expired, TimerId};
pub(crate) use warnings::Warning;

/// The connections of a loop, and everything that can be done with them.
///
/// A `Net` is lent to every callback, and by [`EventLoop::net`](crate::EventLoop::net) to the owner of the loop between
/// turns. All of its methods may be called from every callback, on every id; none of them runs a callback. An id whose
/// connection is gone does no harm.
///
/// # Being driven by another loop
/// A `Net` that is [attached](Self::attach) to a [`mio::Registry`] works without an [`EventLoop`](crate::EventLoop), in
/// a poll of the user's own. Each turn has the same calls in the same order:
///
/// ```no_run
/// # use std::time::Instant;
/// # use throng::{Config, ConnectionId, Frame, Handler, Net};
/// # struct Game;
/// # impl Handler for Game {
/// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
/// # }
/// # let mut game = Game;
/// const YOURS: mio::Token = mio::Token(0);
///
/// let mut poll = mio::Poll::new()?;
/// let mut events = mio::Events::with_capacity(1024);
/// let mut net = Net::attach(poll.registry(), Config::default(), Instant::now())?;
/// net.listen("127.0.0.1:0")?;
/// loop {
///     poll.poll(&mut events, net.next_timeout(Instant::now()))?;
///     net.begin_turn(Instant::now());
///     for event in &events {
///         match event.token() {
///             YOURS => { /* a source of yours, registered with the poll */ }
///             _ => net.handle_event(event),
///         }
///     }
///     net.finish_turn(&mut game);
/// #   break;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Tokens with the top bit set are [the `Net`'s](Self::owns); all others are free for your sources. At most one
/// `Net` per registry.
pub struct Net {
    pub(crate) config: Config,
    pub(crate) common: Common,
    pub(crate) now: Instant,
    /// When the last turn ended, as far as that was noted.
    turn_ended: Instant,
    pub(crate) connections: Table<Connection, ConnectionId>,
    pub(crate) listeners: Table<Listener, ListenerId>,
    /// Sources with work to do, each once in one of the two: those of which an event told, and those that want much, more
    /// than a turn allows or nearly. The latter come last, so that who wants little does not wait for them.
    pub(crate) ready: Vec<Source>,
    pub(crate) left_over: Vec<Source>,
    /// Those that are served in this turn, and how many of them have been.
    pub(crate) serving: Vec<Source>,
    pub(crate) served: usize,
    /// Connections that were written to outside of their own event, each once.
    dirty: Vec<ConnectionId>,
    /// Connections whose backpressure is over, which was not announced yet.
    pub(crate) drained: VecDeque<ConnectionId>,
    /// Connections that have ended and were not announced yet.
    pub(crate) ended: VecDeque<ConnectionId>,
    /// Connections whose end was announced; their slots are freed at the end of the turn.
    pub(crate) announced: Vec<ConnectionId>,
    /// Connections in phase `Open`.
    open: usize,
    timers: Timers<Deadline>,
    user_timers: Timers<UserTimer>,
    /// Counts the turns in which they have fired.
    timer_round: u32,
    /// Events of the user's own sources that were not told yet.
    pub(crate) foreign: VecDeque<(Token, Readiness)>,
    /// The read buffer of all connections. Taken out while its content is delivered.
    pub(crate) read_buffer: Vec<u8>,
    admissions: Admissions,
    /// The turn in which everything queued was last tried to be written for the sake of memory.
    tried_to_write: u64,
    /// Some listener waits for a descriptor to become free; this ends its patience.
    accept_retry: Option<TimerKey>,
    trim_scheduled: bool,
    warnings: Warnings,
    /// Callbacks are being made.
    pub(crate) in_turn: bool,
    /// Some connection has left its phase or changed its framing: who delivers to one has to look at it anew.
    pub(crate) upset: bool,
    shutdown: Option<Shutdown>,
    stopping: bool,
    /// Something was asked for that has to be seen in a turn, though there is nothing to do in it.
    turn_is_due: bool,
    /// Commands were left over in the mailbox: turns before this one are due without an event.
    mail_until: u64,
    pub(crate) stats: Stats,
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
    /// A `Net` in a poll of the user's own: it registers its sockets with `registry`.
    ///
    /// `now` is the present time; from here on [`begin_turn`](Self::begin_turn) tells it.
    ///
    /// # Errors
    /// If the registry cannot be cloned, or if settings contradict each other. `AlreadyExists` if another `Net` is
    /// attached to the registry, or to a clone of it, and was not dropped: the two would take each other's events. Only
    /// epoll can tell (Linux, Android, illumos); elsewhere it is up to you.
    pub fn attach(registry: &Registry, config: Config, now: Instant) -> io::Result<Self> {
        ListenOptions::default().connection(&config)?;
        let registry = registry.try_clone()?;
        claim(&registry)?;
        Ok(Self {
            read_buffer: vec![0; config.read_buffer],
            config,
            common: Common::new(registry),
            now,
            turn_ended: now,
            connections: Table::new(),
            listeners: Table::new(),
            ready: Vec::new(),
            left_over: Vec::new(),
            serving: Vec::new(),
            served: 0,
            dirty: Vec::new(),
            drained: VecDeque::new(),
            ended: VecDeque::new(),
            announced: Vec::new(),
            open: 0,
            timers: Timers::new(now),
            user_timers: Timers::new(now),
            timer_round: 0,
            in_turn: false,
            foreign: VecDeque::new(),
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
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        give_up(&self.common.registry);
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.len())
            .field("ready", &(self.ready.len() + self.left_over.len()))
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

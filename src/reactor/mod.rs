//! `Reactor`: drives the connections of a [`Net`], turn by turn, and makes all callbacks.
//!
//! The whole turn is in this folder, in the order in which it happens: events come in and callbacks are made here; [`serve`]
//! reads, and [`deliver`] cuts frames and calls `on_data`; [`accept`] lets peers in; [`deadlines`] judges those that are
//! late; [`announce`] reports what has ended.
//!
//! A source counts as served when that is done, and a connection keeps its readiness until a read refutes it. So nothing
//! is lost when a handler panics: the next turn goes on where this one broke off.

mod accept;
mod announce;
mod deadlines;
mod deliver;
mod serve;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};

use crate::config::Config;
use crate::connection_id::{Source, is_ours};
use crate::handler::Handler;
use crate::in_loop::InLoop;
use crate::net::Net;
use crate::socket::{Readiness, claim, give_up};

/// Drives the connections of a [`Net`] in a [`mio::Poll`] of your own. An [`EventLoop`](crate::EventLoop) has one, and a
/// poll to go with it.
///
/// Each turn makes the same calls in the same order:
///
/// ```text
///   poll                   your poll                 not longer than next_timeout
///   begin_turn(now)        the time of this turn
///   handle_event(event)    for each event            notes what it reports; makes no callback
///   Mailbox::deliver       if you have a mailbox     commands of other threads, within a budget
///   finish_turn(handler)
///     user events          on_event                  for each event of your own sources
///     serve                on_accept, on_connect,    each ready source once, within budgets: accept; or read, decode,
///                          on_data, on_chunk,        deliver, flush. Fresh sources first, heavy ones last
///                          on_half_close
///     deadlines            any of these              tries once more, then ends connections that are late
///     timers               on_timer                  within a budget
///     announce             on_drain, on_disconnect
///     flush                                          connections that were written to outside of their own event
///     memory, slots                                  the memory budget; slots of ended connections are freed
/// ```
///
/// ```no_run
/// # use std::time::Instant;
/// # use throng::{Config, ConnectionId, Frame, Handler, Net, Reactor};
/// # struct Game;
/// # impl Handler for Game {
/// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
/// # }
/// # let mut game = Game;
/// const YOURS: mio::Token = mio::Token(0);
///
/// let mut poll = mio::Poll::new()?;
/// let mut events = mio::Events::with_capacity(1024);
/// let mut reactor = Reactor::attach(poll.registry(), Config::default(), Instant::now())?;
/// reactor.net().listen("127.0.0.1:0")?;
/// loop {
///     poll.poll(&mut events, reactor.next_timeout(Instant::now()))?;
///     reactor.begin_turn(Instant::now());
///     for event in &events {
///         match event.token() {
///             YOURS => { /* a source of yours, registered with the poll */ }
///             _ => reactor.handle_event(event),
///         }
///     }
///     reactor.finish_turn(&mut game);
/// #   break;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Tokens with the top bit set belong to the [reactor](Self::owns); all others are free for your sources. Attach at most one
/// reactor per registry.
///
/// # Callbacks do not nest
/// A callback, or a closure that a [`Handle`](crate::Handle) has posted, gets the [`Net`] and not the reactor. So a turn
/// within a turn does not compile:
///
/// ```compile_fail
/// # use throng::{ConnectionId, Frame, Handle, Handler, Net};
/// # struct Game;
/// # impl Handler for Game {
/// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
/// # }
/// fn nest(handle: &Handle<Game>) {
///     handle.post(|game, net| net.finish_turn(game)).unwrap();
/// }
/// ```
pub struct Reactor {
    net: Net,
    /// The read buffer of all connections.
    read_buffer: Vec<u8>,
}

impl Reactor {
    /// A reactor in a poll of your own: it registers its sockets with `registry`.
    ///
    /// `now` is the present time. From here on [`begin_turn`](Self::begin_turn) sets it.
    ///
    /// # Errors
    /// If the registry cannot be cloned, or if settings contradict each other. `AlreadyExists` if another reactor is
    /// attached to the registry, or to a clone of it, and was not dropped: the two would take each other's events. Only
    /// epoll can tell (Linux, Android, illumos); elsewhere it is up to you.
    pub fn attach(registry: &Registry, config: Config, now: Instant) -> io::Result<Self> {
        config.check()?;
        let registry = registry.try_clone()?;
        claim(&registry)?;
        Ok(Self {
            read_buffer: vec![0; config.read_buffer],
            net: Net::new(registry, config, now),
        })
    }

    /// The connections, to be used between turns, at the time of the last one.
    pub fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    /// Whether a token belongs to the reactor: those whose top bit is set do.
    ///
    /// Their events have to go to [`handle_event`](Self::handle_event). So have those of sources that you
    /// [registered](Net::register), if [`on_event`](crate::Handler::on_event) is to be called for them.
    pub fn owns(&self, token: Token) -> bool {
        is_ours(token)
    }

    /// Starts a turn, after the poll. Everything that happens until the next one happens at `now`.
    pub fn begin_turn(&mut self, now: Instant) {
        self.net.set_now(now);
    }

    /// Notes what an event reports. Makes no callback: [`finish_turn`](Self::finish_turn) does.
    ///
    /// Events of tokens that the reactor does not [own](Self::owns) go to [`on_event`](crate::Handler::on_event). Those of
    /// closed connections are ignored.
    #[inline]
    pub fn handle_event(&mut self, event: &Event) {
        let (token, readiness) = (event.token(), Readiness::of(event));
        if is_ours(token) {
            self.net.note_readiness(token, readiness);
        } else {
            self.net.note_user_event(token, readiness);
        }
    }

    /// Finishes a turn: serves what is ready, judges deadlines, fires timers, reports ends, flushes, frees slots. All
    /// callbacks are made here, and all work is bounded: what goes beyond a budget is left for the next turn, and
    /// [`next_timeout`](Self::next_timeout) is zero then.
    pub fn finish_turn<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let _callbacks = InLoop::enter();
        self.net.count_turn();
        self.report_user_events(handler);
        self.serve_ready(handler);
        self.judge_deadlines(handler);
        self.fire_timers(handler);
        self.announce_drained(handler);
        self.announce_ended(handler);
        self.net.flush_dirty();
        self.net.enforce_budget();
        self.net.free_slots();
        #[cfg(debug_assertions)]
        self.net.check_invariants();
    }

    /// When [`finish_turn`](Self::finish_turn) has to be called next, with or without events: the first deadline, or
    /// `None` if there is none.
    ///
    /// Does not account for pending work; see [`next_timeout`](Self::next_timeout).
    pub fn next_deadline(&self) -> Option<Instant> {
        self.net.next_deadline()
    }

    /// How long the poll may wait: not at all while there is work to do, else until the next deadline. `None` means until
    /// there is an event.
    ///
    /// If your poll takes whole milliseconds, round it up: rounded down, the last millisecond before each deadline is spent
    /// in waits of zero.
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.net.has_work() {
            return Some(Duration::ZERO);
        }
        Some(self.next_deadline()?.saturating_duration_since(now))
    }

    /// Returns `true` once for each [`Net::stop`] and each [`Net::shutdown`] that is over: what
    /// [`run`](crate::EventLoop::run) obeys, for those who drive turns themselves. Call it after each turn.
    pub fn take_stop(&mut self) -> bool {
        self.net.take_stop()
    }

    /// Notes that a turn ended at `now`, for the times in [`Stats`](crate::Stats). The turn was busy since
    /// [`begin_turn`](Self::begin_turn); the time between the end of the turn before and that counts as waited. Call it right
    /// after [`finish_turn`](Self::finish_turn), if these times are of interest; an [`EventLoop`](crate::EventLoop) does.
    pub fn note_turn_end(&mut self, now: Instant) {
        self.net.note_turn_end(now);
    }

    fn report_user_events<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        while let Some((token, readiness)) = self.net.next_user_event() {
            let of = format_args!("token {}", token.0);
            self.net.call("on_event", of, |net| {
                handler.on_event(net, token, readiness);
            });
        }
    }

    /// Serves each source that is ready once. One counts as served when that is done, not before.
    fn serve_ready<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        self.net.begin_serving();
        while let Some(source) = self.net.next_source() {
            let again = match source {
                Source::Connection(id) => self.serve_connection(handler, id),
                Source::Listener(id) => self.serve_listener(handler, id),
            };
            self.net.enforce_budget();
            self.net.served(source, again);
        }
        self.net.finish_serving();
    }

    /// Lets the user's timers fire, within the budget. One that is set meanwhile, for now, has to wait.
    fn fire_timers<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let Some(most) = self.net.begin_round() else {
            return;
        };
        for _ in 0..most {
            let Some(expired) = self.net.expire_timer() else {
                return;
            };
            let of = format_args!("timer {}", expired.key);
            self.net.call("on_timer", of, |net| {
                handler.on_timer(net, expired);
            });
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        give_up(self.net.registry());
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("net", &self.net)
            .finish_non_exhaustive()
    }
}

//! `Reactor`: drives the connections of a [`Net`] turn by turn, and makes all callbacks.
//!
//! This folder contains the whole turn. [`serve`] reads, [`share`] says how much of a turn a connection may use,
//! [`deliver`] cuts frames and calls `on_data` and `on_chunk`, [`accept`] accepts peers, `arrivals` reads PROXY headers,
//! [`deadlines`] judges late connections, and [`announce`] reports drained and ended connections.
//!
//! A source counts as served when its service is complete, and a connection keeps its readiness until a system call
//! refutes it. So nothing is lost if a handler panics: the next turn continues where this one was interrupted.

mod accept;
mod announce;
#[cfg(feature = "proxy")]
mod arrivals;
mod deadlines;
mod deliver;
mod serve;
mod share;

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
use crate::read_buffer::ReadBuffer;
use crate::socket::{Readiness, claim, give_up};
use deliver::Delivery;
use share::{Activity, Burst, Light};

/// Drives the connections of a [`Net`] in a [`mio::Poll`] of your own. An [`EventLoop`](crate::EventLoop) contains a
/// reactor and a poll.
///
/// Each turn makes the same calls in the same order:
///
/// ```text
///   your loop                                                                  callbacks
///     Poll::poll             at most for next_timeout
///     begin_turn(now)        the time of this turn
///     handle_event(event)    each event: note it
///     Mailbox::deliver       if you have a mailbox: commands, within a budget  closures of handles
///     finish_turn(handler)
///   finish_turn
///     user events            of your own sources                               on_event
///     serve                  sources with an event, except heavy connections;
///                            then heavy ones and those with more to do, in
///                            rotation, until the budget of the turn is spent,
///                            or a part of it while light ones are active
///       listener               accept                                          on_accept, on_connect
///       connection             read, cut, deliver, flush                       on_connect, on_data, on_chunk,
///                                                                              on_half_close
///     deadlines              serve once more, then end late connections        the same
///     timers                 your timers, within a budget                      on_timer
///     reports                no longer congested                               on_drain
///                            ended                                             on_disconnect
///     flush                  connections sent to outside of their own event
///     memory                 enforce the memory budget
///     slots                  free the slots of ended connections
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
/// Tokens with the top bit set belong to the [reactor](Self::owns); all others are free for your sources. Attach at
/// most one reactor per registry.
///
/// # Callbacks do not nest
/// Callbacks, and closures posted by a [`Handle`](crate::Handle), receive the [`Net`] and not the reactor. So a turn
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
    read_buffer: ReadBuffer,
    /// The part of the read buffer that is being delivered.
    delivery: Delivery,
    light: Light,
    activity: Activity,
    burst: Burst,
}

impl Reactor {
    /// Creates a reactor in your own poll. It registers its sockets with `registry`.
    ///
    /// `now` is the current time; from here on [`begin_turn`](Self::begin_turn) sets it.
    ///
    /// # Errors
    /// If the registry cannot be cloned, if settings contradict each other, or if there is no memory for the
    /// [`read_buffer`](Config::read_buffer). `AlreadyExists` if another reactor that was not dropped is attached to the
    /// registry or to a clone of it: the two would take each other's events. This is detected only with epoll (Linux,
    /// Android, illumos); elsewhere you have to ensure it.
    pub fn attach(registry: &Registry, config: Config, now: Instant) -> io::Result<Self> {
        config.check()?;
        let read_buffer = ReadBuffer::new(config.read_buffer)?;
        let registry = registry.try_clone()?;
        claim(&registry)?;
        let light = Light::new(&config);
        Ok(Self {
            read_buffer,
            net: Net::new(registry, config, now),
            delivery: Delivery::none(),
            light,
            activity: Activity::default(),
            burst: Burst::default(),
        })
    }

    /// Returns the `Net`, for use between turns. Its time is that of the last turn.
    pub fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    /// Returns whether a token belongs to the reactor, that is, whether its top bit is set.
    ///
    /// Pass the events of these tokens to [`handle_event`](Self::handle_event). Pass those of sources that you
    /// [registered](Net::register) as well, if [`on_event`](crate::Handler::on_event) is to be called for them.
    pub fn owns(&self, token: Token) -> bool {
        is_ours(token)
    }

    /// Begins a turn, after the poll. `now` is the time of everything until the next turn.
    pub fn begin_turn(&mut self, now: Instant) {
        self.net.set_now(now);
    }

    /// Notes what an event reports. Makes no callback; [`finish_turn`](Self::finish_turn) does.
    ///
    /// Events of tokens that the reactor does not [own](Self::owns) are reported to
    /// [`on_event`](crate::Handler::on_event). Events of closed connections are ignored.
    #[inline]
    pub fn handle_event(&mut self, event: &Event) {
        let (token, readiness) = (event.token(), Readiness::of(event));
        if is_ours(token) {
            self.net.note_readiness(token, readiness);
        } else {
            self.net.note_user_event(token, readiness);
        }
    }

    /// Notes what a simulated event reports.
    #[cfg(feature = "sim")]
    pub(crate) fn note_event(&mut self, token: Token, readiness: Readiness) {
        if is_ours(token) {
            self.net.note_readiness(token, readiness);
        } else {
            self.net.note_user_event(token, readiness);
        }
    }

    /// Finishes a turn: serves ready sources, judges deadlines, fires timers, reports ends, flushes, and frees slots.
    /// Makes all callbacks of the turn. All work is bounded: what exceeds a budget is left for the next turn, and
    /// [`next_timeout`](Self::next_timeout) is then zero.
    pub fn finish_turn<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let _callbacks = InLoop::enter();
        self.net.count_turn();
        self.finish_interrupted();
        self.report_user_events(handler);
        self.serve_events(handler);
        self.serve_left_over(handler);
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

    /// Returns the first deadline: when [`finish_turn`](Self::finish_turn) has to be called next even without events.
    /// `None` if there is no deadline.
    ///
    /// Does not account for pending work; see [`next_timeout`](Self::next_timeout).
    pub fn next_deadline(&self) -> Option<Instant> {
        self.net.next_deadline()
    }

    /// Returns how long the poll may wait: zero while there is work to do, otherwise until the next deadline. `None`
    /// means: until there is an event.
    ///
    /// If your poll takes whole milliseconds, round up. Rounded down, the loop would spin through the last millisecond
    /// before each deadline.
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.net.has_work() {
            return Some(Duration::ZERO);
        }
        self.net.time_to_deadline(now)
    }

    /// Returns `true` once for each [`Net::stop`] and for each [`Net::shutdown`] that has finished. Call it after each
    /// turn, if you drive turns yourself; [`run`](crate::EventLoop::run) does.
    pub fn take_stop(&mut self) -> bool {
        self.net.take_stop()
    }

    /// Notes that a turn ended at `now`, for the times in [`Stats`](crate::Stats). The turn counts as busy since
    /// [`begin_turn`](Self::begin_turn); the time before, since the end of the previous turn, counts as waited. Call it
    /// right after [`finish_turn`](Self::finish_turn) if you need these times; an [`EventLoop`](crate::EventLoop) does.
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

    /// Serves each source that has an event, except for heavy connections. An event counts as served when its service
    /// is complete, not before.
    fn serve_events<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        while let Some((source, readiness)) = self.net.next_event() {
            match source {
                Some(Source::Connection(id)) => self.serve_event(handler, id, readiness),
                Some(Source::Listener(id)) => self.wake_listener(handler, id),
                #[cfg(feature = "proxy")]
                Some(Source::Arrival(id)) => self.serve_arrival(handler, id),
                None => {}
            }
            self.net.enforce_budget();
            self.net.event_served();
        }
        self.net.finish_events();
    }

    /// Serves sources that are left over, each at most once, until the budget of the turn is spent.
    fn serve_left_over<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        let count = self.net.left_over();
        if count == 0 {
            return;
        }
        let share = self.share_of_left_over();
        self.net.limit_writes(share.at_once);
        for _ in 0..count {
            let Some(source) = self.net.next_left_over() else {
                break;
            };
            match source {
                Source::Connection(id) => self.serve_again(handler, id, share),
                Source::Listener(id) => self.serve_listener(handler, id),
                // Never left over: an event reads an arrival until `WouldBlock`.
                #[cfg(feature = "proxy")]
                Source::Arrival(_) => {}
            }
            self.net.enforce_budget();
            self.net.left_over_served(source);
            if self.net.work_done() >= share.end {
                break;
            }
        }
        self.net.limit_writes(usize::MAX);
    }

    /// Fires user timers, within the budget. A timer that is set meanwhile waits for the next turn.
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

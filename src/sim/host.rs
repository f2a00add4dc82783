//! `Host`: an event loop of a world, and its handler.

use std::cell::{Ref, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Poll, Token};

use super::checked::Checked;
use crate::config::Config;
use crate::handler::Handler;
use crate::mailbox::{Handle, Mailbox};
use crate::net::Net;
use crate::reactor::Reactor;
use crate::socket::Readiness;
use crate::socket::sim::{Port, Shared, What};
use crate::stats::Stats;

/// An event loop in a [`World`](crate::sim::World), with its handler.
///
/// The world lets it make turns. Between them, [`with`](Self::with) gives access to its handler and its [`Net`].
pub struct Host<H: Handler> {
    inner: Rc<Inner<H>>,
}

pub(super) struct Inner<H: Handler> {
    state: RefCell<Option<State<H>>>,
    network: Shared,
    number: usize,
    base: Instant,
}

struct State<H: Handler> {
    /// Declared first, as in an event loop: it is dropped before the connections.
    mailbox: Mailbox<H>,
    reactor: Reactor,
    handler: Checked<H>,
    events_per_poll: usize,
    is_stopped: bool,
    suspended_until: Duration,
    /// The number of turns since the last change.
    idle_turns: u32,
    /// The time, and the work of all hosts up to then.
    progress: (Duration, u64),
    /// Its selector is never polled.
    _poll: Poll,
}

/// The most turns in a row of a loop that neither reads nor writes nor waits.
const IDLE_TURNS: u32 = 10_000;

/// A loop that a world can drive, independent of the type of its handler.
pub(super) trait Drive {
    /// Returns the time of the next turn; `None` means at the next event.
    fn due(&self) -> Option<Duration>;
    fn turn(&self);
    /// Checks a loop before time passes.
    fn check_rest(&self);
}

impl<H: Handler> Host<H> {
    pub(super) fn new(network: Shared, base: Instant, config: Config, handler: Checked<H>) -> Self {
        let number = network.lock().add_host();
        let poll = Poll::new().expect("a descriptor for a selector");
        let now = base + network.lock().now;
        let events_per_poll = config.events_per_poll;
        let mailbox = Mailbox::new(&config, || {});
        let reactor = Reactor::attach(poll.registry(), config, now);
        let mut reactor = reactor.expect("settings that do not contradict each other");
        reactor.net().simulate(Port {
            network: network.clone(),
            host: number,
        });
        let state = State {
            mailbox,
            reactor,
            handler,
            events_per_poll,
            is_stopped: false,
            suspended_until: Duration::ZERO,
            idle_turns: 0,
            progress: (Duration::ZERO, 0),
            _poll: poll,
        };
        let inner = Inner {
            state: RefCell::new(Some(state)),
            network,
            number,
            base,
        };
        Self {
            inner: Rc::new(inner),
        }
    }

    pub(super) fn inner(&self) -> Rc<Inner<H>> {
        Rc::clone(&self.inner)
    }

    /// Runs a closure with the handler and its [`Net`], between two turns.
    ///
    /// # Panics
    /// If it is called inside a callback of this host, or after [`kill`](Self::kill).
    pub fn with<R>(&self, closure: impl FnOnce(&mut H, &mut Net) -> R) -> R {
        let mut state = self.inner.state.borrow_mut();
        let state = state.as_mut().expect("a host that was not killed");
        let now = self.inner.base + self.inner.network.lock().now;
        state.reactor.begin_turn(now);
        let (handler, net) = (&mut state.handler, state.reactor.net());
        handler.look(|rules| rules.enter(net));
        let result = closure(handler.handler_mut(), net);
        handler.look(|rules| rules.leave(net));
        result
    }

    /// Returns a reference to the handler, to inspect what it has recorded.
    ///
    /// Let go of it before time passes: the next turn needs the handler.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn handler(&self) -> Ref<'_, H> {
        Ref::map(self.inner.state.borrow(), |state| {
            let state = state.as_ref().expect("a host that was not killed");
            state.handler.handler()
        })
    }

    /// Returns a handle to the loop. If the mailbox may be full, use the `try_` forms: a method that blocks would stop
    /// the simulation forever.
    pub fn handle(&self) -> Handle<H> {
        let state = self.inner.state.borrow();
        let state = state.as_ref().expect("a host that was not killed");
        state.mailbox.handle()
    }

    /// Returns the counters of the loop.
    ///
    /// # Panics
    /// If the host was killed.
    pub fn stats(&self) -> Stats {
        self.with(|_, net| net.stats())
    }

    /// Returns whether the loop has [stopped](Net::stop). It makes no more turns until [`resume`](Self::resume).
    pub fn is_stopped(&self) -> bool {
        let state = self.inner.state.borrow();
        state.as_ref().is_none_or(|state| state.is_stopped)
    }

    /// Lets a stopped loop run again.
    pub fn resume(&self) {
        if let Some(state) = self.inner.state.borrow_mut().as_mut() {
            state.is_stopped = false;
        }
    }

    /// Drops the loop, as if its process had ended: all its sockets are closed, without callbacks. Returns the handler.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub fn kill(&self) -> H {
        let state = self.inner.state.borrow_mut().take();
        let state = state.expect("a host that was not killed");
        let mut reactor = state.reactor;
        reactor.net().close_listeners();
        drop(state.mailbox);
        drop(reactor);
        state.handler.into_handler()
    }

    /// Suspends the process: the loop makes no turn for this time, while the network continues. A host that is already
    /// suspended stays so until the later of the two ends.
    pub fn suspend(&self, time: Duration) {
        let until = self.inner.network.lock().now + time;
        if let Some(state) = self.inner.state.borrow_mut().as_mut() {
            state.suspended_until = state.suspended_until.max(until);
        }
    }

    /// Limits the number of file descriptors. Accepting and connecting fail while this many connections are open.
    pub fn limit_files(&self, most: usize) {
        let mut network = self.inner.network.lock();
        network.limit_files(self.inner.number, most);
    }

    /// Returns the number of file descriptors that the host uses for connections.
    pub fn open_files(&self) -> usize {
        self.inner.network.lock().open_files(self.inner.number)
    }

    /// Reports an event of a source of the user: [`on_event`](Handler::on_event) is called in the next turn.
    pub fn report_event(&self, token: Token, readiness: Readiness) {
        if let Some(state) = self.inner.state.borrow_mut().as_mut() {
            state.reactor.note_event(token, readiness);
        }
    }

    pub(super) fn number(&self) -> usize {
        self.inner.number
    }
}

impl<H: Handler> Drive for Inner<H> {
    fn due(&self) -> Option<Duration> {
        let state = self.state.borrow();
        let state = state.as_ref().filter(|state| !state.is_stopped)?;
        let network = self.network.lock();
        let now = network.now;
        let mut due = state.reactor.next_deadline();
        if network.has_events(self.number) || state.mailbox.has_commands() {
            due = Some(self.base);
        }
        if state.reactor.next_timeout(self.base + now) == Some(Duration::ZERO) {
            due = Some(self.base);
        }
        let due = due?.saturating_duration_since(self.base);
        Some(due.max(state.suspended_until))
    }

    fn turn(&self) {
        let mut state = self.state.borrow_mut();
        let Some(state) = state.as_mut() else {
            return;
        };
        let mut network = self.network.lock();
        let events = network.poll(self.number, state.events_per_poll);
        network.suspend();
        let (time, progress) = (network.now, network.progress);
        let now = self.base + time;
        drop(network);
        state.count_idle(events.is_empty(), (time, progress));
        state.reactor.begin_turn(now);
        for (token, readiness) in events {
            state.reactor.note_event(token, readiness);
        }
        if state.mailbox.has_commands() {
            let (handler, reactor) = (&mut state.handler, &mut state.reactor);
            handler.look(|rules| rules.enter(reactor.net()));
            state.mailbox.deliver(handler.handler_mut(), reactor);
            handler.look(|rules| rules.leave(reactor.net()));
        }
        state.reactor.finish_turn(&mut state.handler);
        state.reactor.note_turn_end(now);
        let net = state.reactor.net();
        state.handler.look(|rules| rules.end_of_turn(net));
        if state.reactor.take_stop() {
            state.is_stopped = true;
            let what = What::Host(self.number, "stops after turn", 0);
            self.network.lock().note(what);
        }
    }

    fn check_rest(&self) {
        let mut state = self.state.borrow_mut();
        let Some(state) = state.as_mut().filter(|state| !state.is_stopped) else {
            return;
        };
        let network = self.network.lock();
        if state.suspended_until > network.now || network.has_events(self.number) {
            return;
        }
        drop(network);
        let net = state.reactor.net();
        state.handler.look(|rules| rules.at_rest(net));
    }
}

impl<H: Handler> State<H> {
    /// Detects a loop that makes turn after turn without effect, so that time cannot pass.
    fn count_idle(&mut self, is_without_events: bool, progress: (Duration, u64)) {
        if is_without_events && progress == self.progress {
            self.idle_turns += 1;
        } else {
            self.idle_turns = 0;
        }
        self.progress = progress;
        assert!(
            self.idle_turns < IDLE_TURNS,
            "the loop spins: {IDLE_TURNS} turns without an effect"
        );
    }
}

impl<H: Handler> fmt::Debug for Host<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.inner.number).finish()
    }
}

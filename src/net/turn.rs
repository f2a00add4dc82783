//! The beginning and the end of a turn: events come in, timers fire, slots are freed. The middle, where callbacks are
//! made, is in [`crate::dispatch`].

use std::time::{Duration, Instant};

use mio::Token;
use mio::event::Event;

use super::{Deadline, Net};
use crate::connection_id::{ConnectionId, Source, is_ours};
use crate::socket::Readiness;
use crate::tick::Tick;
use crate::timers::later;

/// How long memory stays unused before it goes back to the allocator.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// So many places of a list are kept: 4 KiB.
const LIST_KEPT: usize = 256;

impl Net {
    /// Whether this is a token of the loop's own: those whose top bit is set are.
    ///
    /// Their events have to go to [`handle_event`](Self::handle_event), and so have those of sources that you
    /// [registered](Self::register), if [`on_event`](crate::Handler::on_event) is to be called for them.
    pub fn owns(&self, token: Token) -> bool {
        is_ours(token)
    }

    /// Starts a turn, after the poll. All that happens until the next one happens at `now`.
    pub fn begin_turn(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.common.now = Tick::after(self.timers.elapsed(self.now));
    }

    /// Takes note of an event. It calls nobody: [`finish_turn`](Self::finish_turn) does.
    ///
    /// Those of tokens that are not [ours](Self::owns) go to [`on_event`](crate::Handler::on_event); those of connections
    /// that are gone are ignored.
    pub fn handle_event(&mut self, event: &Event) {
        if !is_ours(event.token()) {
            return self.merge_foreign(event.token(), Readiness::of(event));
        }
        let source = Source::from_token(event.token(), |source| match source {
            Source::Connection(id) => self.connections.generation(id.index()),
            Source::Listener(id) => self.listeners.generation(id.index()),
        });
        if let Some(source) = source {
            self.merge(source, Readiness::of(event));
        }
    }

    fn merge(&mut self, source: Source, readiness: Readiness) {
        match source {
            Source::Connection(id) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.readiness |= readiness;
                    if !connection.listed {
                        connection.listed = true;
                        if connection.is_heavy {
                            self.left_over.push(source);
                        } else {
                            self.ready.push(source);
                        }
                    }
                }
            }
            Source::Listener(id) => self.list_listener(id),
        }
    }

    /// Sees to it that a connection is served in the next turn, after those of which events tell.
    pub(crate) fn list(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.listed
        {
            connection.listed = true;
            self.left_over.push(Source::Connection(id));
        }
    }

    /// When [`finish_turn`](Self::finish_turn) has to be called next, with or without events: the first deadline, or
    /// `None` if there is none.
    ///
    /// It does not speak of work that is waiting already; [`next_timeout`](Self::next_timeout) does.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (own, user) = (
            self.timers.next_deadline(),
            self.user_timers.next_deadline(),
        );
        own.into_iter().chain(user).min()
    }

    /// How long the poll may wait: not at all while there is work, else until the next deadline. `None`: as long as
    /// there are no events.
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.is_runnable() {
            return Some(Duration::ZERO);
        }
        Some(self.next_deadline()?.saturating_duration_since(now))
    }

    /// Notes that a turn ended at `now`, for the times in [`Stats`](crate::Stats): the turn was busy since
    /// [`begin_turn`](Self::begin_turn), and whatever the owner did between the end of the turn before and that counts as
    /// waited. To be called right after [`finish_turn`](Self::finish_turn), if these times are of interest; an
    /// [`EventLoop`](crate::EventLoop) does so itself.
    pub fn note_turn_end(&mut self, now: Instant) {
        let busy = now.saturating_duration_since(self.now);
        let waited = self.now.saturating_duration_since(self.turn_ended);
        self.stats.waited = self.stats.waited.saturating_add(waited);
        self.stats.busy = self.stats.busy.saturating_add(busy);
        self.stats.longest_turn = self.stats.longest_turn.max(busy);
        self.turn_ended = now.max(self.now);
    }

    /// Whether there is work that needs no further event.
    pub(crate) fn is_runnable(&self) -> bool {
        !self.ready.is_empty()
            || !self.left_over.is_empty()
            || !self.serving.is_empty()
            || !self.dirty.is_empty()
            || !self.drained.is_empty()
            || !self.ended.is_empty()
            || !self.announced.is_empty()
            || !self.foreign.is_empty()
            || self.turn_is_due
            || self.stats.turns < self.mail_until
    }

    /// Makes [`run`](crate::EventLoop::run) return after this turn. Connections and listeners stay; `run` may be called
    /// again. Whoever makes turns otherwise finds it by [`take_stop`](Self::take_stop).
    pub fn stop(&mut self) {
        self.stopping = true;
        self.turn_is_due = true;
    }

    /// Whether [`stop`](Self::stop) was called, or a [`shutdown`](Self::shutdown) is over, and nobody has
    /// [taken](Self::take_stop) it yet.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether to stop now, once for each time: what [`run`](crate::EventLoop::run) obeys, for those who make turns
    /// themselves. To be called after each turn.
    ///
    /// ```
    /// # use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};
    /// # struct Game;
    /// # impl Handler for Game {
    /// #     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    /// # }
    /// # let mut game = Game;
    /// let mut event_loop = EventLoop::new(Config::default())?;
    /// event_loop.net().stop();
    /// while !event_loop.net().take_stop() {
    ///     event_loop.turn(&mut game, None)?;
    /// }
    /// assert!(!event_loop.net().is_stopping(), "it can go on");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.stopping)
    }

    /// Takes note that commands are left over in the mailbox: the next turn is due at once.
    pub(crate) fn note_mail(&mut self) {
        // This turn is not counted yet.
        self.mail_until = self.stats.turns + 2;
    }

    /// The next deadline that has come.
    pub(crate) fn next_expired(&mut self) -> Option<Deadline> {
        self.timers.expire(self.now)
    }

    /// Gives memory back that nobody uses.
    pub(crate) fn trim(&mut self) {
        self.trim_scheduled = false;
        self.common.buffers.trim();
        self.user_timers.trim();
        for list in [&mut self.ready, &mut self.left_over, &mut self.serving] {
            list.shrink_to(LIST_KEPT);
        }
        self.dirty.shrink_to(LIST_KEPT);
        self.announced.shrink_to(LIST_KEPT);
        self.drained.shrink_to(LIST_KEPT);
        self.ended.shrink_to(LIST_KEPT);
        self.foreign.shrink_to(LIST_KEPT);
    }

    pub(crate) fn free_slots(&mut self) {
        for id in self.announced.drain(..) {
            self.connections.free(id);
        }
        self.turn_is_due = false;
        self.finish_shutdown();
        let is_retaining = self.common.buffers.is_retaining() || self.user_timers.is_retaining();
        if !self.trim_scheduled && is_retaining {
            self.trim_scheduled = true;
            let at = later(self.now, TRIM_AFTER);
            self.timers.insert(at, Deadline::Trim);
        }
    }
}

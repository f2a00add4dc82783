//! Begin and end of a turn: time, events, and pending work.

use std::time::{Duration, Instant};

use mio::Token;

use super::{Deadline, Net};
use crate::connection_id::{ConnectionId, Source};
use crate::socket::Readiness;
use crate::tick::Tick;
use crate::timers::later;

/// How long memory stays unused before it is returned to the allocator.
const TRIM_AFTER: Duration = Duration::from_secs(1);

impl Net {
    /// Sets the time of this turn to `now`. Time never goes back.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.common.now = Tick::after(self.timers.elapsed(self.now));
    }

    /// Merges the readiness that an event reports into its connection or listener, and lists it.
    #[inline]
    pub(crate) fn note_readiness(&mut self, token: Token, readiness: Readiness) {
        let source = Source::from_token(token, |source| match source {
            Source::Connection(id) => self.connections.generation(id.index()),
            Source::Listener(id) => self.listeners.generation(id.index()),
        });
        match source {
            Some(source @ Source::Connection(id)) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.readiness |= readiness;
                    if !connection.listed {
                        connection.listed = true;
                        if connection.is_heavy {
                            self.work.add_left_over(source);
                        } else {
                            self.work.add_fresh(source);
                        }
                    }
                }
            }
            Some(Source::Listener(id)) => self.list_listener(id),
            None => {}
        }
    }

    /// Lists a connection to be served in the next turn, after the connections with events.
    pub(crate) fn list(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.listed
        {
            connection.listed = true;
            self.work.add_left_over(Source::Connection(id));
        }
    }

    pub(crate) fn count_turn(&mut self) {
        self.stats.turns += 1;
        #[cfg(feature = "tls")]
        {
            self.common.handshakes_left = self.config.handshakes_per_turn;
        }
    }

    pub(crate) fn begin_serving(&mut self) {
        self.work.begin_serving();
    }

    #[inline]
    pub(crate) fn next_source(&self) -> Option<Source> {
        self.work.next_source()
    }

    #[inline]
    pub(crate) fn served(&mut self, source: Source, again: bool) {
        self.work.served(source, again);
    }

    pub(crate) fn finish_serving(&mut self) {
        self.work.finish_serving();
    }

    /// Returns the number of connections to be reported as drained.
    pub(crate) fn drained(&self) -> usize {
        self.work.drained()
    }

    pub(crate) fn ended(&self) -> usize {
        self.work.ended()
    }

    pub(crate) fn next_user_event(&mut self) -> Option<(Token, Readiness)> {
        self.work.next_user_event()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (own, user) = (
            self.timers.next_deadline(),
            self.user_timers.next_deadline(),
        );
        own.into_iter().chain(user).min()
    }

    pub(crate) fn note_turn_end(&mut self, now: Instant) {
        let busy = now.saturating_duration_since(self.now);
        let waited = self.now.saturating_duration_since(self.turn_ended);
        self.stats.waited = self.stats.waited.saturating_add(waited);
        self.stats.busy = self.stats.busy.saturating_add(busy);
        self.stats.longest_turn = self.stats.longest_turn.max(busy);
        self.turn_ended = now.max(self.now);
    }

    /// Returns whether there is work that needs no further event.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.is_empty() || self.turn_is_due || self.stats.turns < self.mail_until
    }

    /// Stops the loop: [`run`](crate::EventLoop::run) returns after this turn. Connections and listeners stay, and
    /// `run` may be called again. If you drive turns yourself, [`take_stop`](crate::Reactor::take_stop) reports it.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.turn_is_due = true;
    }

    /// Returns whether the loop was stopped by [`stop`](Self::stop) or at the end of a [`shutdown`](Self::shutdown),
    /// and that was not [taken](crate::Reactor::take_stop) yet.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.stopping)
    }

    /// Notes that commands are left in the mailbox: the next turn is due immediately.
    pub(crate) fn note_mail(&mut self) {
        // This turn is not counted yet.
        self.mail_until = self.stats.turns + 2;
    }

    /// Counts commands that were run, and sets the number of wake-ups for commands.
    pub(crate) fn count_commands(&mut self, run: u64, wake_ups: u64) {
        self.stats.commands += run;
        self.stats.wake_ups = wake_ups;
    }

    /// Counts a command if it failed.
    pub(crate) fn count_failed_command(&mut self, failed: bool) {
        self.stats.commands_failed += u64::from(failed);
    }

    /// Returns the next deadline that has passed.
    pub(crate) fn next_expired(&mut self) -> Option<Deadline> {
        self.timers.expire(self.now)
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn trim(&mut self) {
        self.trim_scheduled = false;
        self.common.buffers.trim();
        self.user_timers.trim();
        self.work.trim();
    }

    pub(crate) fn free_slots(&mut self) {
        for id in self.work.take_reported() {
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

//! The work lists: sources to serve, and connections to flush, to report and to free. Pure.
//!
//! ```text
//!   an event, of a light source ----> fresh ----+
//!   an event, of a heavy source --+             +--> serving --> served; if there is more to do --> left over
//!   more to do without an event --+-> left over +
//! ```
//!
//! The source itself notes whether it is in a list; see `listed` and `dirty` of a connection.

use std::collections::VecDeque;

use mio::Token;

use crate::connection_id::{ConnectionId, Source};
use crate::socket::Readiness;

/// The number of places that a list keeps: 4 KiB.
const KEPT: usize = 256;

/// The work lists of a loop.
///
/// Invariant: each listed source is in exactly one place: in `fresh`, in `left_over`, or in `serving` from `served` on.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Light sources with an event.
    fresh: Vec<Source>,
    /// Heavy sources, and sources with more to do and no event to come. They are served last, so that light ones do not
    /// wait for them.
    left_over: Vec<Source>,
    /// The sources of this turn, and how many of them were served. After a panic of a callback the next turn continues
    /// here.
    serving: Vec<Source>,
    served: usize,
    /// Connections that were sent to outside of their own event.
    dirty: Vec<ConnectionId>,
    /// Connections whose backpressure has ended, to be reported.
    drained: VecDeque<ConnectionId>,
    /// Connections that have ended, to be reported.
    ended: VecDeque<ConnectionId>,
    /// Connections whose end was reported, to be freed at the end of the turn.
    reported: Vec<ConnectionId>,
    /// Events of the user's own sources, to be reported.
    user_events: VecDeque<(Token, Readiness)>,
}

impl Work {
    /// Returns whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty()
            && self.left_over.is_empty()
            && self.serving.is_empty()
            && self.dirty.is_empty()
            && self.drained.is_empty()
            && self.ended.is_empty()
            && self.reported.is_empty()
            && self.user_events.is_empty()
    }

    /// Returns the number of sources to serve.
    pub(crate) fn sources(&self) -> usize {
        self.fresh.len() + self.left_over.len() + self.serving.len() - self.served
    }

    #[inline]
    pub(crate) fn add_fresh(&mut self, source: Source) {
        self.fresh.push(source);
    }

    #[inline]
    pub(crate) fn add_left_over(&mut self, source: Source) {
        self.left_over.push(source);
    }

    /// Removes the source that was listed last, if it still is the last. Returns whether it was.
    pub(crate) fn take_back(&mut self, source: Source) -> bool {
        self.left_over.pop_if(|last| *last == source).is_some()
    }

    /// Begins to serve: first what an earlier turn has not finished, then fresh sources, then left-over ones.
    pub(crate) fn begin_serving(&mut self) {
        if self.serving.is_empty() {
            std::mem::swap(&mut self.fresh, &mut self.serving);
            self.serving.append(&mut self.left_over);
        }
    }

    /// Returns the next source to serve. It stays next until [`served`](Self::served) is called.
    #[inline]
    pub(crate) fn next_source(&self) -> Option<Source> {
        self.serving.get(self.served).copied()
    }

    /// Notes that the source was served. If there is more to do for it, it is served again in the next turn.
    #[inline]
    pub(crate) fn served(&mut self, source: Source, again: bool) {
        self.served += 1;
        if again {
            self.left_over.push(source);
        }
    }

    /// Notes that all sources were served.
    pub(crate) fn finish_serving(&mut self) {
        self.serving.clear();
        self.served = 0;
    }

    #[inline]
    pub(crate) fn add_dirty(&mut self, id: ConnectionId) {
        self.dirty.push(id);
    }

    /// Returns the dirty connection at a place, counted from 0.
    pub(crate) fn dirty_at(&self, place: usize) -> Option<ConnectionId> {
        self.dirty.get(place).copied()
    }

    pub(crate) fn clear_dirty(&mut self) {
        self.dirty.clear();
    }

    pub(crate) fn add_drained(&mut self, id: ConnectionId) {
        self.drained.push_back(id);
    }

    /// Returns how many connections are to be reported as drained. Later ones are reported in the next turn.
    pub(crate) fn drained(&self) -> usize {
        self.drained.len()
    }

    pub(crate) fn next_drained(&mut self) -> Option<ConnectionId> {
        self.drained.pop_front()
    }

    pub(crate) fn add_ended(&mut self, id: ConnectionId) {
        self.ended.push_back(id);
    }

    /// Returns how many ends are to be reported. Later ones are reported in the next turn.
    pub(crate) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Returns the next end to report. The connection is freed at the end of the turn, whatever the callback does.
    pub(crate) fn next_ended(&mut self) -> Option<ConnectionId> {
        let id = self.ended.pop_front()?;
        self.reported.push(id);
        Some(id)
    }

    /// Returns the number of ended connections that still occupy a slot.
    pub(crate) fn ended_in_slots(&self) -> usize {
        self.ended.len() + self.reported.len()
    }

    /// Returns the connections to free.
    pub(crate) fn take_reported(&mut self) -> impl Iterator<Item = ConnectionId> {
        self.reported.drain(..)
    }

    pub(crate) fn add_user_event(&mut self, token: Token, readiness: Readiness) {
        self.user_events.push_back((token, readiness));
    }

    pub(crate) fn next_user_event(&mut self) -> Option<(Token, Readiness)> {
        self.user_events.pop_front()
    }

    /// Drops the events of a source.
    pub(crate) fn forget_user_events(&mut self, token: Token) {
        self.user_events.retain(|(of, _)| *of != token);
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn trim(&mut self) {
        for list in [&mut self.fresh, &mut self.left_over, &mut self.serving] {
            list.shrink_to(KEPT);
        }
        self.dirty.shrink_to(KEPT);
        self.reported.shrink_to(KEPT);
        self.drained.shrink_to(KEPT);
        self.ended.shrink_to(KEPT);
        self.user_events.shrink_to(KEPT);
    }

    /// Returns all sources in the lists, for checks.
    #[cfg(debug_assertions)]
    pub(crate) fn listings(&self) -> impl Iterator<Item = Source> {
        let serving = &self.serving[self.served..];
        let all = self.fresh.iter().chain(&self.left_over).chain(serving);
        all.copied()
    }

    /// Returns all ended connections, reported or not.
    #[cfg(debug_assertions)]
    pub(crate) fn all_ended(&self) -> impl Iterator<Item = ConnectionId> {
        self.ended.iter().chain(&self.reported).copied()
    }

    /// Returns the connections to be flushed.
    #[cfg(debug_assertions)]
    pub(crate) fn all_dirty(&self) -> impl Iterator<Item = ConnectionId> {
        self.dirty.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(index: u32) -> Source {
        Source::Connection(ConnectionId::new(index, 0))
    }

    /// Serves all, and returns them in order; those in `again` are served again in the next turn.
    fn serve(work: &mut Work, again: &[u32]) -> Vec<u32> {
        let mut order = Vec::new();
        work.begin_serving();
        while let Some(next) = work.next_source() {
            let Source::Connection(id) = next else {
                panic!("no listener was added");
            };
            order.push(id.index() as u32);
            work.served(next, again.contains(&(id.index() as u32)));
        }
        work.finish_serving();
        order
    }

    #[test]
    fn fresh_sources_come_before_those_that_were_left_over() {
        let mut work = Work::default();
        work.add_left_over(source(1));
        work.add_fresh(source(2));
        work.add_fresh(source(3));
        assert_eq!(work.sources(), 3);
        assert_eq!(serve(&mut work, &[2]), [2, 3, 1]);
        work.add_fresh(source(4));
        assert_eq!(serve(&mut work, &[]), [4, 2]);
        assert!(work.is_empty());
    }

    #[test]
    fn turn_that_was_broken_off_goes_on_where_it_was() {
        let mut work = Work::default();
        work.add_fresh(source(1));
        work.add_fresh(source(2));
        work.begin_serving();
        work.served(source(1), true);
        // The callback for 2 panics; then there is an event for 3.
        work.add_fresh(source(3));
        assert_eq!(work.sources(), 3);
        assert_eq!(serve(&mut work, &[]), [2]);
        assert_eq!(serve(&mut work, &[]), [3, 1]);
        assert!(work.is_empty());
    }

    #[test]
    fn only_the_source_that_was_added_last_is_taken_back() {
        let mut work = Work::default();
        work.add_left_over(source(1));
        work.add_left_over(source(2));
        assert!(!work.take_back(source(1)));
        assert!(work.take_back(source(2)));
        assert_eq!(serve(&mut work, &[]), [1]);
    }

    #[test]
    fn end_that_is_reported_keeps_its_slot_until_the_end_of_the_turn() {
        let mut work = Work::default();
        let id = ConnectionId::new(7, 1);
        work.add_ended(id);
        assert_eq!((work.ended(), work.ended_in_slots()), (1, 1));
        assert_eq!(work.next_ended(), Some(id));
        assert_eq!((work.ended(), work.ended_in_slots()), (0, 1));
        assert!(!work.is_empty());
        assert_eq!(work.take_reported().collect::<Vec<_>>(), [id]);
        assert!(work.is_empty());
    }

    #[test]
    fn events_of_a_source_are_forgotten_and_those_of_others_are_not() {
        let mut work = Work::default();
        for token in [1, 2, 1] {
            work.add_user_event(Token(token), Readiness::default());
        }
        work.forget_user_events(Token(1));
        let next = work.next_user_event();
        assert_eq!(next, Some((Token(2), Readiness::default())));
        assert!(work.is_empty());
    }
}

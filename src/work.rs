//! The work lists: sources to serve, and connections to flush, to report and to free. Pure.
//!
//! ```text
//!   an event ----> events ----> served once each; heavy connections are only listed
//!                                  |                   |
//!                                  | more to do        v
//!   more to do,                    |               left over ----> served in rotation, until the
//!   but no event --+-> next turn <-+                ^     ^        budget of the turn is spent
//!                          |                        |     |             |
//!                          +- begin of the turn ----+     +- more to do -+
//! ```
//!
//! A source itself notes whether it is left over, and a connection whether it is dirty; see `listed` and `dirty`.

use std::collections::VecDeque;

use mio::Token;

use crate::connection_id::{ConnectionId, Source};
use crate::socket::Readiness;

/// The number of places that an empty list keeps allocated: 4 KiB.
const KEPT: usize = 256;

/// The work lists of a loop.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// The events of this turn, and how many of them were served. After a panic of a callback the next turn continues
    /// here.
    events: Vec<(Token, Readiness)>,
    served: usize,
    /// Heavy connections that are ready, and sources with more to do and no event to come. Each source is at most once in
    /// this list and the next together.
    left_over: VecDeque<Source>,
    /// Sources that are left over from the next turn on.
    next_turn: Vec<Source>,
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
        self.events.is_empty()
            && self.left_over.is_empty()
            && self.next_turn.is_empty()
            && self.dirty.is_empty()
            && self.drained.is_empty()
            && self.ended.is_empty()
            && self.reported.is_empty()
            && self.user_events.is_empty()
    }

    /// Returns the number of sources to serve.
    pub(crate) fn sources(&self) -> usize {
        self.events.len() - self.served + self.left_over.len() + self.next_turn.len()
    }

    #[inline]
    pub(crate) fn add_event(&mut self, token: Token, readiness: Readiness) {
        self.events.push((token, readiness));
    }

    /// Returns the next event. It stays next until [`event_served`](Self::event_served) is called.
    #[inline]
    pub(crate) fn next_event(&self) -> Option<(Token, Readiness)> {
        self.events.get(self.served).copied()
    }

    #[inline]
    pub(crate) fn event_served(&mut self) {
        self.served += 1;
    }

    /// Notes that all events were served.
    pub(crate) fn finish_events(&mut self) {
        self.events.clear();
        self.served = 0;
    }

    #[inline]
    pub(crate) fn add_left_over(&mut self, source: Source) {
        self.left_over.push_back(source);
    }

    /// Adds a source that was served in this turn, or has to wait for the next turn.
    #[inline]
    pub(crate) fn add_to_next_turn(&mut self, source: Source) {
        self.next_turn.push(source);
    }

    /// Begins a turn: sources that were added for the next turn are left over in this one.
    pub(crate) fn begin_turn(&mut self) {
        if !self.next_turn.is_empty() {
            self.left_over.extend(self.next_turn.drain(..));
        }
    }

    /// Returns how many sources are left over in this turn.
    pub(crate) fn left_over(&self) -> usize {
        self.left_over.len()
    }

    /// Returns the source that has waited longest. It stays in its place until
    /// [`take_left_over`](Self::take_left_over) is called.
    pub(crate) fn next_left_over(&self) -> Option<Source> {
        self.left_over.front().copied()
    }

    /// Removes the source that has waited longest.
    pub(crate) fn take_left_over(&mut self) {
        self.left_over.pop_front();
    }

    #[inline]
    pub(crate) fn add_dirty(&mut self, id: ConnectionId) {
        self.dirty.push(id);
    }

    /// Returns the dirty connection at an index of the list.
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

    /// Returns whether there are connections to free.
    pub(crate) fn has_reported(&self) -> bool {
        !self.reported.is_empty()
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
        self.events.shrink_to(KEPT);
        self.left_over.shrink_to(KEPT);
        self.next_turn.shrink_to(KEPT);
        self.dirty.shrink_to(KEPT);
        self.reported.shrink_to(KEPT);
        self.drained.shrink_to(KEPT);
        self.ended.shrink_to(KEPT);
        self.user_events.shrink_to(KEPT);
    }

    /// Returns all sources that are left over, for checks.
    #[cfg(debug_assertions)]
    pub(crate) fn all_left_over(&self) -> impl Iterator<Item = Source> {
        self.left_over.iter().chain(&self.next_turn).copied()
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

    fn index(source: Source) -> usize {
        match source {
            Source::Connection(id) => id.index(),
            Source::Listener(id) => id.index(),
            #[cfg(feature = "proxy")]
            Source::Arrival(_) => unreachable!("not used here"),
        }
    }

    /// Serves all events, and returns their tokens in order.
    fn serve_events(work: &mut Work) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some((token, _)) = work.next_event() {
            order.push(token.0);
            work.event_served();
        }
        work.finish_events();
        order
    }

    #[test]
    fn turn_that_was_interrupted_continues_with_the_event_that_was_not_served() {
        let mut work = Work::default();
        work.add_event(Token(1), Readiness::READABLE);
        work.add_event(Token(2), Readiness::READABLE);
        work.event_served();
        // The callback for 2 panics; then there is an event for 3.
        work.add_event(Token(3), Readiness::READABLE);
        assert_eq!(work.sources(), 2);
        assert_eq!(serve_events(&mut work), [2, 3]);
        assert!(work.is_empty());
    }

    #[test]
    fn source_that_is_served_again_goes_behind_those_that_wait() {
        let mut work = Work::default();
        for i in 1..=3 {
            work.add_left_over(source(i));
        }
        let mut order = Vec::new();
        for _ in 0..5 {
            let next = work.next_left_over().expect("one has more to do");
            order.push(index(next));
            work.take_left_over();
            if index(next) != 2 {
                work.add_left_over(next);
            }
        }
        assert_eq!(order, [1, 2, 3, 1, 3]);
        assert_eq!((work.sources(), work.left_over()), (2, 2));
    }

    #[test]
    fn source_that_has_had_its_opportunity_waits_for_the_next_turn() {
        let mut work = Work::default();
        work.add_to_next_turn(source(1));
        work.add_left_over(source(2));
        assert_eq!((work.sources(), work.left_over()), (2, 1));
        work.take_left_over();
        work.begin_turn();
        assert_eq!(work.next_left_over(), Some(source(1)));
        assert_eq!((work.sources(), work.left_over()), (1, 1));
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

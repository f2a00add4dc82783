//! What holds at the end of each turn, checked in debug builds.

use std::collections::{HashMap, HashSet};

use super::Net;
use crate::connection::Phase;
use crate::connection_id::Source;

/// With more connections than this, not every turn is checked: a check costs as much as looking at all of them.
const CHECKED_EACH_TURN: u64 = 256;

impl Net {
    /// # Panics
    /// If one of them does not hold.
    pub(crate) fn check_invariants(&self) {
        let crowd = self.connections.len() as u64 / CHECKED_EACH_TURN;
        if self.stats.turns.is_multiple_of(1 + crowd) {
            self.check_lists();
            self.check_counts();
        }
    }

    /// A source is listed exactly if it is in a list, and in one only; what can be done without an event is listed. A
    /// connection is closed exactly if its end is to be reported. What is to be flushed is in the list of those.
    fn check_lists(&self) {
        let mut listings: HashMap<Source, usize> = HashMap::new();
        for source in self.work.listings() {
            *listings.entry(source).or_default() += 1;
        }
        let ended: HashSet<_> = self.work.all_ended().collect();
        let dirty: HashSet<_> = self.work.all_dirty().collect();
        for (id, connection) in self.connections.iter() {
            let listed = listings.remove(&Source::Connection(id)).unwrap_or(0);
            assert_eq!(listed, usize::from(connection.listed), "{id} is listed");
            let runnable = connection.is_runnable();
            assert!(!runnable || connection.listed, "{id} is left alone");
            let is_closed = connection.phase == Phase::Closed;
            assert_eq!(is_closed, ended.contains(&id), "{id} is to be reported");
            assert!(
                !connection.dirty || dirty.contains(&id),
                "{id} is not flushed"
            );
            connection.check_invariants();
        }
        for (id, listener) in self.listeners.iter() {
            let listed = listings.remove(&Source::Listener(id)).unwrap_or(0);
            assert_eq!(listed, usize::from(listener.listed), "listener {id}");
            let runnable = listener.is_runnable();
            assert!(!runnable || listener.listed, "listener {id} is left alone");
        }
        // One that was freed while it was listed stays in the list until it is looked for.
    }

    /// The number of open connections is right, and the memory in use is the sum of what the connections hold, where a
    /// payload that several share counts once.
    fn check_counts(&self) {
        let (mut open, mut held) = (0, 0);
        let mut shared = HashMap::new();
        for (_, connection) in self.connections.iter() {
            open += usize::from(connection.is_open());
            held += connection.held_alone();
            for payload in connection.shared_payloads() {
                shared.insert((payload.as_ptr(), payload.len()), payload.len() as u64);
            }
        }
        assert_eq!(open, self.open, "open connections");
        held += shared.values().sum::<u64>();
        assert_eq!(held, self.common.memory.used(), "memory in use");
    }
}

//! The memory budget of a loop: which connections end when it is exceeded.

mod choice;

use std::collections::HashMap;
use std::time::Duration;

use super::Net;
use crate::connection_id::ConnectionId;
use crate::reason::DisconnectCause;
use choice::{Holder, Payload, choose};

/// After this time without progress, the shared payloads of a connection count in the choice.
const STALLED: Duration = Duration::from_secs(1);

impl Net {
    /// Ends as few connections as possible, until the rest fits the budget.
    #[inline]
    pub(crate) fn enforce_budget(&mut self) {
        let is_over = self.common.memory.used() > self.config.memory_budget;
        if is_over && !mutated!("memory budget ignored") {
            self.evict();
        }
    }

    /// Flushes before it ends connections: memory that only waits for the end of the turn, or that a socket takes
    /// without having reported it, is no reason to end any.
    #[cold]
    fn evict(&mut self) {
        let budget = self.config.memory_budget;
        self.connections.end_replies();
        self.flush_dirty();
        self.write_what_can_be();
        for id in self.choose_evicted() {
            let held = self.connections.get(id).map_or(0, |held| held.held());
            self.end(id, Some(DisconnectCause::MemoryBudget { held, budget }));
        }
    }

    /// Tries to write the queue of each connection, once per turn.
    fn write_what_can_be(&mut self) {
        let turn = self.stats.turns;
        if std::mem::replace(&mut self.schedule.tried_to_write, turn) == turn {
            return;
        }
        let queued = self.connections.iter().filter(|it| it.1.has_queued());
        let queued: Vec<ConnectionId> = queued.map(|(id, _)| id).collect();
        for id in queued {
            if self.common.memory.used() <= self.config.memory_budget {
                return;
            }
            self.write_now(id);
        }
    }

    /// Returns the connections to end so that the others fit the budget.
    fn choose_evicted(&self) -> Vec<ConnectionId> {
        let used = self.common.memory.used();
        let excess = used.saturating_sub(self.config.memory_budget);
        if excess == 0 {
            return Vec::new();
        }
        let mut known = HashMap::new();
        let mut payloads: Vec<Payload> = Vec::new();
        let mut ids = Vec::new();
        let mut holders = Vec::new();
        for (id, connection) in self.connections.iter() {
            let own = if mutated!("eviction by shared bytes") {
                connection.held()
            } else {
                connection.held_alone()
            };
            let shares = connection.shared_payloads().map(|payload| {
                let len = payload.len() as u64;
                *known.entry((payload.as_ptr(), len)).or_insert_with(|| {
                    let queues = self.common.memory.sharing(payload);
                    payloads.push(Payload { len, queues });
                    payloads.len() - 1
                })
            });
            let shares: Vec<usize> = shares.collect();
            if own > 0 || !shares.is_empty() {
                ids.push(id);
                let is_stalled = connection.is_stalled(STALLED, self.common.now);
                holders.push(Holder {
                    own,
                    shares,
                    is_stalled,
                });
            }
        }
        let chosen = choose(excess, &holders, &mut payloads);
        chosen.into_iter().map(|index| ids[index]).collect()
    }
}

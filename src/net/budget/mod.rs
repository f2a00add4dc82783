//! The memory budget of a loop: which connections are ended when it is exceeded.

mod choice;

use std::collections::HashMap;
use std::time::Duration;

use super::Net;
use crate::connection_id::ConnectionId;
use crate::reason::DisconnectCause;
use crate::socket::Readiness;
use choice::{Holder, Payload, choose};

/// A connection that has taken nothing for so long takes part in the choice with what it shares.
const STALLED: Duration = Duration::from_secs(1);

impl Net {
    /// Ends as few connections as have to be ended, until the rest fits.
    #[inline]
    pub(crate) fn enforce_budget(&mut self) {
        if self.common.memory.used() > self.config.memory_budget {
            self.evict();
        }
    }

    /// Memory that is only waiting for the end of the turn to be written is no reason to end anything, and neither is what
    /// a socket takes without having reported that it does.
    #[cold]
    fn evict(&mut self) {
        let budget = self.config.memory_budget;
        self.flush_dirty();
        self.write_what_can_be();
        for id in self.choose_evicted() {
            let held = self.connections.get(id).map_or(0, |held| held.held());
            self.end(id, Some(DisconnectCause::MemoryBudget { held, budget }));
        }
    }

    /// Tries to write to every connection for which something is queued, once in a turn.
    fn write_what_can_be(&mut self) {
        let turn = self.stats.turns;
        if std::mem::replace(&mut self.tried_to_write, turn) == turn {
            return;
        }
        let queued = self.connections.iter().filter(|it| it.1.has_queued());
        let queued: Vec<ConnectionId> = queued.map(|(id, _)| id).collect();
        for id in queued {
            if self.common.memory.used() <= self.config.memory_budget {
                return;
            }
            if let Some(connection) = self.connections.get_mut(id) {
                connection.readiness |= Readiness::WRITABLE;
                self.flush(id);
            }
        }
    }

    /// The connections without which the others would fit.
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
            let own = connection.held_alone();
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

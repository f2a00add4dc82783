//! The memory budget of a loop: which connections are ended when it is exceeded.

mod choice;

use std::collections::HashMap;

use super::Net;
use crate::connection_id::ConnectionId;
use crate::reason::DisconnectCause;
use choice::{Holder, Payload, choose};

/// How often the choice is made anew, because those that were chosen could be written to.
const ROUNDS: usize = 3;

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
        for _ in 0..ROUNDS {
            let before = self.common.memory.used();
            let chosen = self.choose_evicted();
            for id in &chosen {
                self.pretend_ready(*id);
                self.flush(*id);
            }
            if self.common.memory.used() == before {
                break;
            }
        }
        for id in self.choose_evicted() {
            let held = self.connections.get(id).map_or(0, |held| held.held());
            self.end(id, Some(DisconnectCause::MemoryBudget { held, budget }));
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
                *known.entry(payload.as_ptr()).or_insert_with(|| {
                    let queues = self.common.memory.sharing(payload);
                    let len = payload.len() as u64;
                    payloads.push(Payload { len, queues });
                    payloads.len() - 1
                })
            });
            let shares: Vec<usize> = shares.collect();
            if own > 0 || !shares.is_empty() {
                ids.push(id);
                holders.push(Holder { own, shares });
            }
        }
        let chosen = choose(excess, &holders, &mut payloads);
        chosen.into_iter().map(|index| ids[index]).collect()
    }
}

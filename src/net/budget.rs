//! The memory budget of a loop: who has to go when it is exceeded.

use super::Net;
use crate::connection_id::ConnectionId;
use crate::reason::DisconnectCause;

impl Net {
    /// Ends the connections that hold the most, until the rest fits.
    #[inline]
    pub(crate) fn enforce_budget(&mut self) {
        if self.common.memory.used() > self.config.memory_budget {
            self.evict();
        }
    }

    #[cold]
    fn evict(&mut self) {
        let budget = self.config.memory_budget;
        while self.common.memory.used() > budget {
            let Some((held, id)) = self.worst() else {
                return;
            };
            self.end(id, Some(DisconnectCause::MemoryBudget { held, budget }));
        }
    }

    /// The connection that holds the most.
    fn worst(&self) -> Option<(u64, ConnectionId)> {
        let holding = self
            .connections
            .iter()
            .map(|(id, connection)| (connection.held(), id));
        holding.filter(|(held, _)| *held > 0).max()
    }
}

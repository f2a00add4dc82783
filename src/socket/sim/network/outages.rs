//! Interruptions: partitions and stalls, and which connections the network has ended.

use std::time::Duration;

use super::Network;
use crate::socket::sim::agenda::Event;
use crate::socket::sim::faults::Faults;
use crate::socket::sim::socket::{Id, Party};
use crate::socket::sim::trace::What;

impl Network {
    /// Interrupts or restores all traffic between two owners.
    pub(crate) fn partition(&mut self, one: Party, two: Party) {
        self.note(What::Happened("a partition begins"));
        self.partitions.push((one, two));
    }

    /// Ends all partitions.
    pub(crate) fn heal(&mut self) {
        self.note(What::Happened("partitions end"));
        self.partitions.clear();
        self.pump_all();
    }

    pub(in crate::socket::sim) fn is_partitioned(&self, one: Party, two: Party) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|apart| *apart == (one, two) || *apart == (two, one))
    }

    pub(in crate::socket::sim) fn are_apart(&self, one: Id, two: Id) -> bool {
        if self.partitions.is_empty() {
            return false;
        }
        match (self.sockets.get(one.index), self.sockets.get(two.index)) {
            (Some(one), Some(two)) => self.is_partitioned(one.owner, two.owner),
            _ => false,
        }
    }

    /// Interrupts a direction for a time.
    pub(crate) fn stall(&mut self, id: Id, until: Duration) {
        if let Some(socket) = self.socket(id) {
            socket.stalled_until = until;
            self.note_socket(id, "is stalled");
            self.schedule(until, Event::Resume(id));
        }
    }

    /// Interrupts both directions of a connection for a time.
    pub(crate) fn stall_both(&mut self, id: Id, until: Duration) {
        let other = self.socket(id).and_then(|socket| socket.other);
        self.stall(id, until);
        if let Some(other) = other {
            self.stall(other, until);
        }
    }

    /// Turns off all faults from now on, and ends all interruptions.
    pub(crate) fn calm(&mut self) {
        self.faults = Faults::none();
        self.partitions.clear();
        for (_, socket) in &mut self.sockets {
            socket.stalled_until = Duration::ZERO;
        }
        self.pump_all();
    }

    /// Notes that the network ends a connection.
    pub(in crate::socket::sim) fn disturbed_both(&mut self, id: Id) {
        self.disturbed.insert(id.serial);
        if let Some(other) = self.socket(id).and_then(|socket| socket.other) {
            self.disturbed.insert(other.serial);
        }
    }

    /// Returns whether the network has ended the connection of a socket.
    pub(crate) fn was_disturbed(&self, id: Id) -> bool {
        self.disturbed.contains(&id.serial)
    }

    /// Returns the number of sockets whose connections the network has ended or prevented.
    pub(crate) fn disturbances(&self) -> usize {
        self.disturbed.len()
    }
}

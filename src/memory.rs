//! The memory that the connections of a loop hold: queued bytes, and the held part of unfinished frames.
//!
//! Counts bytes that are present, not bytes that a peer has announced, nor the capacity of buffers. The count is exact:
//! each change is recorded where it happens, in O(1). A payload that several queues share counts once.

use std::collections::HashMap;

use bytes::Bytes;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    used: u64,
    /// The part that holds input: bytes that were read and not delivered.
    input: u64,
    /// Payloads queued by reference, by address and length, each with the number of queues that hold it. While a queue
    /// holds it, its address cannot be reused.
    shared: HashMap<(usize, usize), usize>,
}

impl Memory {
    /// Returns the number of bytes in use.
    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Returns the number of bytes in write queues.
    pub(crate) fn queued(&self) -> u64 {
        self.used.saturating_sub(self.input())
    }

    /// Returns the number of bytes of undelivered input.
    pub(crate) fn input(&self) -> u64 {
        self.input
    }

    /// Records that input is held.
    #[inline]
    pub(crate) fn add_input(&mut self, bytes: usize) {
        self.input += bytes as u64;
        self.add(bytes);
    }

    /// Records that input is no longer held.
    #[inline]
    pub(crate) fn sub_input(&mut self, bytes: usize) {
        self.input -= bytes as u64;
        self.sub(bytes);
    }

    /// Records that bytes were queued.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.used += bytes as u64;
    }

    #[inline]
    pub(crate) fn sub(&mut self, bytes: usize) {
        debug_assert!(self.used >= bytes as u64, "more memory released than used");
        self.used -= bytes as u64;
    }

    /// Records that a queue holds a payload by reference.
    pub(crate) fn share(&mut self, payload: &Bytes) {
        let queues = self.shared.entry(key(payload)).or_default();
        *queues += 1;
        if *queues == 1 {
            self.add(payload.len());
        }
    }

    /// Returns how many times queues hold a payload.
    pub(crate) fn sharing(&self, payload: &Bytes) -> usize {
        self.shared.get(&key(payload)).copied().unwrap_or(0)
    }

    /// Records that a queue no longer holds a payload.
    pub(crate) fn unshare(&mut self, payload: &Bytes) {
        let Some(queues) = self.shared.get_mut(&key(payload)) else {
            return;
        };
        *queues -= 1;
        if *queues == 0 {
            self.shared.remove(&key(payload));
            self.sub(payload.len());
            if self.shared.is_empty() {
                self.shared = HashMap::new();
            }
        }
    }
}

fn key(payload: &Bytes) -> (usize, usize) {
    (payload.as_ptr().addr(), payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_counts_once_however_many_share_it() {
        let mut memory = Memory::default();
        let payload = Bytes::from(vec![7; 5000]);
        let other = Bytes::from(vec![7; 5000]);
        memory.add(10);
        for _ in 0..3 {
            memory.share(&payload.clone());
            assert_eq!(memory.used(), 5010);
        }
        memory.share(&other);
        assert_eq!(memory.used(), 10_010);
        memory.unshare(&payload);
        memory.unshare(&payload);
        assert_eq!(memory.used(), 10_010);
        memory.unshare(&payload);
        memory.unshare(&other);
        assert_eq!(memory.used(), 10);
        memory.sub(10);
        assert_eq!(memory.used(), 0);
    }
}

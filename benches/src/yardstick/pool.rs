//! Large buffers, recycled: memory that was used before need not be faulted in again.

/// By the power of two that is their capacity.
pub(super) struct Pool([Vec<Vec<u8>>; usize::BITS as usize]);

/// Buffers of one size keep no more than this.
const MOST_BYTES: usize = 512 << 20;
/// The smallest buffer there is.
const LEAST_BYTES: usize = 8 << 10;

impl Pool {
    pub(super) fn new() -> Self {
        Self([const { Vec::new() }; usize::BITS as usize])
    }

    /// Returns an empty buffer with room for so many bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let capacity = bytes.max(LEAST_BYTES).next_power_of_two();
        let class = &mut self.0[capacity.trailing_zeros() as usize];
        class.pop().unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity >= LEAST_BYTES {
            buffer.clear();
            let class = &mut self.0[capacity.ilog2() as usize];
            if class.len() * capacity < MOST_BYTES {
                class.push(buffer);
            }
        }
    }
}

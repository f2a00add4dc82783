//! State that all connections of a loop share and use one at a time.

use crate::buffers::Buffers;
use crate::fanout::FanoutBuffer;
use crate::memory::Memory;
use crate::socket::Selector;
use crate::tick::Tick;
use crate::write_queue::Done;

#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) registry: Selector,
    pub(crate) buffers: Buffers,
    pub(crate) memory: Memory,
    pub(crate) written: Written,
    /// Reads that have returned bytes.
    pub(crate) reads: u64,
    /// Small frames that were sent to many connections in this turn.
    pub(crate) fanout: FanoutBuffer,
    /// The time of this turn.
    pub(crate) now: Tick,
    /// Whether each read and write of this turn is logged, or each callback is timed. There is no fast path then, so that
    /// it need not check for it.
    pub(crate) is_watched: bool,
    #[cfg(feature = "tls")]
    pub(crate) ciphertext: crate::tls::Buffers,
    /// The work on TLS handshakes that is left in this turn.
    #[cfg(feature = "tls")]
    pub(crate) handshakes_left: usize,
}

/// Recycles the memory of a payload that was written or dropped.
pub(super) fn recycle(payload: Done, memory: &mut Memory, buffers: &mut Buffers) {
    match payload {
        Done::Shared(payload) => {
            memory.unshare(&payload);
            buffers.put_shared(payload);
        }
        Done::Owned(buffer) => buffers.put_input(buffer),
    }
}

/// What flushes have done.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    pub(crate) calls: u64,
    /// Frames that were replaced by others of their slot.
    pub(crate) replaced: u64,
}

impl Common {
    pub(crate) fn new(registry: Selector) -> Self {
        Self {
            registry,
            buffers: Buffers::default(),
            memory: Memory::default(),
            written: Written::default(),
            reads: 0,
            fanout: FanoutBuffer::default(),
            now: Tick::default(),
            is_watched: false,
            #[cfg(feature = "tls")]
            ciphertext: crate::tls::Buffers::default(),
            #[cfg(feature = "tls")]
            handshakes_left: 0,
        }
    }
}

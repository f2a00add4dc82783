//! State that all connections of a loop share and use one at a time.

use mio::Registry;

use crate::buffers::Buffers;
use crate::memory::Memory;
use crate::tick::Tick;

#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) registry: Registry,
    pub(crate) buffers: Buffers,
    pub(crate) memory: Memory,
    pub(crate) written: Written,
    /// The time of this turn.
    pub(crate) now: Tick,
    #[cfg(feature = "tls")]
    pub(crate) ciphertext: crate::tls::Buffers,
    /// The work on TLS handshakes that is left in this turn.
    #[cfg(feature = "tls")]
    pub(crate) handshakes_left: usize,
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
    pub(crate) fn new(registry: Registry) -> Self {
        Self {
            registry,
            buffers: Buffers::default(),
            memory: Memory::default(),
            written: Written::default(),
            now: Tick::default(),
            #[cfg(feature = "tls")]
            ciphertext: crate::tls::Buffers::default(),
            #[cfg(feature = "tls")]
            handshakes_left: 0,
        }
    }
}

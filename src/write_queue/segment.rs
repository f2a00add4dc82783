//! The parts of a queue.

use bytes::Bytes;

use super::source::Source;
use crate::frame::Envelope;

#[derive(Debug)]
pub(super) enum Segment {
    Copied(Vec<u8>),
    /// The header of a large payload.
    Header(Header),
    /// The first bytes of a buffer that belongs to the queue.
    Owned(Vec<u8>, usize),
    Shared(Bytes),
    Source(Box<Source>),
}

/// A header, without an allocation of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) len: u8,
    pub(super) bytes: [u8; Envelope::MAX],
}

/// A payload that was written, or dropped.
#[derive(Debug)]
pub(crate) enum Done {
    /// A payload queued by reference.
    Shared(Bytes),
    /// A buffer that belonged to the queue.
    Owned(Vec<u8>),
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Header(header) => &header.bytes[..usize::from(header.len)],
            Self::Owned(buffer, len) => &buffer[..*len],
            Self::Shared(bytes) => bytes,
            Self::Source(source) => source.bytes(),
        }
    }

    /// Passes on the memory of a segment that was written or dropped.
    pub(super) fn give(self, done: &mut impl FnMut(Done)) {
        match self {
            Self::Shared(payload) => done(Done::Shared(payload)),
            Self::Owned(buffer, _) => done(Done::Owned(buffer)),
            Self::Copied(_) | Self::Header(_) | Self::Source(_) => {}
        }
    }
}

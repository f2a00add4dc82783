//! `Chunk`: a piece of a frame that is too large to be buffered.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::payload::Frame;

/// The position of a chunk in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) total: Option<u64>,
    pub(crate) is_last: bool,
}

/// A piece of the payload of a frame that is longer than [`stream_frames_over`](crate::Config::stream_frames_over).
/// Derefs to `&[u8]`.
///
/// The chunks of a frame come in order, without gaps, and with no other frame of the connection in between. Their
/// lengths depend on what each read returns.
pub struct Chunk<'a> {
    extent: Extent,
    bytes: Frame<'a>,
}

impl<'a> Chunk<'a> {
    pub(crate) fn new(extent: Extent, bytes: Frame<'a>) -> Self {
        Self { extent, bytes }
    }

    /// Returns the position in the payload at which the chunk begins, in bytes: 0 for the first chunk.
    pub fn offset(&self) -> u64 {
        self.extent.offset
    }

    /// Returns the length of the whole payload, in bytes, if the format declares it in advance. A [`delimiter`] format
    /// does not; its length is known with the last chunk.
    ///
    /// [`delimiter`]: crate::Framing::delimiter
    pub fn total(&self) -> Option<u64> {
        self.extent.total
    }

    /// Returns `true` for the first chunk of a frame.
    pub fn is_first(&self) -> bool {
        self.extent.offset == 0
    }

    /// Returns `true` for the last chunk of a frame. It may be empty if the format does not declare the length. If the
    /// format [checks the trailer](crate::FrameFormat::check_trailer), the last chunk is delivered after the check.
    pub fn is_last(&self) -> bool {
        self.extent.is_last
    }

    /// Returns the chunk as owned bytes; without a copy if it was assembled.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into_bytes()
    }
}

impl Deref for Chunk<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Chunk<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("offset", &self.offset())
            .field("total", &self.total())
            .field("is_last", &self.is_last())
            .field("bytes", &self.bytes)
            .finish()
    }
}

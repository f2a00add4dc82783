//! `Chunk`: a piece of a frame that is too large to be held.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::payload::Frame;

/// Where a piece lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) total: Option<u64>,
    pub(crate) is_last: bool,
}

/// A piece of the payload of a frame that is longer than
/// [`stream_frames_over`](crate::Config::stream_frames_over). Derefs to `&[u8]`.
///
/// The pieces of a frame come in order, without gaps, and no other frame of the connection comes between them. How long
/// they are depends on what each read brings.
pub struct Chunk<'a> {
    extent: Extent,
    bytes: Frame<'a>,
}

impl<'a> Chunk<'a> {
    pub(crate) fn new(extent: Extent, bytes: Frame<'a>) -> Self {
        Self { extent, bytes }
    }

    /// Where in the payload the piece begins, in bytes: 0 for the first.
    pub fn offset(&self) -> u64 {
        self.extent.offset
    }

    /// The length of the whole payload, in bytes, if the format tells it in advance. A [`delimiter`] does not; there it
    /// is known with the last piece.
    ///
    /// [`delimiter`]: crate::Framing::delimiter
    pub fn total(&self) -> Option<u64> {
        self.extent.total
    }

    /// Whether it is the first piece of its frame.
    pub fn is_first(&self) -> bool {
        self.extent.offset == 0
    }

    /// Whether it is the last piece of its frame. The last one may be empty where the format does not tell the length. Where
    /// the format [checks the trailer](crate::FrameFormat::check_trailer), the last piece comes after that.
    pub fn is_last(&self) -> bool {
        self.extent.is_last
    }

    /// The piece as bytes of its own; without a copy where it was assembled.
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

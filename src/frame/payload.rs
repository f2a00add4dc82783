//! `Frame`: a payload on its way through a callback, and who owns its bytes.

use std::ops::Deref;
use std::{fmt, mem};

use bytes::Bytes;

/// The payload of one frame, without what framed it. Derefs to `&[u8]`.
///
/// In [`on_data`](crate::Handler::on_data) it borrows from the loop: a frame that arrived whole lies in the loop's read
/// buffer (no copy, no allocation), a frame that was assembled from many reads in a buffer of its own.
/// [`into_bytes`](Self::into_bytes) keeps it beyond the callback;
/// [`Net::send_frame`](crate::Net::send_frame) passes it on.
///
/// Calls that send to many take anything that converts into a `Frame`: slices are copied, `Bytes` shared.
///
/// ```
/// use throng::Frame;
///
/// let frame = Frame::from(b"hello");
/// assert_eq!(&frame[..4], b"hell");
/// assert_eq!(frame.into_bytes(), "hello");
/// ```
pub struct Frame<'a>(Repr<'a>);

enum Repr<'a> {
    /// In a buffer of somebody else's.
    Borrowed(&'a [u8]),
    /// The whole of a buffer, which may be taken; if it is not, its owner uses it again.
    Assembled(&'a mut Vec<u8>),
    Shared(Bytes),
}

impl<'a> Frame<'a> {
    pub(crate) fn assembled(buffer: &'a mut Vec<u8>) -> Self {
        Self(Repr::Assembled(buffer))
    }

    /// Makes the payload outlive the callback: without a copy where the frame was assembled or is shared already,
    /// by copying it where it lies in the loop's read buffer.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Repr::Assembled(buffer) => mem::take(buffer).into(),
            Repr::Shared(bytes) => bytes,
        }
    }

    /// The bytes, if they are somebody else's and would have to be copied to be kept.
    #[inline]
    pub(crate) fn as_borrowed(&self) -> Option<&'a [u8]> {
        match self.0 {
            Repr::Borrowed(bytes) => Some(bytes),
            Repr::Assembled(_) | Repr::Shared(_) => None,
        }
    }
}

impl Deref for Frame<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Assembled(buffer) => buffer,
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Frame<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        write!(f, "Frame({} bytes: \"", self.len())?;
        write!(f, "{}", self[..self.len().min(SHOWN)].escape_ascii())?;
        f.write_str(if self.len() > SHOWN { "...\")" } else { "\")" })
    }
}

impl<'a> From<&'a [u8]> for Frame<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Frame<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Frame<'a> {
    fn from(text: &'a str) -> Self {
        Self(Repr::Borrowed(text.as_bytes()))
    }
}

impl From<Bytes> for Frame<'_> {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Shared(bytes))
    }
}

impl From<Vec<u8>> for Frame<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Shared(bytes.into()))
    }
}

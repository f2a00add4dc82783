//! `Frame`: the payload passed to a callback or to a send, borrowed or owned.

use std::borrow::Cow;
use std::ops::Deref;
use std::{fmt, mem};

use bytes::{Bytes, BytesMut};

/// The payload of one frame, without header and trailer. Derefs to `&[u8]`.
///
/// In [`on_data`](crate::Handler::on_data) it borrows from the loop. A frame that arrived whole is in the loop's read
/// buffer (no copy, no allocation); a frame that was assembled from several reads is in a buffer of its own. Use
/// [`into_bytes`](Self::into_bytes) to keep it beyond the callback, or [`Net::send_frame`](crate::Net::send_frame) to
/// forward it.
///
/// Methods that send to many connections accept anything that converts into a `Frame`: slices, strings, vectors, boxes,
/// `Bytes`, and references to them. Borrowed payloads are copied, owned ones are not.
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
    /// Borrowed from another buffer.
    Borrowed(&'a [u8]),
    /// The first bytes of a buffer that may be taken; if it is not taken, its owner reuses it.
    Assembled(&'a mut Vec<u8>, usize),
    Shared(Bytes),
}

impl<'a> Frame<'a> {
    /// A payload that is the first `len` bytes of `buffer`.
    pub(crate) fn assembled(buffer: &'a mut Vec<u8>, len: usize) -> Self {
        let len = len.min(buffer.len());
        Self(Repr::Assembled(buffer, len))
    }

    /// Takes the buffer of an assembled payload, and the length of the payload.
    pub(crate) fn take_buffer(&mut self) -> Option<(Vec<u8>, usize)> {
        match &mut self.0 {
            Repr::Assembled(buffer, len) => Some((mem::take(*buffer), mem::take(len))),
            Repr::Borrowed(_) | Repr::Shared(_) => None,
        }
    }

    /// Returns what [`take_buffer`](Self::take_buffer) has taken.
    pub(crate) fn return_buffer(&mut self, taken: Vec<u8>, taken_len: usize) {
        if let Repr::Assembled(buffer, len) = &mut self.0 {
            **buffer = taken;
            *len = taken_len;
        }
    }

    /// Returns the payload as owned bytes. Copies it if it is in the loop's read buffer; does not copy if it was
    /// assembled or is already shared.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Repr::Assembled(buffer, len) => {
                let mut bytes = mem::take(buffer);
                bytes.truncate(len);
                bytes.into()
            }
            Repr::Shared(bytes) => bytes,
        }
    }

    /// Returns the bytes if they are borrowed and would have to be copied to be kept.
    #[inline]
    pub(crate) fn as_borrowed(&self) -> Option<&'a [u8]> {
        match self.0 {
            Repr::Borrowed(bytes) => Some(bytes),
            Repr::Assembled(..) | Repr::Shared(_) => None,
        }
    }
}

impl Deref for Frame<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Assembled(buffer, len) => &buffer[..*len],
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

/// Each of these is borrowed, or moved without a copy.
macro_rules! frame_from {
    ($($type:ty: $value:ident => $repr:expr;)*) => {
        $(impl<'a> From<$type> for Frame<'a> {
            fn from($value: $type) -> Self {
                Self($repr)
            }
        })*
    };
}

frame_from! {
    &'a String: text => Repr::Borrowed(text.as_bytes());
    &'a Vec<u8>: bytes => Repr::Borrowed(bytes);
    &'a Bytes: bytes => Repr::Shared(bytes.clone());
    String: text => Repr::Shared(text.into());
    Box<str>: text => Repr::Shared(text.into_boxed_bytes().into());
    Box<[u8]>: bytes => Repr::Shared(bytes.into());
    BytesMut: bytes => Repr::Shared(bytes.freeze());
}

impl<'a> From<Cow<'a, [u8]>> for Frame<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

impl<'a> From<Cow<'a, str>> for Frame<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_holds_bytes_becomes_a_frame() {
        fn is_hello<'a>(frame: impl Into<Frame<'a>>) {
            assert_eq!(&*frame.into(), b"hello");
        }
        let (text, bytes) = ("hello".to_owned(), b"hello".to_vec());
        let shared = Bytes::from_static(b"hello");
        is_hello("hello");
        is_hello(b"hello");
        is_hello(&b"hello"[..]);
        is_hello(&text);
        is_hello(&bytes);
        is_hello(&shared);
        is_hello(text.clone());
        is_hello(bytes.clone());
        is_hello(shared);
        is_hello(text.clone().into_boxed_str());
        is_hello(bytes.clone().into_boxed_slice());
        is_hello(BytesMut::from(&bytes[..]));
        is_hello(Cow::Borrowed("hello"));
        is_hello(Cow::<str>::Owned(text));
        is_hello(Cow::Borrowed(&b"hello"[..]));
        is_hello(Cow::<[u8]>::Owned(bytes));
    }

    #[test]
    fn owned_bytes_become_a_frame_without_a_copy() {
        let text = "hello".repeat(1000);
        let at = text.as_ptr();
        assert_eq!(Frame::from(text).into_bytes().as_ptr(), at);
    }
}

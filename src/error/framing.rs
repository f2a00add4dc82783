//! Errors between bytes and frames.

use std::{error, fmt, io};

/// The first bytes of invalid input, kept for log messages.
///
/// An HTTP client on the wrong port shows as `"GET / HT"`.
///
/// ```
/// use throng::FirstBytes;
///
/// let first = FirstBytes::of(b"GET / HTTP/1.1\r\n");
/// assert_eq!(first.as_bytes(), b"GET / HT");
/// assert_eq!(first.to_string(), r#""GET / HT""#);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FirstBytes {
    bytes: [u8; FirstBytes::MAX],
    len: u8,
}

impl FirstBytes {
    /// The maximum number of bytes kept.
    pub const MAX: usize = 8;

    /// Keeps the first [`MAX`](Self::MAX) bytes of `input`.
    pub fn of(input: &[u8]) -> Self {
        let len = input.len().min(Self::MAX);
        let mut bytes = [0; Self::MAX];
        bytes[..len].copy_from_slice(&input[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// Returns the bytes that were kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Allocating memory for a frame failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfMemory {
    /// The number of additional bytes requested.
    pub requested: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for {} more bytes of a frame", self.requested)
    }
}

impl error::Error for OutOfMemory {}

impl From<OutOfMemory> for DecodeError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl From<OutOfMemory> for EncodeError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

/// Why bytes could not be decoded into frames. The error is final: the frame boundaries of the stream are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A frame is longer than the limit.
    FrameTooLarge {
        /// The declared length in bytes; for a format without a header, the bytes seen so far.
        declared: u64,
        /// The longest payload accepted, in bytes.
        max: u64,
        /// The first bytes of the frame, header included; of a line that was delivered in chunks, those of the chunk
        /// that exceeds the limit.
        first_bytes: FirstBytes,
    },
    /// The bytes violate the format.
    Malformed {
        /// What the format expected.
        expected: &'static str,
        /// The bytes that arrived instead.
        first_bytes: FirstBytes,
    },
    /// Allocating memory for an unfinished frame failed.
    OutOfMemory(OutOfMemory),
}

impl DecodeError {
    /// Returns the error for bytes that are not a valid frame: what was expected, and the `input` found instead.
    pub fn malformed(expected: &'static str, input: &[u8]) -> Self {
        Self::Malformed {
            expected,
            first_bytes: FirstBytes::of(input),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameTooLarge {
                declared,
                max,
                first_bytes,
            } => write!(
                f,
                "a frame of {declared} bytes exceeds the limit of {max}; it begins with {first_bytes}"
            ),
            Self::Malformed {
                expected,
                first_bytes,
            } => write!(f, "expected {expected}, got {first_bytes}"),
            Self::OutOfMemory(error) => error.fmt(f),
        }
    }
}

impl error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::OutOfMemory(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> Self {
        let kind = match &error {
            DecodeError::FrameTooLarge { .. } | DecodeError::Malformed { .. } => {
                io::ErrorKind::InvalidData
            }
            DecodeError::OutOfMemory(_) => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

/// Why a payload cannot be encoded as a frame of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload is longer than the limit, or than the length field can encode.
    PayloadTooLong {
        /// The length of the payload, in bytes.
        len: u64,
        /// The longest payload that can be sent, in bytes.
        max: u64,
    },
    /// The payload contains the delimiter.
    ContainsDelimiter {
        /// The delimiter.
        delimiter: u8,
        /// The position of its first occurrence in the payload.
        position: usize,
    },
    /// A custom format refused the payload.
    Refused {
        /// What the format expects of a payload.
        expected: &'static str,
    },
    /// The buffer has a fixed length and no room for the frame.
    NoRoom {
        /// The length of the frame with its header and trailer, in bytes.
        needed: usize,
        /// The number of bytes left in the buffer.
        left: usize,
    },
    /// Allocating memory for the encoded frame failed.
    OutOfMemory(OutOfMemory),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PayloadTooLong { len, max } => {
                write!(f, "a payload of {len} bytes exceeds the limit of {max}")
            }
            Self::ContainsDelimiter {
                delimiter,
                position,
            } => write!(
                f,
                "the payload contains the delimiter '{}' at byte {position}",
                delimiter.escape_ascii()
            ),
            Self::Refused { expected } => write!(f, "the format expects {expected}"),
            Self::NoRoom { needed, left } => {
                write!(
                    f,
                    "a frame of {needed} bytes does not fit into the {left} bytes left in the buffer"
                )
            }
            Self::OutOfMemory(error) => error.fmt(f),
        }
    }
}

impl error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::OutOfMemory(error) => Some(error),
            _ => None,
        }
    }
}

impl From<EncodeError> for io::Error {
    fn from(error: EncodeError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl EncodeError {
    /// Returns the kind of the corresponding [`io::Error`].
    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::OutOfMemory(_) => io::ErrorKind::OutOfMemory,
            Self::NoRoom { .. } => io::ErrorKind::WriteZero,
            Self::PayloadTooLong { .. } | Self::ContainsDelimiter { .. } | Self::Refused { .. } => {
                io::ErrorKind::InvalidInput
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_errors_become_io_errors_and_can_be_found_in_them() {
        let malformed = DecodeError::malformed("a length", b"x");
        let error = io::Error::from(malformed.clone());
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().and_then(|error| error.downcast_ref());
        assert_eq!(inner, Some(&malformed));
        let error = io::Error::from(DecodeError::from(OutOfMemory { requested: 1 }));
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);

        let refused = EncodeError::Refused { expected: "less" };
        let error = io::Error::from(refused.clone());
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let inner = error.get_ref().and_then(|error| error.downcast_ref());
        assert_eq!(inner, Some(&refused));
        let error = io::Error::from(EncodeError::from(OutOfMemory { requested: 1 }));
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}

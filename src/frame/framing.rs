//! `Framing`: the choice of a format. It dispatches each operation to the chosen format.

use std::sync::Arc;

use super::delimiter::Delimiter;
use super::format::{Decoded, Envelope, FrameFormat};
use super::length_prefix::LengthPrefix;
use super::lines::Lines;
use super::varint;
use crate::error::{DecodeError, EncodeError};

/// How a byte stream is cut into frames. Set per listener and per outbound connection.
///
/// | | on the wire | longest payload |
/// |---|---|---|
/// | [`length_prefix`](Self::length_prefix) | length of 1, 2, 3, 4 or 8 bytes, payload | what the length can encode |
/// | [`varint`](Self::varint) | length as canonical LEB128, payload | 2^64-1 bytes |
/// | [`delimiter`](Self::delimiter) | payload, then the delimiter byte | unlimited |
/// | [`lines`](Self::lines) | payload, then LF or CR LF | unlimited |
/// | [`raw`](Self::raw) | payload | what one read returns |
/// | [`custom`](Self::custom) | defined by a [`FrameFormat`] | defined by the format |
///
/// The default is `Framing::length_prefix()`: a little-endian `u32`, then the payload.
#[derive(Debug, Clone)]
pub struct Framing(Kind);

#[derive(Debug, Clone)]
enum Kind {
    LengthPrefix(LengthPrefix),
    Varint,
    Delimiter(Delimiter),
    Raw,
    /// Boxed, so that the reference is a thin pointer: each connection stores a framing.
    Custom(Arc<Box<dyn FrameFormat>>),
}

impl Framing {
    /// Returns a framing with a length of fixed width, then the payload: 4 bytes little-endian, unless the
    /// [`LengthPrefix`] is changed.
    pub fn length_prefix() -> LengthPrefix {
        LengthPrefix::new()
    }

    /// Returns a framing with the length as a varint (LEB128, as in protocol buffers), then the payload.
    ///
    /// Only the shortest form of a length is accepted, and no length above 2^64-1.
    pub fn varint() -> Self {
        Self(Kind::Varint)
    }

    /// Returns a framing in which each payload ends with `delimiter`, which is not part of it. For lines of text see
    /// [`lines`](Self::lines).
    ///
    /// A payload that contains the delimiter is refused when sent. A line grows in memory until its end arrives: set
    /// [`max_frame_len`](crate::ListenOptions::max_frame_len) if peers are not trusted.
    pub fn delimiter(delimiter: u8) -> Self {
        Self(Kind::Delimiter(Delimiter::byte(delimiter)))
    }

    /// Returns a framing in which each payload is a line, which ends with LF or CR LF. [`Lines`] has settings for the
    /// end of the lines that are sent, and for a last line without an end.
    ///
    /// A payload that contains LF is refused when sent. A line grows in memory until its end arrives: set
    /// [`max_frame_len`](crate::ListenOptions::max_frame_len) if peers are not trusted.
    pub fn lines() -> Lines {
        Lines::new()
    }

    /// Returns the framing without frames: the bytes of one read are one frame. A frame is never empty and at most as
    /// long as the loop's read buffer.
    pub fn raw() -> Self {
        Self(Kind::Raw)
    }

    /// Returns a framing with a custom format.
    pub fn custom(format: impl FrameFormat + 'static) -> Self {
        Self(Kind::Custom(Arc::new(Box::new(format))))
    }

    /// Returns the longest payload that the format can encode, in bytes.
    pub fn max_payload_len(&self) -> u64 {
        match &self.0 {
            Kind::LengthPrefix(prefix) => prefix.max_payload_len(),
            Kind::Varint | Kind::Delimiter(_) | Kind::Raw => u64::MAX,
            Kind::Custom(format) => format.max_payload_len(),
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        matches!(self.0, Kind::Raw)
    }

    /// Returns the delimiter, if frames end with one.
    pub(super) fn as_delimiter(&self) -> Option<Delimiter> {
        match self.0 {
            Kind::Delimiter(delimiter) => Some(delimiter),
            _ => None,
        }
    }

    /// Returns the least length of the payload of a frame of which `begun` has arrived, and whose extent is not known.
    pub(super) fn least_payload(&self, begun: &[u8]) -> u64 {
        let header = match &self.0 {
            Kind::LengthPrefix(_) => LengthPrefix::MAX_WIDTH,
            Kind::Varint => varint::MAX_LEN,
            Kind::Raw => 0,
            Kind::Delimiter(delimiter) => return delimiter.payload(begun).len() as u64,
            Kind::Custom(_) => Envelope::MAX,
        };
        begun.len().saturating_sub(header) as u64
    }

    /// Returns `true` if both encode frames identically, so that one encoding serves both.
    #[inline(always)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::LengthPrefix(a), Kind::LengthPrefix(b)) => a == b,
            _ => self.is_same_kind(other),
        }
    }

    #[inline(never)]
    fn is_same_kind(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Varint, Kind::Varint) | (Kind::Raw, Kind::Raw) => true,
            (Kind::Delimiter(a), Kind::Delimiter(b)) => a == b,
            (Kind::Custom(a), Kind::Custom(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    pub(super) fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError> {
        if input.is_empty() {
            return Ok(Decoded::Incomplete);
        }
        match &self.0 {
            Kind::LengthPrefix(prefix) => prefix.decode(input),
            Kind::Varint => varint::decode(input),
            Kind::Delimiter(delimiter) => Ok(delimiter.decode(input, scanned)),
            Kind::Raw => Ok(Decoded::Frame {
                header: 0,
                payload: input.len() as u64,
                trailer: 0,
            }),
            Kind::Custom(format) => {
                let decoded = format.decode(input, scanned)?;
                reject_nonsense(decoded, input)
            }
        }
    }

    /// Returns the length prefix if frames begin with one: it allows a fast path around [`decode`](Self::decode) and
    /// [`envelope`](Self::envelope).
    #[inline]
    pub(crate) fn prefix(&self) -> Option<LengthPrefix> {
        match &self.0 {
            Kind::LengthPrefix(prefix) => Some(*prefix),
            _ => None,
        }
    }

    /// Returns the envelope of a payload of this length.
    pub(super) fn envelope(&self, payload_len: u64) -> Result<Envelope, EncodeError> {
        let mut envelope = Envelope::default();
        match &self.0 {
            Kind::LengthPrefix(prefix) => {
                let (bytes, len) = prefix.header(payload_len);
                envelope.push_header(&bytes[..len]);
            }
            Kind::Varint => varint::encode(payload_len, &mut envelope),
            Kind::Delimiter(delimiter) => delimiter.encode(&mut envelope),
            Kind::Raw => {}
            Kind::Custom(format) => format.encode(payload_len, &mut envelope)?,
        }
        if envelope.overflowed() {
            return Err(EncodeError::Refused {
                expected: "a custom header and trailer of at most 32 bytes each",
            });
        }
        Ok(envelope)
    }

    /// Returns `true` if a trailer of this length is checked.
    pub(super) fn checks_trailer(&self, len: usize) -> bool {
        matches!(self.0, Kind::Custom(_)) && (1..=Envelope::MAX).contains(&len)
    }

    /// Checks a trailer that has arrived.
    #[inline]
    pub(super) fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
        match &self.0 {
            Kind::Custom(format) if self.checks_trailer(trailer.len()) => {
                format.check_trailer(trailer)
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the framing can carry a payload, or a piece of one; `is_last`: which ends with it.
    pub(crate) fn check(&self, piece: &[u8], is_last: bool) -> Result<(), EncodeError> {
        match &self.0 {
            Kind::Delimiter(delimiter) => delimiter.check(piece, is_last),
            Kind::Custom(format) => format.check(piece),
            Kind::LengthPrefix(_) | Kind::Varint | Kind::Raw => Ok(()),
        }
    }
}

/// Refuses results of a custom format that would stall the decoder, or skip bytes that have not arrived.
fn reject_nonsense(decoded: Decoded, input: &[u8]) -> Result<Decoded, DecodeError> {
    match decoded {
        Decoded::Frame {
            header: 0,
            payload: 0,
            trailer: 0,
        } => Err(DecodeError::malformed(
            "a custom format with frames of at least one byte",
            input,
        )),
        Decoded::Frame { header, .. } if header > input.len() => Err(DecodeError::malformed(
            "a custom format that reports no header longer than its input",
            input,
        )),
        decoded => Ok(decoded),
    }
}

impl Default for Framing {
    fn default() -> Self {
        Self::length_prefix().into()
    }
}

impl From<LengthPrefix> for Framing {
    fn from(prefix: LengthPrefix) -> Self {
        Self(Kind::LengthPrefix(prefix))
    }
}

impl From<Lines> for Framing {
    fn from(lines: Lines) -> Self {
        Self(Kind::Delimiter(lines.0))
    }
}

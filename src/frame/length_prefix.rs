//! Frames that begin with their length: an unsigned integer of fixed width.

use std::fmt;

use super::format::Decoded;
use crate::error::DecodeError;

/// A fixed-width length before each payload; the length does not count itself unless it is set to.
///
/// Created by [`Framing::length_prefix`](super::Framing::length_prefix). Default: 4 bytes, little-endian.
///
/// ```text
/// | 05 00 00 00 | h e l l o |        u32, little-endian
/// | 00 00 05 | h e l l o |           u24, big-endian
/// | 00 07 | h e l l o |              u16, big-endian, inclusive
/// ```
///
/// ```
/// use throng::{FrameEncoder, Framing};
///
/// let mut wire = Vec::new();
/// FrameEncoder::new(Framing::length_prefix().u16().big_endian()).encode(b"hello", &mut wire)?;
/// assert_eq!(wire, b"\x00\x05hello");
/// # Ok::<(), throng::EncodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LengthPrefix(
    /// The width in bytes, and flags. One number, because it is read for each frame.
    u8,
);

const WIDTH: u8 = 0x0F;
const BIG_ENDIAN: u8 = 0x10;
const INCLUSIVE: u8 = 0x20;
/// Four bytes, little-endian, not inclusive.
const LITTLE32: LengthPrefix = LengthPrefix(4);

/// 4 bytes, little-endian.
impl Default for LengthPrefix {
    fn default() -> Self {
        Self::new()
    }
}

impl LengthPrefix {
    /// The largest width, in bytes.
    pub(crate) const MAX_WIDTH: usize = 8;
    /// The default width, in bytes.
    pub(crate) const DEFAULT_WIDTH: usize = 4;

    pub(super) fn new() -> Self {
        LITTLE32
    }

    /// Sets the width to one byte: payloads of up to 255 bytes.
    pub fn u8(self) -> Self {
        self.with_width(1)
    }

    /// Sets the width to two bytes: payloads of up to 65,535 bytes.
    pub fn u16(self) -> Self {
        self.with_width(2)
    }

    /// Sets the width to three bytes: payloads of up to 16,777,215 bytes.
    pub fn u24(self) -> Self {
        self.with_width(3)
    }

    /// Sets the width to four bytes: payloads of up to 2^32 - 1 bytes. The default.
    pub fn u32(self) -> Self {
        self.with_width(4)
    }

    /// Sets the width to eight bytes: payloads of up to 2^64 - 1 bytes.
    pub fn u64(self) -> Self {
        self.with_width(8)
    }

    /// Sets the byte order to little-endian: least significant byte first. The default.
    pub fn little_endian(self) -> Self {
        Self(self.0 & !BIG_ENDIAN)
    }

    /// Sets the byte order to big-endian (network order): most significant byte first.
    pub fn big_endian(self) -> Self {
        Self(self.0 | BIG_ENDIAN)
    }

    /// Makes the length count its own bytes as well: that of an empty payload is the width. The longest payload is
    /// shorter by as much. A length below the width is not valid.
    ///
    /// ```
    /// use throng::{FrameEncoder, Framing};
    ///
    /// let mut wire = Vec::new();
    /// FrameEncoder::new(Framing::length_prefix().u32().big_endian().inclusive()).encode(b"hello", &mut wire)?;
    /// assert_eq!(wire, b"\x00\x00\x00\x09hello");
    /// # Ok::<(), throng::EncodeError>(())
    /// ```
    pub fn inclusive(self) -> Self {
        Self(self.0 | INCLUSIVE)
    }

    /// Sets the width and keeps the rest.
    fn with_width(self, bytes: u8) -> Self {
        Self(self.0 & !WIDTH | bytes)
    }

    fn is_big_endian(self) -> bool {
        self.0 & BIG_ENDIAN != 0
    }

    #[inline]
    pub(crate) fn width(self) -> usize {
        usize::from(self.0 & WIDTH)
    }

    /// Returns what the length counts besides the payload.
    fn counted(self) -> u64 {
        match self.0 & INCLUSIVE {
            0 => 0,
            _ => u64::from(self.0 & WIDTH),
        }
    }

    pub(super) fn max_payload_len(self) -> u64 {
        (u64::MAX >> (64 - 8 * self.width())) - self.counted()
    }

    #[inline]
    pub(super) fn decode(self, input: &[u8]) -> Result<Decoded, DecodeError> {
        let (header, payload) = if self == LITTLE32 {
            match input.first_chunk() {
                Some(prefix) => (4, u64::from(u32::from_le_bytes(*prefix))),
                None => return Ok(Decoded::Incomplete),
            }
        } else {
            match self.read(input)? {
                Some(payload) => (self.width(), payload),
                None => return Ok(Decoded::Incomplete),
            }
        };
        Ok(Decoded::Frame {
            header,
            payload,
            trailer: 0,
        })
    }

    /// Returns the length of the payload, if the whole prefix is there.
    fn read(self, input: &[u8]) -> Result<Option<u64>, DecodeError> {
        let width = self.width();
        let wide = match input.first_chunk() {
            Some(wide) => *wide,
            None if input.len() < width => return Ok(None),
            None => {
                let mut wide = [0; 8];
                wide[..input.len()].copy_from_slice(input);
                wide
            }
        };
        // Bytes of the payload may follow the prefix.
        let unused = 64 - 8 * width;
        let length = match self.is_big_endian() {
            true => u64::from_be_bytes(wide) >> unused,
            false => u64::from_le_bytes(wide) << unused >> unused,
        };
        match length.checked_sub(self.counted()) {
            Some(payload) => Ok(Some(payload)),
            None => Err(DecodeError::malformed(
                "a length that counts its own bytes",
                input,
            )),
        }
    }

    /// Cuts a frame that is complete at the front of `input` and within the limit. Fast path; `None` means: try the
    /// slow path.
    #[inline(always)]
    pub(crate) fn cut_whole<'i>(self, limit: u64, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let (frame, rest) = match self == LITTLE32 {
            true => {
                let (header, rest) = input.split_first_chunk()?;
                let payload = u32::from_le_bytes(*header);
                if u64::from(payload) > limit {
                    return None;
                }
                rest.split_at_checked(payload as usize)?
            }
            false => self.split_any(limit, input)?,
        };
        *input = rest;
        Some(frame)
    }

    #[inline(never)]
    fn split_any(self, limit: u64, input: &[u8]) -> Option<(&[u8], &[u8])> {
        let payload = self.read(input).ok()??;
        if payload > limit {
            return None;
        }
        let rest = &input[self.width()..];
        rest.split_at_checked(usize::try_from(payload).ok()?)
    }

    /// Returns the length of a frame, header included.
    #[inline(always)]
    pub(crate) fn frame_len(self, payload_len: usize) -> usize {
        self.width() + payload_len
    }

    /// Returns whether it is the default. Frames of up to 4 GiB can then be written with [`begin`](Self::begin).
    #[inline(always)]
    pub(crate) fn is_default(self) -> bool {
        self == LITTLE32
    }

    /// Begins a frame at the front of `room`, if it fits: writes the default header. Returns the place for the payload.
    #[inline(always)]
    pub(crate) fn begin(payload_len: usize, room: &mut [u8]) -> Option<&mut [u8]> {
        let (header, room) = room.split_first_chunk_mut()?;
        let place = room.get_mut(..payload_len)?;
        *header = (payload_len as u32).to_le_bytes();
        Some(place)
    }

    /// Writes a frame to `frame`, which has [its length](Self::frame_len). The length of the payload must have been checked
    /// against [`max_payload_len`](Self::max_payload_len).
    #[inline]
    pub(crate) fn write(self, payload: &[u8], frame: &mut [u8]) {
        let (header, width) = self.header(payload.len() as u64);
        match frame.first_chunk_mut() {
            // What is too much is overwritten by the payload.
            Some(first) => *first = header,
            None => frame[..width].copy_from_slice(&header[..width]),
        }
        frame[width..].copy_from_slice(payload);
    }

    /// Appends header and payload if they fit without growing the buffer, and returns the number of bytes appended.
    #[inline]
    pub(super) fn append(self, payload: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let before = out.len();
        if out.capacity() - before < Self::MAX_WIDTH + payload.len() {
            return None;
        }
        if self == LITTLE32 {
            out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        } else {
            let (header, width) = self.header(payload.len() as u64);
            out.extend_from_slice(&header[..width]);
        }
        out.extend_from_slice(payload);
        Some(out.len() - before)
    }

    /// Returns the header of a payload whose length was checked against [`max_payload_len`](Self::max_payload_len): the
    /// bytes, and how many of them are used.
    pub(crate) fn header(self, payload_len: u64) -> ([u8; 8], usize) {
        let width = self.width();
        let length = payload_len + self.counted();
        let bytes = if self.is_big_endian() {
            (length << (64 - 8 * width)).to_be_bytes()
        } else {
            length.to_le_bytes()
        };
        (bytes, width)
    }
}

impl fmt::Debug for LengthPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LengthPrefix")
            .field("width", &self.width())
            .field("big_endian", &self.is_big_endian())
            .field("inclusive", &(self.counted() > 0))
            .finish()
    }
}

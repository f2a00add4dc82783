//! Frames that begin with their length: an unsigned integer of fixed width that does not count itself.

use super::format::Decoded;

/// A fixed-width length before each payload; the length does not count the header.
///
/// Created by [`Framing::length_prefix`](super::Framing::length_prefix). Default: 4 bytes, little-endian.
///
/// ```text
/// | 05 00 00 00 | h e l l o |        u32, little-endian
/// | 00 05 | h e l l o |              u16, big-endian
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LengthPrefix(Layout);

/// Width in bits and byte order as one number, because it is read for each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Layout {
    Little8,
    Little16,
    Little32,
    Little64,
    Big8,
    Big16,
    Big32,
    Big64,
}

/// 4 bytes, little-endian.
impl Default for LengthPrefix {
    fn default() -> Self {
        Self::new()
    }
}

impl LengthPrefix {
    /// The largest width, in bytes.
    pub(crate) const MAX_WIDTH: usize = 8;

    pub(super) fn new() -> Self {
        Self(Layout::Little32)
    }

    /// Sets the width to one byte: payloads of up to 255 bytes.
    pub fn u8(self) -> Self {
        self.either(Layout::Little8, Layout::Big8)
    }

    /// Sets the width to two bytes: payloads of up to 65,535 bytes.
    pub fn u16(self) -> Self {
        self.either(Layout::Little16, Layout::Big16)
    }

    /// Sets the width to four bytes: payloads of up to 2^32 - 1 bytes. The default.
    pub fn u32(self) -> Self {
        self.either(Layout::Little32, Layout::Big32)
    }

    /// Sets the width to eight bytes: payloads of up to 2^64 - 1 bytes.
    pub fn u64(self) -> Self {
        self.either(Layout::Little64, Layout::Big64)
    }

    /// Sets the byte order to little-endian: least significant byte first. The default.
    pub fn little_endian(self) -> Self {
        Self(match self.0 {
            Layout::Little8 | Layout::Big8 => Layout::Little8,
            Layout::Little16 | Layout::Big16 => Layout::Little16,
            Layout::Little32 | Layout::Big32 => Layout::Little32,
            Layout::Little64 | Layout::Big64 => Layout::Little64,
        })
    }

    /// Sets the byte order to big-endian (network order): most significant byte first.
    pub fn big_endian(self) -> Self {
        Self(match self.0 {
            Layout::Little8 | Layout::Big8 => Layout::Big8,
            Layout::Little16 | Layout::Big16 => Layout::Big16,
            Layout::Little32 | Layout::Big32 => Layout::Big32,
            Layout::Little64 | Layout::Big64 => Layout::Big64,
        })
    }

    /// Selects a layout and keeps the byte order.
    fn either(self, little: Layout, big: Layout) -> Self {
        Self(if self.is_big_endian() { big } else { little })
    }

    fn is_big_endian(self) -> bool {
        self == self.big_endian()
    }

    fn width(self) -> usize {
        match self.0 {
            Layout::Little8 | Layout::Big8 => 1,
            Layout::Little16 | Layout::Big16 => 2,
            Layout::Little32 | Layout::Big32 => 4,
            Layout::Little64 | Layout::Big64 => 8,
        }
    }

    pub(super) fn max_payload_len(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width())
    }

    #[inline]
    pub(super) fn decode(self, input: &[u8]) -> Decoded {
        let (header, payload) = match self.0 {
            Layout::Little32 => match input.first_chunk() {
                Some(prefix) => (4, u64::from(u32::from_le_bytes(*prefix))),
                None => return Decoded::Incomplete,
            },
            _ => match self.read(input) {
                Some(payload) => (self.width(), payload),
                None => return Decoded::Incomplete,
            },
        };
        Decoded::Frame {
            header,
            payload,
            trailer: 0,
        }
    }

    fn read(self, input: &[u8]) -> Option<u64> {
        let width = self.width();
        let prefix = input.get(..width)?;
        let mut wide = [0; 8];
        Some(if self.is_big_endian() {
            wide[8 - width..].copy_from_slice(prefix);
            u64::from_be_bytes(wide)
        } else {
            wide[..width].copy_from_slice(prefix);
            u64::from_le_bytes(wide)
        })
    }

    /// Cuts a frame that is complete at the front of `input` and within the limit. Fast path; `None` means: try the
    /// slow path.
    #[inline(always)]
    pub(crate) fn cut_whole<'i>(self, limit: u64, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if self.0 != Layout::Little32 {
            return self.cut_any(limit, input);
        }
        let (header, rest) = input.split_first_chunk()?;
        let payload = u32::from_le_bytes(*header);
        if u64::from(payload) > limit {
            return None;
        }
        let (frame, rest) = rest.split_at_checked(payload as usize)?;
        *input = rest;
        Some(frame)
    }

    #[inline(never)]
    fn cut_any<'i>(self, limit: u64, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let payload = self.read(input)?;
        if payload > limit {
            return None;
        }
        let rest = &input[self.width()..];
        let (frame, rest) = rest.split_at_checked(usize::try_from(payload).ok()?)?;
        *input = rest;
        Some(frame)
    }

    /// Writes header and payload to the front of `room`, if they fit. Returns the number of bytes written. The length must
    /// have been checked against [`max_payload_len`](Self::max_payload_len).
    #[inline(always)]
    pub(crate) fn write(self, payload: &[u8], room: &mut [u8]) -> Option<usize> {
        if self.0 != Layout::Little32 {
            return self.write_any(payload, room);
        }
        let len = 4 + payload.len();
        let (header, body) = room.get_mut(..len)?.split_first_chunk_mut()?;
        *header = (payload.len() as u32).to_le_bytes();
        body.copy_from_slice(payload);
        Some(len)
    }

    #[inline(never)]
    fn write_any(self, payload: &[u8], room: &mut [u8]) -> Option<usize> {
        let (header, width) = self.header(payload.len() as u64);
        let len = width + payload.len();
        let (front, body) = room.get_mut(..len)?.split_at_mut(width);
        front.copy_from_slice(&header[..width]);
        body.copy_from_slice(payload);
        Some(len)
    }

    /// Appends header and payload if they fit without growing the buffer, and returns the number of bytes appended.
    #[inline]
    pub(super) fn append(self, payload: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let before = out.len();
        if out.capacity() - before < Self::MAX_WIDTH + payload.len() {
            return None;
        }
        if self.0 == Layout::Little32 {
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
    pub(super) fn header(self, payload_len: u64) -> ([u8; 8], usize) {
        let width = self.width();
        let bytes = if self.is_big_endian() {
            (payload_len << (64 - 8 * width)).to_be_bytes()
        } else {
            payload_len.to_le_bytes()
        };
        (bytes, width)
    }
}

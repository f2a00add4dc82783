//! Frames that begin with their length: an unsigned integer of fixed width that does not count itself.

use super::format::Decoded;

/// A fixed-width length before each payload; the length does not count the header.
///
/// Made by [`Framing::length_prefix`](super::Framing::length_prefix): 4 bytes, little-endian, unless told otherwise.
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
pub struct LengthPrefix {
    width: Width,
    order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Width {
    U8 = 1,
    U16 = 2,
    U32 = 4,
    U64 = 8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    Little,
    Big,
}

impl LengthPrefix {
    pub(super) fn new() -> Self {
        Self {
            width: Width::U32,
            order: Order::Little,
        }
    }

    /// One byte: payloads of up to 255 bytes.
    pub fn u8(self) -> Self {
        self.with(Width::U8)
    }

    /// Two bytes: payloads of up to 65,535 bytes.
    pub fn u16(self) -> Self {
        self.with(Width::U16)
    }

    /// Four bytes: payloads of up to 2^32 - 1 bytes. The default.
    pub fn u32(self) -> Self {
        self.with(Width::U32)
    }

    /// Eight bytes: payloads of up to 2^64 - 1 bytes.
    pub fn u64(self) -> Self {
        self.with(Width::U64)
    }

    /// The least significant byte first. The default.
    pub fn little_endian(self) -> Self {
        Self {
            order: Order::Little,
            ..self
        }
    }

    /// The most significant byte first, also known as network order.
    pub fn big_endian(self) -> Self {
        Self {
            order: Order::Big,
            ..self
        }
    }

    fn with(self, width: Width) -> Self {
        Self { width, ..self }
    }

    fn width(self) -> usize {
        self.width as usize
    }

    pub(super) fn max_payload_len(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width())
    }

    #[inline]
    pub(super) fn decode(self, input: &[u8]) -> Decoded {
        if let (Width::U32, Order::Little) = (self.width, self.order)
            && let Some(prefix) = input.first_chunk()
        {
            return Decoded::Frame {
                header: 4,
                payload: u64::from(u32::from_le_bytes(*prefix)),
                trailer: 0,
            };
        }
        self.decode_any(input)
    }

    /// Cuts a frame that lies whole at the front of `input` and is within the limit. `None` decides nothing.
    #[inline]
    pub(super) fn cut_whole<'i>(self, limit: u64, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let Decoded::Frame {
            header, payload, ..
        } = self.decode(input)
        else {
            return None;
        };
        if payload > limit {
            return None;
        }
        let (frame, rest) = input
            .get(header..)?
            .split_at_checked(usize::try_from(payload).ok()?)?;
        *input = rest;
        Some(frame)
    }

    /// Appends header and payload if there is room for them without growing, and says how many bytes that made.
    #[inline]
    pub(super) fn append(self, payload: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let before = out.len();
        if out.capacity() - before < 8 + payload.len() {
            return None;
        }
        match (self.width, self.order) {
            (Width::U32, Order::Little) => {
                out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            }
            _ => {
                let (header, width) = self.header(payload.len() as u64);
                out.extend_from_slice(&header[..width]);
            }
        }
        out.extend_from_slice(payload);
        Some(out.len() - before)
    }

    fn decode_any(self, input: &[u8]) -> Decoded {
        let width = self.width();
        let Some(prefix) = input.get(..width) else {
            return Decoded::Incomplete;
        };
        let mut wide = [0; 8];
        let payload = match self.order {
            Order::Little => {
                wide[..width].copy_from_slice(prefix);
                u64::from_le_bytes(wide)
            }
            Order::Big => {
                wide[8 - width..].copy_from_slice(prefix);
                u64::from_be_bytes(wide)
            }
        };
        Decoded::Frame {
            header: width,
            payload,
            trailer: 0,
        }
    }

    /// The header of a payload whose length has been checked against [`max_payload_len`](Self::max_payload_len): the
    /// bytes, and how many of them count.
    #[inline]
    pub(super) fn header(self, payload_len: u64) -> ([u8; 8], usize) {
        let width = self.width();
        let bytes = match self.order {
            Order::Little => payload_len.to_le_bytes(),
            Order::Big => (payload_len << (64 - 8 * width)).to_be_bytes(),
        };
        (bytes, width)
    }
}

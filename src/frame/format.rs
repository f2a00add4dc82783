//! The trait for custom framings, and its two helper types.
//!
//! The built-in formats have the same three operations, but are called directly.

use std::fmt;

use crate::error::{DecodeError, EncodeError};

/// The result of decoding the beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// The end of the frame cannot be determined from the input yet.
    Incomplete,
    /// The extent of the first frame. Its payload may not have arrived yet.
    ///
    /// ```text
    /// | header | payload | trailer | next frame ...
    /// ```
    Frame {
        /// The number of bytes before the payload. They must all have arrived.
        header: usize,
        /// The number of payload bytes.
        payload: u64,
        /// The number of bytes after the payload that belong to the frame and are not delivered. Their content is
        /// [checked](FrameFormat::check_trailer) when they have arrived.
        trailer: u32,
    },
}

/// The header and trailer of a payload on the wire.
///
/// Both parts are stored inline, so encoding a frame allocates nothing.
///
/// ```
/// use throng::Envelope;
///
/// let mut envelope = Envelope::default();
/// envelope.push_header(&[0xCA, 0xFE]);
/// envelope.push_trailer(b"\n");
/// assert_eq!(envelope.header(), [0xCA, 0xFE]);
/// assert_eq!(envelope.trailer(), b"\n");
/// ```
#[derive(Clone, Copy, Default)]
pub struct Envelope {
    header: Inline,
    trailer: Inline,
}

impl Envelope {
    /// The maximum length of the header, and of the trailer: 32 bytes each.
    pub const MAX: usize = 32;

    /// Appends to the header. If it exceeds [`MAX`](Self::MAX), encoding fails.
    pub fn push_header(&mut self, bytes: &[u8]) {
        self.header.push(bytes);
    }

    /// Appends to the trailer. If it exceeds [`MAX`](Self::MAX), encoding fails.
    pub fn push_trailer(&mut self, bytes: &[u8]) {
        self.trailer.push(bytes);
    }

    /// Returns the bytes before the payload.
    pub fn header(&self) -> &[u8] {
        self.header.as_bytes()
    }

    /// Returns the bytes after the payload.
    pub fn trailer(&self) -> &[u8] {
        self.trailer.as_bytes()
    }

    /// Returns `true` if more bytes were pushed than fit.
    pub(crate) fn overflowed(&self) -> bool {
        self.header.overflowed || self.trailer.overflowed
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("header", &self.header())
            .field("trailer", &self.trailer())
            .finish()
    }
}

/// Up to [`Envelope::MAX`] bytes, stored inline.
#[derive(Clone, Copy, Default)]
struct Inline {
    bytes: [u8; Envelope::MAX],
    len: u8,
    overflowed: bool,
}

impl Inline {
    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        match self.bytes.get_mut(start..start + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len() as u8;
            }
            None => self.overflowed = true,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A custom framing: how a frame is recognised, and what is written around a payload.
///
/// Implement it if no built-in format fits, and pass it to [`Framing::custom`](super::Framing::custom). One value
/// serves all connections of a listener, so it cannot hold state of a connection.
///
/// The format should be canonical: each length has exactly one header, which [`encode`](Self::encode) writes, and
/// [`decode`](Self::decode) refuses all others. If a partly received frame has to be decoded again
/// ([`Net::release`](crate::Net::release), [`Net::set_framing`](crate::Net::set_framing)), its header is encoded again.
///
/// A format with a type byte and a 16-bit length:
///
/// ```
/// use throng::{DecodeError, Decoded, EncodeError, Envelope, FrameDecoder, FrameFormat, Framing};
///
/// #[derive(Debug)]
/// struct Typed(u8);
///
/// impl FrameFormat for Typed {
///     fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded, DecodeError> {
///         let Some(&[kind, high, low]) = input.first_chunk() else {
///             return Ok(Decoded::Incomplete);
///         };
///         if kind != self.0 {
///             return Err(DecodeError::malformed("the type byte of this protocol", input));
///         }
///         let payload = u64::from(u16::from_be_bytes([high, low]));
///         Ok(Decoded::Frame { header: 3, payload, trailer: 0 })
///     }
///
///     fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
///         envelope.push_header(&[self.0]);
///         envelope.push_header(&(payload_len as u16).to_be_bytes());
///         Ok(())
///     }
///
///     fn max_payload_len(&self) -> u64 {
///         u64::from(u16::MAX)
///     }
/// }
///
/// let mut decoder = FrameDecoder::new(Framing::custom(Typed(7)));
/// let mut input: &[u8] = &[7, 0, 2, b'h', b'i'];
/// assert_eq!(&*decoder.decode(&mut input)?.unwrap(), b"hi");
/// # Ok::<(), DecodeError>(())
/// ```
pub trait FrameFormat: fmt::Debug + Send + Sync {
    /// Finds the extent of the frame at the beginning of `input`.
    ///
    /// `input` starts at a frame boundary and is not empty. The first `scanned` bytes were passed before, and the
    /// result was [`Decoded::Incomplete`]: they contain no complete end of a frame, but may contain the first part of
    /// one. A format that searches for an end of `n` bytes therefore resumes `n - 1` bytes before `scanned`:
    ///
    /// ```
    /// use throng::{DecodeError, Decoded, EncodeError, Envelope, FrameDecoder, FrameFormat, Framing};
    ///
    /// /// Lines that end with CR LF.
    /// #[derive(Debug)]
    /// struct Crlf;
    ///
    /// impl FrameFormat for Crlf {
    ///     fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError> {
    ///         // The CR may be the last byte that was scanned.
    ///         let start = scanned.saturating_sub(1);
    ///         let end = input[start..].windows(2).position(|pair| pair == b"\r\n");
    ///         Ok(match end {
    ///             Some(at) => Decoded::Frame { header: 0, payload: (start + at) as u64, trailer: 2 },
    ///             None => Decoded::Incomplete,
    ///         })
    ///     }
    ///
    ///     fn encode(&self, _: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
    ///         envelope.push_trailer(b"\r\n");
    ///         Ok(())
    ///     }
    ///
    ///     fn max_payload_len(&self) -> u64 {
    ///         u64::MAX
    ///     }
    ///
    ///     fn check(&self, payload: &[u8]) -> Result<(), EncodeError> {
    ///         // Refusing every LF also works for a payload that is checked piece by piece.
    ///         if payload.contains(&b'\n') {
    ///             return Err(EncodeError::Refused { expected: "a line without LF" });
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut decoder = FrameDecoder::new(Framing::custom(Crlf));
    /// let mut lines = Vec::new();
    /// for mut piece in [&b"one\r"[..], b"\ntwo\r\n"] {
    ///     while let Some(line) = decoder.decode(&mut piece)? {
    ///         lines.push(line.to_vec());
    ///     }
    /// }
    /// assert_eq!(lines, [b"one", b"two"]);
    /// # Ok::<(), DecodeError>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the bytes are not a valid frame, which ends the connection. Use [`DecodeError::malformed`]
    /// to create the error.
    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError>;

    /// Writes header and trailer for a payload of `payload_len` bytes, which is at most
    /// [`max_payload_len`](Self::max_payload_len).
    ///
    /// # Errors
    /// Returns an error if the format cannot encode the length.
    fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError>;

    /// Returns the longest payload that the format can encode, in bytes.
    fn max_payload_len(&self) -> u64;

    /// Checks the trailer of a frame, whose length was returned by [`decode`](Self::decode). The default accepts any
    /// trailer.
    ///
    /// Called once per frame with a trailer, when the whole trailer has arrived: before the frame is delivered, or
    /// before the last chunk of a frame that is delivered in [chunks](crate::Handler::on_chunk). Two kinds of trailers
    /// are not checked: those of more than [`Envelope::MAX`] bytes, which [`encode`](Self::encode) could not write, and
    /// that of a frame during whose chunks the framing [was changed](crate::Net::set_framing).
    ///
    /// ```
    /// use throng::{DecodeError, Decoded, EncodeError, Envelope, FrameDecoder, FrameFormat, Framing};
    ///
    /// /// `5:hello,`
    /// #[derive(Debug)]
    /// struct Netstring;
    ///
    /// impl FrameFormat for Netstring {
    ///     fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded, DecodeError> {
    ///         let malformed = || DecodeError::malformed("a decimal length and ':'", input);
    ///         let start = &input[..input.len().min(10)];
    ///         let digits = start.iter().take_while(|byte| byte.is_ascii_digit()).count();
    ///         match start.get(digits) {
    ///             None if digits < 10 => return Ok(Decoded::Incomplete),
    ///             Some(b':') if digits == 1 || digits > 1 && start[0] != b'0' => {}
    ///             _ => return Err(malformed()),
    ///         }
    ///         let length = std::str::from_utf8(&start[..digits]).ok().and_then(|text| text.parse().ok());
    ///         let payload = length.ok_or_else(malformed)?;
    ///         Ok(Decoded::Frame { header: digits + 1, payload, trailer: 1 })
    ///     }
    ///
    ///     fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
    ///         match trailer {
    ///             b"," => Ok(()),
    ///             _ => Err(DecodeError::malformed("',' behind the payload", trailer)),
    ///         }
    ///     }
    ///
    ///     fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
    ///         envelope.push_header(format!("{payload_len}:").as_bytes());
    ///         envelope.push_trailer(b",");
    ///         Ok(())
    ///     }
    ///
    ///     fn max_payload_len(&self) -> u64 {
    ///         999_999_999
    ///     }
    /// }
    ///
    /// let mut decoder = FrameDecoder::new(Framing::custom(Netstring));
    /// assert_eq!(&*decoder.decode(&mut &b"5:hello,"[..])?.unwrap(), b"hello");
    /// assert!(decoder.decode(&mut &b"5:hello;"[..]).is_err());
    /// # Ok::<(), DecodeError>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the trailer is not valid, which ends the connection.
    fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
        let _ = trailer;
        Ok(())
    }

    /// Checks a payload before it is sent, for formats that cannot carry every byte. The default accepts all payloads.
    ///
    /// A payload that is not available as a whole ([`Net::send_reader`](crate::Net::send_reader),
    /// [`Net::push_chunk`](crate::Net::push_chunk)) is checked piece by piece.
    ///
    /// # Errors
    /// Returns an error if the payload would not arrive as it was sent.
    fn check(&self, payload: &[u8]) -> Result<(), EncodeError> {
        let _ = payload;
        Ok(())
    }
}

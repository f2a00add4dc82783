//! The trait a framing of the user's own implements, and the two small types it speaks with.
//!
//! The built-in formats have the same three operations, but are called directly.

use std::fmt;

use crate::error::{DecodeError, EncodeError};

/// What a format says about the bytes it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// The bytes do not tell yet where the frame ends.
    Incomplete,
    /// The extent of the first frame. Its payload need not have arrived yet.
    ///
    /// ```text
    /// | header | payload | trailer | next frame ...
    /// ```
    Frame {
        /// Bytes before the payload. They must all have arrived.
        header: usize,
        /// Bytes of payload.
        payload: u64,
        /// Bytes after the payload that belong to the frame and are not delivered. What they are is
        /// [checked](FrameFormat::check_trailer) when they have arrived.
        trailer: u32,
    },
}

/// What stands around a payload on the wire.
///
/// Both parts are kept inline, so that encoding a frame allocates nothing.
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
    /// The longest header, and the longest trailer: 32 bytes each.
    pub const MAX: usize = 32;

    /// Appends to the bytes that go before the payload. What exceeds [`MAX`](Self::MAX) makes the encoding fail.
    pub fn push_header(&mut self, bytes: &[u8]) {
        self.header.push(bytes);
    }

    /// Appends to the bytes that go after the payload. What exceeds [`MAX`](Self::MAX) makes the encoding fail.
    pub fn push_trailer(&mut self, bytes: &[u8]) {
        self.trailer.push(bytes);
    }

    /// The bytes that go before the payload.
    pub fn header(&self) -> &[u8] {
        self.header.as_bytes()
    }

    /// The bytes that go after the payload.
    pub fn trailer(&self) -> &[u8] {
        self.trailer.as_bytes()
    }

    /// Whether more was pushed than there is room for.
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

/// Up to [`Envelope::MAX`] bytes in place.
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

/// A framing of your own: how a frame is recognised, and what is written around a payload.
///
/// Implement it where the built-in formats do not fit, and pass it to [`Framing::custom`](super::Framing::custom).
/// One value serves all connections of a listener, so it has no state of a connection.
///
/// It should be canonical: one length has one header, the one that [`encode`](Self::encode) writes, and
/// [`decode`](Self::decode) refuses all others. Where a frame that has begun to arrive is to be read anew
/// ([`Net::release`](crate::Net::release), [`Net::set_framing`](crate::Net::set_framing)), its header is written again.
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
    /// Finds the extent of the frame that `input` begins with.
    ///
    /// `input` starts at the boundary of a frame and is not empty. The first `scanned` bytes were passed before, with the
    /// answer [`Decoded::Incomplete`]: they contain no whole end of a frame, but may contain the first part of one. A
    /// format that searches for an end of `n` bytes therefore resumes `n - 1` bytes before `scanned`:
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
    /// What can be no frame is an error, and ends the connection; [`DecodeError::malformed`] makes one.
    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError>;

    /// Fills in what stands around a payload of `payload_len` bytes, which is at most
    /// [`max_payload_len`](Self::max_payload_len).
    ///
    /// # Errors
    /// A length that the format cannot say is an error.
    fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError>;

    /// The longest payload the format can say, in bytes.
    fn max_payload_len(&self) -> u64;

    /// Checks the trailer of a frame, which has the length that [`decode`](Self::decode) gave. The default accepts any.
    ///
    /// It is called once per frame with a trailer, when all of the trailer has arrived, and before the frame is delivered;
    /// of a frame that is delivered in [pieces](crate::Handler::on_chunk), before the last one is. Not checked are a
    /// trailer of more than [`Envelope::MAX`] bytes, which [`encode`](Self::encode) could not write, and that of a frame
    /// between whose pieces the framing [was changed](crate::Net::set_framing).
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
    /// A trailer that is not the one of the format is an error, and ends the connection.
    fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
        let _ = trailer;
        Ok(())
    }

    /// Looks at a payload before it is sent, for formats that cannot carry every byte. The default accepts all.
    ///
    /// A payload that is not there as a whole ([`Net::send_reader`](crate::Net::send_reader),
    /// [`Net::push_chunk`](crate::Net::push_chunk)) is shown piece by piece.
    ///
    /// # Errors
    /// A payload that would not arrive as it was sent is refused.
    fn check(&self, payload: &[u8]) -> Result<(), EncodeError> {
        let _ = payload;
        Ok(())
    }
}

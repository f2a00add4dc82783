//! The encoder: appends a payload as a frame to a buffer.
//!
//! Each entry point checks the payload before it writes, so a refusal leaves the buffer unchanged.

use std::io;

use bytes::BufMut;

use super::format::Envelope;
use super::framing::Framing;
use crate::error::{EncodeError, OutOfMemory};

/// Encodes payloads as frames. Pure: it writes to a buffer, not to a socket.
///
/// ```
/// use throng::{EncodeError, FrameEncoder, Framing};
///
/// let encoder = FrameEncoder::new(Framing::delimiter(b'\n'));
/// let mut wire = Vec::new();
/// encoder.encode(b"one", &mut wire)?;
/// encoder.encode(b"two", &mut wire)?;
/// assert_eq!(wire, b"one\ntwo\n");
/// // A payload that would arrive as two is refused, and nothing of it is written.
/// assert!(encoder.encode(b"th\nree", &mut wire).is_err());
/// assert_eq!(wire, b"one\ntwo\n");
/// # Ok::<(), EncodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameEncoder {
    framing: Framing,
    max_frame_len: u64,
}

impl FrameEncoder {
    /// Creates an encoder whose only limit is what the framing can encode.
    pub fn new(framing: impl Into<Framing>) -> Self {
        let framing = framing.into();
        let max_frame_len = write_limit(&framing, u64::MAX);
        Self {
            framing,
            max_frame_len,
        }
    }

    /// Sets the longest payload, in bytes; longer ones are refused.
    pub fn max_frame_len(mut self, bytes: u64) -> Self {
        self.max_frame_len = write_limit(&self.framing, bytes);
        self
    }

    /// Appends `payload` as one frame to `out`.
    ///
    /// # Errors
    /// Returns an error if the payload is too long for the framing or the limit, or if the framing cannot carry it.
    /// `out` is unchanged.
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match append_at_once(&self.framing, self.max_frame_len, payload, out) {
            Some(_) => Ok(()),
            None => append(&self.framing, self.max_frame_len, payload, out),
        }
    }

    /// Writes `payload` as one frame to any `BufMut`: a `BytesMut`, a slice of fixed length, a chain of both.
    ///
    /// ```
    /// use throng::{EncodeError, FrameEncoder, Framing};
    ///
    /// let encoder = FrameEncoder::new(Framing::length_prefix().u8());
    /// let mut packet = [0; 8];
    /// let mut room = &mut packet[..];
    /// encoder.encode_to(b"one", &mut room)?;
    /// encoder.encode_to(b"two", &mut room)?;
    /// let error = encoder.encode_to(b"three", &mut room).unwrap_err();
    /// assert_eq!(error, EncodeError::NoRoom { needed: 6, left: 0 });
    /// assert_eq!(&packet, b"\x03one\x03two");
    /// # Ok::<(), EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`encode`](Self::encode), and [`NoRoom`](EncodeError::NoRoom) if the buffer cannot grow.
    /// `out` is unchanged. A buffer that grows uses its own allocation: a `Vec` or `BytesMut` aborts the process if
    /// there is no memory, where `encode` returns an error.
    pub fn encode_to(
        &self,
        payload: &[u8],
        out: &mut (impl BufMut + ?Sized),
    ) -> Result<(), EncodeError> {
        let envelope = envelope(&self.framing, self.max_frame_len, payload)?;
        let (header, trailer) = (envelope.header(), envelope.trailer());
        // The sum cannot overflow: a payload in memory is at most half of the address space.
        let needed = header.len() + payload.len() + trailer.len();
        let left = out.remaining_mut();
        if needed > left {
            return Err(EncodeError::NoRoom { needed, left });
        }
        out.put_slice(header);
        out.put_slice(payload);
        out.put_slice(trailer);
        Ok(())
    }
}

/// Returns the longest payload that both the framing and the limit allow. Raw bytes are not frames, so no limit
/// applies.
pub(crate) fn write_limit(framing: &Framing, max_frame_len: u64) -> u64 {
    if framing.is_raw() {
        u64::MAX
    } else {
        max_frame_len.min(framing.max_payload_len())
    }
}

/// Appends one frame in the simple case: a length prefix, and enough capacity. Returns the number of bytes appended.
#[inline]
pub(crate) fn append_at_once(
    framing: &Framing,
    limit: u64,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Option<usize> {
    if payload.len() as u64 > limit {
        return None;
    }
    framing.prefix()?.append(payload, out)
}

/// Appends one frame. `limit` comes from [`write_limit`].
pub(crate) fn append(
    framing: &Framing,
    limit: u64,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let envelope = envelope(framing, limit, payload)?;
    // Extra capacity lets the next frame of this size take the fast path.
    reserve(out, payload.len() + 2 * Envelope::MAX)?;
    out.extend_from_slice(envelope.header());
    out.extend_from_slice(payload);
    out.extend_from_slice(envelope.trailer());
    Ok(())
}

/// Returns the envelope of a payload after checking the payload.
pub(crate) fn envelope(
    framing: &Framing,
    limit: u64,
    payload: &[u8],
) -> Result<Envelope, EncodeError> {
    let len = payload.len() as u64;
    if len > limit {
        return Err(EncodeError::PayloadTooLong { len, max: limit });
    }
    framing.check(payload, true)?;
    framing.envelope(len)
}

/// Returns the envelope of a payload of which only the length is known.
pub(crate) fn envelope_of(
    framing: &Framing,
    limit: u64,
    len: u64,
) -> Result<Envelope, EncodeError> {
    if len > limit {
        return Err(EncodeError::PayloadTooLong { len, max: limit });
    }
    framing.envelope(len)
}

fn reserve(out: &mut Vec<u8>, additional: usize) -> Result<(), EncodeError> {
    let requested = additional;
    out.try_reserve(additional)
        .map_err(|_| OutOfMemory { requested }.into())
}

/// Writes one payload directly into the outbound queue; see [`Net::send_with`](crate::Net::send_with).
///
/// It only appends. The header is filled in when the closure has returned. If the closure fails or panics, everything
/// it wrote is discarded.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The position in `out` at which the frame begins.
    start: usize,
    /// The position at which its payload begins: after room for the header of an empty payload.
    payload: usize,
    finished: bool,
}

impl<'a> FrameWriter<'a> {
    pub(crate) fn begin(framing: &Framing, out: &'a mut Vec<u8>) -> Result<Self, EncodeError> {
        let start = out.len();
        if let Some(prefix) = framing.prefix() {
            let (header, width) = prefix.header(0);
            reserve(out, width)?;
            out.extend_from_slice(&header[..width]);
        } else {
            // A format may have no empty frame. The payload will not be empty; room for its header is made later.
            let envelope = framing.envelope(0).unwrap_or_default();
            reserve(out, envelope.header().len())?;
            out.extend_from_slice(envelope.header());
        }
        let payload = out.len();
        Ok(Self {
            out,
            start,
            payload,
            finished: false,
        })
    }

    /// Returns the number of payload bytes written so far.
    pub fn payload_len(&self) -> usize {
        self.out.len() - self.payload
    }

    /// Adds header and trailer to the written payload. Returns the length of the whole frame in bytes.
    pub(crate) fn finish(mut self, framing: &Framing, limit: u64) -> Result<usize, EncodeError> {
        if let Some(prefix) = framing.prefix()
            && self.payload_len() as u64 <= limit
        {
            let (header, width) = prefix.header(self.payload_len() as u64);
            self.out[self.start..self.payload].copy_from_slice(&header[..width]);
            self.finished = true;
            return Ok(self.out.len() - self.start);
        }
        let envelope = envelope(framing, limit, &self.out[self.payload..])?;
        let (header, trailer) = (envelope.header(), envelope.trailer());
        let room = self.payload - self.start;
        if header.len() == room {
            self.out[self.start..self.payload].copy_from_slice(header);
            reserve(self.out, trailer.len())?;
        } else {
            reserve(self.out, header.len() + trailer.len())?;
            self.out
                .splice(self.start..self.payload, header.iter().copied());
        }
        self.out.extend_from_slice(trailer);
        self.finished = true;
        Ok(self.out.len() - self.start)
    }
}

impl io::Write for FrameWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.try_reserve(buf.len())?;
        self.out.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}

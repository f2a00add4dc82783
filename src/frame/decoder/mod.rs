//! The incremental decoder: accepts the bytes of one stream in any split and cuts them into frames.
//!
//! ```text
//!            +--------- the extent is known, the payload has not all arrived --------+
//!            |                                                                       v
//!      +----------+                                                             +--------+
//!  --> |  Header  | -- the whole frame has arrived: cut --> Header              |  Body  | -- all there: cut --> Header
//!      +----------+                                                             +--------+
//!        |      ^
//!        +------+ the extent is not known yet
//! ```
//!
//! A frame that is complete in the input is returned by reference. Only the bytes of an unfinished frame are held;
//! their memory grows with the bytes that have arrived, never with the length that a header declares.

mod held;
mod room;
mod stream;

use super::chunk::Extent;
use super::delimiter::Delimiter;
use super::encoder::write_limit;
use super::format::Decoded;
use super::framing::Framing;
use super::length_prefix::LengthPrefix;
use super::payload::Frame;
use crate::error::{DecodeError, FirstBytes, OutOfMemory};

pub(crate) use room::Need;
use room::OWN_FROM;
use stream::whole_max;

/// Cuts one byte stream into frames. Pure: it does not depend on a socket.
///
/// Pass it the input in pieces of any size. A frame that is complete in one piece is returned without a copy; a frame
/// that is split over several pieces is assembled. After an error the frame boundaries are lost, and the rest of the
/// stream cannot be decoded.
///
/// ```
/// use throng::{FrameDecoder, Framing};
///
/// let mut decoder = FrameDecoder::new(Framing::length_prefix());
/// let mut frames = Vec::new();
/// // Two frames, "hello" and "", in three reads.
/// for mut piece in [&b"\x05\0"[..], b"\0\0hel", b"lo\0\0\0\0"] {
///     while let Some(frame) = decoder.decode(&mut piece)? {
///         frames.push(frame.to_vec());
///     }
/// }
/// assert_eq!(frames, [&b"hello"[..], b""]);
/// # Ok::<(), throng::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    framing: Framing,
    /// The longest payload accepted, never more than the framing can encode.
    max_frame_len: u64,
    /// The longest payload that is held and cut whole; longer ones are cut into chunks.
    whole_max: u64,
    state: State,
    /// The received part of an unfinished frame; empty between frames. In `Header`: all its bytes. In `Body`: the bytes
    /// after the header, of which the first `filled` are valid (the others are zeroes or left over from an earlier
    /// frame).
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At a frame boundary, or after it with too few bytes to determine the extent. The first `scanned` bytes were
    /// examined.
    Header { scanned: usize },
    /// After the header.
    Body {
        payload: usize,
        trailer: u32,
        filled: usize,
    },
    /// Inside a payload that is cut into chunks, or inside a trailer that is not checked. If the trailer is checked,
    /// the last byte of the payload is not cut before the whole trailer has arrived; then only that byte and a part of
    /// the trailer are held.
    Stream {
        at: u64,
        total: u64,
        trailer: u32,
        checked: bool,
    },
    /// Like `Stream`, in a format that does not declare the length. Only a byte that may belong to the delimiter is held.
    Line {
        at: u64,
        max: u64,
        delimiter: Delimiter,
    },
}

const BOUNDARY: State = State::Header { scanned: 0 };

/// The payload of a frame that was cut from the stream.
pub(crate) enum Cut<'i> {
    Borrowed(&'i [u8]),
    /// The first bytes of a buffer, as many as the second number says.
    Assembled(Vec<u8>, usize),
    /// A chunk of a payload that is not held.
    Chunk(Extent, &'i [u8]),
    HeldChunk(Extent, Vec<u8>),
}

/// Cuts complete frames from the front of a buffer. Between two such frames a decoder is always in the same state, so
/// it need not be consulted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeFrames {
    prefix: LengthPrefix,
    limit: u64,
}

impl WholeFrames {
    #[inline]
    pub(crate) fn prefix(&self) -> LengthPrefix {
        self.prefix
    }

    /// The same for frames of up to `len` bytes.
    #[inline(always)]
    pub(crate) fn up_to(self, len: usize) -> Self {
        let limit = self.limit.min(len as u64);
        Self { limit, ..self }
    }

    /// Returns the next frame. Fast path; `None` means: ask the decoder.
    #[inline(always)]
    pub(crate) fn cut<'i>(&self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        self.prefix.cut_whole(self.limit, input)
    }
}

impl FrameDecoder {
    /// Creates a decoder at the beginning of a stream, with no limit on the length of a frame.
    pub fn new(framing: impl Into<Framing>) -> Self {
        let framing = framing.into();
        let max_frame_len = write_limit(&framing, u64::MAX);
        Self {
            framing,
            max_frame_len,
            whole_max: max_frame_len,
            state: BOUNDARY,
            held: Vec::new(),
        }
    }

    /// Sets the longest payload, in bytes. A longer frame is refused as soon as its header is known.
    ///
    /// ```
    /// use throng::{DecodeError, FrameDecoder, Framing};
    ///
    /// let mut decoder = FrameDecoder::new(Framing::length_prefix()).max_frame_len(1024);
    /// let error = decoder.decode(&mut &b"GET / HTTP/1.1\r\n"[..]).unwrap_err();
    /// assert!(matches!(error, DecodeError::FrameTooLarge { max: 1024, .. }));
    /// ```
    pub fn max_frame_len(mut self, bytes: u64) -> Self {
        self.max_frame_len = write_limit(&self.framing, bytes);
        self.whole_max = self.max_frame_len;
        self
    }

    /// Consumes `input` up to the end of the next frame, and returns that frame.
    ///
    /// `None` means that all of `input` was consumed and the frame continues in the next piece. Call it until it
    /// returns `None`.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a valid frame, if the frame is longer than
    /// [`max_frame_len`](Self::max_frame_len), or if memory for it cannot be allocated. The decoder cannot be used
    /// after an error.
    pub fn decode<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'i>>, DecodeError> {
        Ok(match self.cut(input)? {
            Some(Cut::Borrowed(payload) | Cut::Chunk(_, payload)) => Some(payload.into()),
            Some(Cut::Assembled(mut payload, len)) => {
                payload.truncate(len);
                Some(payload.into())
            }
            Some(Cut::HeldChunk(_, payload)) => Some(payload.into()),
            None => {
                self.hold(input, Vec::new())?;
                *input = &[];
                None
            }
        })
    }

    /// Ends the stream. Returns the last line, if it has no end and [is delivered
    /// nevertheless](super::Lines::deliver_unterminated). Then [`is_inside_frame`](Self::is_inside_frame) returns
    /// `true` if the stream ends inside a frame.
    ///
    /// # Errors
    /// Returns an error if memory cannot be allocated.
    pub fn finish(&mut self) -> Result<Option<Frame<'static>>, DecodeError> {
        match self.end_at_eof() {
            // The only delimiter that EOF can replace.
            Some(_) => self.decode(&mut &b"\n"[..]),
            None => Ok(None),
        }
    }

    /// Returns `true` if the stream is inside a frame, so that an EOF here would leave it unfinished.
    pub fn is_inside_frame(&self) -> bool {
        !self.held.is_empty() || !matches!(self.state, State::Header { .. })
    }

    /// Returns the number of bytes held of an unfinished frame. Its header does not count once it is complete.
    pub fn held_bytes(&self) -> usize {
        match self.state {
            State::Body { filled, .. } => filled,
            State::Header { .. } | State::Stream { .. } | State::Line { .. } => self.held.len(),
        }
    }

    /// Returns the number of bytes received of an unfinished frame. Its header does not count once it is complete.
    pub(crate) fn received(&self) -> u64 {
        match self.state {
            State::Stream { at, .. } | State::Line { at, .. } => at,
            State::Header { .. } | State::Body { .. } => self.held_bytes() as u64,
        }
    }

    /// Takes the held bytes, as they came over the wire, from the last frame boundary on. Of a frame that is delivered
    /// in chunks, only the undelivered bytes.
    pub(crate) fn take_wire(&mut self) -> Result<Vec<u8>, DecodeError> {
        let begun = match self.state {
            State::Body { payload, .. } => Some(payload as u64),
            State::Stream { at: 0, total, .. } => Some(total),
            State::Header { .. } | State::Stream { .. } | State::Line { .. } => None,
        };
        let mut bytes = self.take_held();
        if let Some(payload) = begun {
            // Formats are canonical: each length has one header.
            let envelope = self.framing.envelope(payload).unwrap_or_default();
            let header = envelope.header();
            reserve(&mut bytes, header.len(), usize::MAX)?;
            bytes.splice(..0, header.iter().copied());
        }
        self.state = BOUNDARY;
        Ok(bytes)
    }

    pub(crate) fn framing(&self) -> &Framing {
        &self.framing
    }

    /// Returns the longest payload allowed, in either direction.
    pub(crate) fn limit(&self) -> u64 {
        self.max_frame_len
    }

    /// Changes the framing from the boundary after the last frame that was delivered, even partly. Returns the bytes
    /// held since then, which have to be decoded again.
    pub(crate) fn set_framing(
        &mut self,
        framing: Framing,
        max_frame_len: u64,
        stream_over: u64,
    ) -> Result<Vec<u8>, DecodeError> {
        let anew = match self.state {
            State::Header { .. } | State::Body { .. } | State::Stream { at: 0, .. } => {
                self.take_wire()?
            }
            State::Stream { .. } | State::Line { .. } => Vec::new(),
        };
        if let State::Stream { checked, .. } = &mut self.state {
            // The trailer belongs to the old framing, so the new one must not check it.
            *checked = false;
        }
        self.max_frame_len = write_limit(&framing, max_frame_len);
        self.whole_max = whole_max(&framing, self.max_frame_len, stream_over);
        self.framing = framing;
        Ok(anew)
    }

    /// Returns the next frame. After `None` the rest of `input` belongs to an unfinished frame and has to be passed to
    /// [`hold`](Self::hold).
    #[inline]
    pub(crate) fn cut<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Cut<'i>>, DecodeError> {
        if self.held.is_empty() {
            self.cut_borrowed(input)
        } else {
            self.cut_held(input)
        }
    }

    /// Returns the fast path for complete frames, if the decoder is at a frame boundary and its framing has one.
    #[inline]
    pub(crate) fn whole_frames(&self) -> Option<WholeFrames> {
        let at_boundary = self.held.is_empty() && self.state == BOUNDARY;
        let prefix = self.framing.prefix().filter(|_| at_boundary)?;
        let limit = self.whole_max;
        Some(WholeFrames { prefix, limit })
    }

    /// Returns the size of the unfinished frame without its header, if it is known.
    pub(crate) fn expected_len(&self) -> Option<usize> {
        match self.state {
            State::Body {
                payload, trailer, ..
            } => Some(payload.saturating_add(trailer as usize)),
            State::Header { .. } | State::Stream { .. } | State::Line { .. } => None,
        }
    }

    /// Keeps the beginning of an unfinished frame in `buffer`, whose content is discarded.
    pub(crate) fn hold(&mut self, rest: &[u8], mut buffer: Vec<u8>) -> Result<(), DecodeError> {
        if rest.is_empty() {
            return Ok(());
        }
        debug_assert!(self.held.is_empty(), "cut takes all when something is held");
        match &mut self.state {
            // Bytes of the buffer that are not needed yet stay valid, so that they need not be zeroed again.
            State::Body { filled, .. } if buffer.len() >= rest.len() => {
                buffer[..rest.len()].copy_from_slice(rest);
                *filled = rest.len();
            }
            State::Body {
                payload,
                trailer,
                filled,
            } => {
                let need = payload.saturating_add(*trailer as usize);
                // Room for as many bytes as have arrived, if the others will be read there.
                let room = match need > OWN_FROM {
                    true => need.min(rest.len().saturating_mul(2)).max(rest.len()),
                    false => rest.len(),
                };
                buffer.clear();
                reserve(&mut buffer, room, need)?;
                buffer.extend_from_slice(rest);
                buffer.resize(room, 0);
                *filled = rest.len();
            }
            _ => {
                buffer.clear();
                reserve(&mut buffer, rest.len(), rest.len())?;
                buffer.extend_from_slice(rest);
            }
        }
        self.held = buffer;
        Ok(())
    }

    #[inline]
    fn cut_borrowed<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Cut<'i>>, DecodeError> {
        let (payload, trailer) = match self.state {
            State::Header { scanned } => match self.framing.decode(input, scanned)? {
                Decoded::Frame {
                    header,
                    payload,
                    trailer,
                } => {
                    if payload > self.whole_max {
                        self.begin_stream(payload, trailer, input)?;
                        *input = &input[header..];
                        return self.cut_chunk(input);
                    }
                    let payload = self.admit(payload, input)?;
                    *input = &input[header..];
                    (payload, trailer)
                }
                Decoded::Incomplete => {
                    let least = self.admit_unfinished(input)?;
                    if self.begin_line(least) {
                        return self.cut_chunk(input);
                    }
                    self.state = State::Header {
                        scanned: input.len(),
                    };
                    return Ok(None);
                }
            },
            State::Stream { .. } | State::Line { .. } => return self.cut_chunk(input),
            State::Body {
                payload, trailer, ..
            } => (payload, trailer),
        };
        match input.split_at_checked(payload.saturating_add(trailer as usize)) {
            Some((frame, rest)) => {
                let (payload, trailer) = frame.split_at(payload);
                self.framing.check_trailer(trailer)?;
                *input = rest;
                self.state = BOUNDARY;
                Ok(Some(Cut::Borrowed(payload)))
            }
            None => {
                self.state = State::Body {
                    payload,
                    trailer,
                    filled: 0,
                };
                Ok(None)
            }
        }
    }

    /// Checks the declared length of a payload against the limit and the address space.
    #[inline]
    fn admit(&self, declared: u64, input: &[u8]) -> Result<usize, DecodeError> {
        match usize::try_from(declared) {
            Ok(len) if declared <= self.max_frame_len && len <= isize::MAX as usize => Ok(len),
            _ => Err(self.too_large(declared, input)),
        }
    }

    /// Checks a frame whose extent is not known. Returns how long its payload is at least.
    fn admit_unfinished(&self, input: &[u8]) -> Result<u64, DecodeError> {
        let least = self.framing.least_payload(input);
        if least > self.max_frame_len {
            return Err(self.too_large(least, input));
        }
        Ok(least)
    }

    #[cold]
    fn too_large(&self, declared: u64, input: &[u8]) -> DecodeError {
        DecodeError::FrameTooLarge {
            declared,
            max: self.max_frame_len.min(isize::MAX as u64),
            first_bytes: FirstBytes::of(input),
        }
    }
}

/// Reserves `additional` bytes; the capacity grows geometrically, but not beyond `whole`.
fn reserve(buffer: &mut Vec<u8>, additional: usize, whole: usize) -> Result<(), OutOfMemory> {
    let required = buffer.len().saturating_add(additional);
    if required <= buffer.capacity() {
        return Ok(());
    }
    let target = required.max(whole.min(buffer.capacity().saturating_mul(2)));
    buffer
        .try_reserve_exact(target - buffer.len())
        .map_err(|_| OutOfMemory {
            requested: additional,
        })
}

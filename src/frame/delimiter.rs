//! Frames that end with a configurable byte, such as lines.

use super::format::{Decoded, Envelope};
use crate::error::EncodeError;

/// What ends a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Delimiter {
    byte: u8,
    /// Whether a CR before the byte belongs to the end, and not to the payload.
    takes_cr: bool,
    /// Whether a CR is written before the byte.
    pub(super) writes_cr: bool,
    /// Whether EOF ends a frame that has begun.
    pub(super) is_eof: bool,
}

impl Delimiter {
    /// The byte, and nothing else.
    pub(super) fn byte(byte: u8) -> Self {
        Self {
            byte,
            takes_cr: false,
            writes_cr: false,
            is_eof: false,
        }
    }

    /// LF, with or without a CR before it.
    pub(super) fn newline() -> Self {
        Self {
            takes_cr: true,
            ..Self::byte(b'\n')
        }
    }

    /// Returns the byte that would end a frame at EOF, if EOF ends it.
    pub(super) fn at_eof(self) -> Option<u8> {
        self.is_eof.then_some(self.byte)
    }

    /// Searches for the delimiter after the first `scanned` bytes, which were searched before.
    pub(super) fn decode(self, input: &[u8], scanned: usize) -> Decoded {
        let scanned = scanned.min(input.len());
        match position(self.byte, &input[scanned..]) {
            Some(at) => {
                let line = &input[..scanned + at];
                let payload = self.payload(line).len();
                Decoded::Frame {
                    header: 0,
                    payload: payload as u64,
                    trailer: (line.len() - payload + 1) as u32,
                }
            }
            None => Decoded::Incomplete,
        }
    }

    /// Cuts the rest of a frame from the front of `input`, up to the delimiter.
    pub(super) fn cut<'i>(self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let end = position(self.byte, input)?;
        let payload = self.payload(&input[..end]);
        *input = &input[end + 1..];
        Some(payload)
    }

    /// Returns what is certainly payload of `begun`, which contains no delimiter: a CR at its end may belong to one.
    pub(super) fn payload(self, begun: &[u8]) -> &[u8] {
        match begun {
            [payload @ .., b'\r'] if self.takes_cr => payload,
            payload => payload,
        }
    }

    pub(super) fn encode(self, envelope: &mut Envelope) {
        if self.writes_cr {
            envelope.push_trailer(b"\r");
        }
        envelope.push_trailer(&[self.byte]);
    }

    /// Refuses a piece of a payload that would not arrive as it was sent: with the delimiter in it, as two frames; with
    /// a CR before the delimiter, without the CR. `is_last`: the delimiter follows the piece.
    pub(super) fn check(self, piece: &[u8], is_last: bool) -> Result<(), EncodeError> {
        if let Some(position) = position(self.byte, piece) {
            return Err(EncodeError::ContainsDelimiter {
                delimiter: self.byte,
                position,
            });
        }
        if is_last && !self.writes_cr && self.payload(piece).len() < piece.len() {
            return Err(EncodeError::Refused {
                expected: "a line that does not end with CR",
            });
        }
        Ok(())
    }
}

/// Compares a block at a time, which the compiler vectorizes; the matching block is then searched byte by byte.
fn position(needle: u8, haystack: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let mut blocks = haystack.chunks_exact(BLOCK);
    let mut start = 0;
    for block in &mut blocks {
        if block
            .iter()
            .fold(false, |hit, &byte| hit | (byte == needle))
        {
            break;
        }
        start += BLOCK;
    }
    let rest = haystack[start..].iter().position(|&byte| byte == needle)?;
    Some(start + rest)
}

//! Assembles frames that did not arrive whole.

use super::{BOUNDARY, Cut, FrameDecoder, State, reserve};
use crate::error::DecodeError;
use crate::frame::Decoded;

impl FrameDecoder {
    /// Appends the part of `input` that belongs to the frame to the held bytes. Consumes all of `input` if the frame is
    /// still incomplete.
    #[cold]
    pub(super) fn cut_held<'i>(
        &mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        if let State::Header { scanned } = self.state {
            let whole = *input;
            reserve(&mut self.held, whole.len(), usize::MAX)?;
            self.held.extend_from_slice(whole);
            *input = &[];
            match self.framing.decode(&self.held, scanned)? {
                Decoded::Incomplete => {
                    let least = self.admit_unfinished(&self.held)?;
                    if self.begin_line(least) {
                        return Ok(self.cut_held_chunk());
                    }
                    self.state = State::Header {
                        scanned: self.held.len(),
                    };
                    return Ok(None);
                }
                Decoded::Frame {
                    header,
                    payload,
                    trailer,
                } => {
                    if payload > self.whole_max {
                        return self.stream_held(header, payload, trailer, input, whole);
                    }
                    let payload = self.admit(payload, &self.held)?;
                    let end = header
                        .saturating_add(payload)
                        .saturating_add(trailer as usize);
                    // Without `whole` the frame was incomplete, so it does not end before that.
                    let excess = self.held.len().saturating_sub(end).min(whole.len());
                    *input = &whole[whole.len() - excess..];
                    self.held.truncate(end);
                    self.held.drain(..header);
                    self.state = State::Body {
                        payload,
                        trailer,
                        filled: self.held.len(),
                    };
                }
            }
        }
        Ok(self.fill_body(input)?.map(Cut::Assembled))
    }

    fn fill_body(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
        let State::Body {
            payload,
            trailer,
            filled,
        } = self.state
        else {
            return Ok(None);
        };
        let need = payload.saturating_add(trailer as usize);
        let (piece, rest) = input.split_at(input.len().min(need - filled));
        *input = rest;
        if !piece.is_empty() {
            self.held.truncate(filled);
            reserve(&mut self.held, piece.len(), need)?;
            self.held.extend_from_slice(piece);
        }
        let filled = filled + piece.len();
        if filled < need {
            self.state = State::Body {
                payload,
                trailer,
                filled,
            };
            return Ok(None);
        }
        self.framing.check_trailer(&self.held[payload..need])?;
        self.state = BOUNDARY;
        self.held.truncate(payload);
        Ok(Some(std::mem::take(&mut self.held)))
    }
}

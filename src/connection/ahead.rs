//! Bytes that come before those of the socket: those that other code had read before the stream was adopted, those of a
//! delivery that was interrupted by a budget, a pause or a panic, and those to be cut again after a change of framing.
//! They are processed like bytes that are read.
//!
//! This is the only place for bytes that were read and not delivered, except for the first part of an incomplete frame,
//! which the decoder holds.

use super::{Common, Connection, Fill};
use crate::error::{DecodeError, OutOfMemory};
use crate::frame::Need;
use crate::socket::Readiness;

/// Invariant: `at < bytes.len()`; otherwise there is no `Ahead`.
#[derive(Debug)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    /// The number of bytes already taken.
    at: usize,
    /// Where the rest of the current delivery belongs: behind bytes to be cut again, before those that were not taken.
    rest_at: usize,
}

impl Ahead {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

impl Connection {
    /// Puts bytes before those that will be read.
    pub(crate) fn put_ahead(
        &mut self,
        mut bytes: Vec<u8>,
        common: &mut Common,
    ) -> Result<(), DecodeError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let more = bytes.len();
        if let Some(ahead) = self.ahead() {
            let rest = ahead.rest();
            let requested = rest.len();
            bytes
                .try_reserve_exact(requested)
                .map_err(|_| OutOfMemory { requested })?;
            bytes.extend_from_slice(rest);
        }
        common.memory.add_input(more);
        self.aside.get_or_insert_default().ahead = Some(Ahead {
            bytes,
            at: 0,
            rest_at: more,
        });
        self.note_ahead();
        Ok(())
    }

    /// Puts the rest of an interrupted delivery before the bytes that will be read. Bytes to be cut again in a new framing
    /// precede it.
    pub(super) fn put_back(&mut self, rest: &[u8], common: &mut Common) -> Result<(), DecodeError> {
        let aside = self.aside.get_or_insert_default();
        let ahead = aside.ahead.get_or_insert_with(|| {
            let mut bytes = common.buffers.take_input();
            bytes.clear();
            Ahead {
                bytes,
                at: 0,
                rest_at: 0,
            }
        });
        let requested = rest.len();
        ahead
            .bytes
            .try_reserve(requested)
            .map_err(|_| OutOfMemory { requested })?;
        // The place of bytes that were taken is free.
        let place = match ahead.at.checked_sub(requested) {
            Some(start) if ahead.rest_at == ahead.at => {
                ahead.at = start;
                start..start + requested
            }
            _ => ahead.rest_at..ahead.rest_at,
        };
        ahead.bytes.splice(place, rest.iter().copied());
        common.memory.add_input(requested);
        self.note_ahead();
        Ok(())
    }

    /// Sets a readiness flag while there are bytes ahead, so that they are found like other readable input.
    pub(super) fn note_ahead(&mut self) {
        if self.is_open() && self.ahead_len() > 0 {
            self.readiness |= Readiness::AHEAD;
        }
    }

    pub(super) fn ahead_len(&self) -> usize {
        self.ahead().map_or(0, |ahead| ahead.rest().len())
    }

    fn ahead(&self) -> Option<&Ahead> {
        self.aside.as_ref()?.ahead.as_ref()
    }

    fn remove_ahead(&mut self) -> Option<Ahead> {
        self.readiness.remove(Readiness::AHEAD);
        let ahead = self.aside.as_mut().and_then(|aside| aside.ahead.take());
        self.aside.take_if(|aside| aside.is_empty());
        ahead
    }

    /// Takes the bytes ahead, to be returned.
    pub(super) fn take_ahead(&mut self, common: &mut Common) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(ahead) = self.remove_ahead() {
            bytes = ahead.bytes;
            bytes.drain(..ahead.at);
        }
        common.memory.sub_input(bytes.len());
        bytes
    }

    /// Drops the bytes ahead; usually they are used up.
    pub(super) fn drop_ahead(&mut self, common: &mut Common) {
        if let Some(ahead) = self.remove_ahead() {
            common.memory.sub_input(ahead.rest().len());
            common.buffers.put_input(ahead.bytes);
        }
    }

    /// Fills the buffer from the bytes ahead, as from the socket.
    #[cold]
    pub(super) fn fill_from_ahead(
        &mut self,
        buffer: &mut [u8],
        most: usize,
        common: &mut Common,
    ) -> Fill {
        let Some(ahead) = self.aside.as_mut().and_then(|aside| aside.ahead.as_mut()) else {
            self.readiness.remove(Readiness::AHEAD);
            return Fill::Blocked;
        };
        let start = match self.decoder.need(buffer.len()) {
            Need::Fresh | Need::Append => Some(0),
            Need::Prepend => Some(self.decoder.held_bytes()),
            Need::Direct => None,
        };
        let room = match start {
            Some(start) => &mut buffer[start..],
            None => match self.decoder.window(most) {
                Ok(window) => window,
                Err(error) => return Fill::NoMemory(error),
            },
        };
        let rest = ahead.rest();
        let taken = rest.len().min(room.len()).min(most);
        room[..taken].copy_from_slice(&rest[..taken]);
        ahead.at += taken;
        ahead.rest_at = ahead.at;
        if ahead.rest().is_empty() {
            self.drop_ahead(common);
        }
        match start {
            Some(start) => {
                common.memory.sub_input(taken);
                if start > 0 {
                    self.bring_back(buffer, common);
                }
                let len = start + taken;
                Fill::Bytes { len, read: 0 }
            }
            None => {
                // From here on the decoder holds and counts them.
                self.decoder.advance(taken);
                Fill::Bytes { len: 0, read: 0 }
            }
        }
    }
}

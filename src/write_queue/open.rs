//! A frame that is queued in chunks. Frames queued while it is open wait behind it.

use super::WriteQueue;
use crate::error::{EncodeError, SendError};
use crate::frame::{self, Envelope, Framing};

#[derive(Debug)]
pub(super) struct OpenFrame {
    /// Missing bytes of its payload.
    left: u64,
    /// Whether a chunk was queued.
    begun: bool,
    envelope: Envelope,
    framing: Framing,
    /// The frames that wait for its end.
    pub(super) behind: WriteQueue,
}

impl WriteQueue {
    /// Begins a frame with a payload of `len` bytes.
    pub(crate) fn begin_frame(
        &mut self,
        framing: &Framing,
        limit: u64,
        len: u64,
    ) -> Result<(), SendError> {
        if let Some(open) = &self.open {
            return Err(SendError::FrameOpen { missing: open.left });
        }
        let envelope = frame::envelope_of(framing, limit, len)?;
        self.append_bytes(envelope.header())?;
        let around = envelope.header().len() + envelope.trailer().len();
        self.promise(len.saturating_add(around as u64));
        self.open = Some(Box::new(OpenFrame {
            left: len,
            begun: false,
            envelope,
            framing: framing.clone(),
            behind: Self::default(),
        }));
        Ok(())
    }

    /// Appends a chunk to the open frame.
    pub(crate) fn push_chunk(&mut self, piece: &[u8]) -> Result<(), SendError> {
        let Some(open) = &mut self.open else {
            return Err(SendError::NoFrameOpen);
        };
        let Some(left) = open.left.checked_sub(piece.len() as u64) else {
            return Err(SendError::ChunkTooLong {
                len: piece.len(),
                left: open.left,
            });
        };
        open.framing.check(piece, left == 0)?;
        let is_lost = left == 0 && mutated!("last chunk lost");
        self.append_bytes(if is_lost { &[] } else { piece })?;
        if let Some(open) = &mut self.open {
            open.left = left;
            open.begun |= !piece.is_empty();
        }
        Ok(())
    }

    /// Ends the open frame, and appends the frames that waited for it.
    pub(crate) fn finish_frame(&mut self) -> Result<(), SendError> {
        let Some(open) = &self.open else {
            return Err(SendError::NoFrameOpen);
        };
        if open.left > 0 {
            return Err(SendError::FrameOpen { missing: open.left });
        }
        let envelope = open.envelope;
        self.append_bytes(envelope.trailer())?;
        if let Some(open) = self.open.take() {
            self.append(open.behind);
        }
        Ok(())
    }

    /// Returns whether a frame is open of which no chunk was queued yet.
    pub(crate) fn awaits_first_piece(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.begun)
    }

    /// Returns the number of missing payload bytes of the open frame.
    pub(crate) fn missing(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.left)
    }

    /// Returns whether the only thing left to write is the missing part of the open frame.
    pub(crate) fn is_left_open(&self) -> bool {
        self.open.is_some() && self.bytes == 0 && self.sealed.is_empty()
    }

    /// Returns whether the peer cannot tell that the open frame is incomplete: no header declares its length.
    pub(crate) fn is_open_without_header(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.envelope.header().is_empty())
    }

    /// Returns the queue for the next whole frame: this one, or the one behind the open frame.
    #[inline]
    pub(crate) fn back(&mut self) -> &mut Self {
        match self.open {
            Some(ref mut open) => &mut open.behind,
            None => self,
        }
    }

    /// Appends bytes that are no frame of their own.
    fn append_bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.make_room(bytes.len())?;
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Appends the frames that waited.
    fn append(&mut self, mut behind: Self) {
        if behind.is_empty() {
            return;
        }
        self.seal();
        let segment = self.tail_serial();
        let ordinal = self.unsent.next_ordinal();
        self.adopt_latest(&mut behind, segment, ordinal);
        self.sealed.append(&mut behind.sealed);
        self.sources += behind.sources;
        self.tail = behind.tail;
        self.bytes += behind.bytes;
        self.shared += behind.shared;
        self.unsent.append(behind.unsent);
    }
}

//! The ways into a queue: frames that are copied, shared, handed over, encoded in place, or read later.

use std::io::Read;

use bytes::Bytes;

use super::segment::{Header, Segment};
use super::source::Source;
use super::{SEAL_AT, SHARE_FROM, WriteQueue};
use crate::error::{EncodeError, OutOfMemory};
use crate::frame::{self, Envelope, FrameWriter, Framing, LengthPrefix};

impl WriteQueue {
    /// Fast path: appends a frame by copying the payload, if no more than `up_to` bytes are queued afterwards. Returns
    /// the number of bytes appended. `None` means: use the general path.
    #[inline(always)]
    pub(crate) fn push_at_once(
        &mut self,
        framing: &Framing,
        limit: u64,
        up_to: u32,
        payload: &[u8],
    ) -> Option<usize> {
        let most = self.bytes + payload.len() as u64 + LengthPrefix::MAX_WIDTH as u64;
        if most > u64::from(up_to) {
            return None;
        }
        let len = frame::append_at_once(framing, limit, payload, &mut self.tail)?;
        self.count(len);
        Some(len)
    }

    /// Appends whole frames that have this prefix.
    pub(crate) fn push_wire(&mut self, prefix: LengthPrefix, wire: &[u8]) {
        self.tail.extend_from_slice(wire);
        let mut rest = wire;
        while !rest.is_empty() {
            let before = rest.len();
            if prefix.cut_whole(u64::MAX, &mut rest).is_none() {
                debug_assert!(false, "only whole frames were collected");
                rest = &[];
            }
            self.count(before - rest.len());
        }
    }

    /// Appends a frame, copying the payload.
    pub(crate) fn push_copied(
        &mut self,
        framing: &Framing,
        limit: u64,
        payload: &[u8],
    ) -> Result<(), EncodeError> {
        if self.tail.len() >= SEAL_AT {
            self.seal();
        }
        let before = self.tail.len();
        frame::append(framing, limit, payload, &mut self.tail)?;
        self.count(self.tail.len() - before);
        Ok(())
    }

    /// Appends the bytes of an encoded frame.
    pub(crate) fn push_wire_frame(&mut self, frame: &[u8]) {
        self.tail.extend_from_slice(frame);
        self.count(frame.len());
    }

    /// The same, if there is memory for it.
    pub(crate) fn push_encoded(&mut self, frame: &[u8]) -> Result<(), EncodeError> {
        self.make_room(frame.len())?;
        self.push_wire_frame(frame);
        Ok(())
    }

    /// Makes room for `additional` bytes in the tail.
    pub(super) fn make_room(&mut self, additional: usize) -> Result<(), EncodeError> {
        if self.tail.len() >= SEAL_AT {
            self.seal();
        }
        let requested = additional;
        self.tail
            .try_reserve(additional)
            .map_err(|_| OutOfMemory { requested }.into())
    }

    /// Appends a frame: by reference if the payload is large, otherwise by copying.
    pub(crate) fn push_shared(
        &mut self,
        framing: &Framing,
        limit: u64,
        payload: &Bytes,
    ) -> Result<(), EncodeError> {
        if payload.len() < SHARE_FROM {
            return self.push_copied(framing, limit, payload);
        }
        let envelope = frame::envelope(framing, limit, payload)?;
        let segment = Segment::Shared(payload.clone());
        self.push_large(&envelope, segment, payload.len());
        self.shared += payload.len() as u64;
        Ok(())
    }

    /// Appends a frame whose payload is the first `len` bytes of a buffer. Takes the buffer, unless the payload is small
    /// enough to be copied.
    pub(crate) fn push_owned(
        &mut self,
        framing: &Framing,
        limit: u64,
        buffer: &mut Vec<u8>,
        len: usize,
    ) -> Result<(), EncodeError> {
        let payload = buffer.get(..len).unwrap_or_default();
        if payload.len() < SHARE_FROM {
            return self.push_copied(framing, limit, payload);
        }
        let envelope = frame::envelope(framing, limit, payload)?;
        let segment = Segment::Owned(std::mem::take(buffer), len);
        self.push_large(&envelope, segment, len);
        Ok(())
    }

    /// Appends a frame whose payload is a segment of its own.
    fn push_large(&mut self, envelope: &Envelope, payload: Segment, len: usize) {
        self.push_header(envelope.header());
        self.sealed.push_back(payload);
        self.tail.extend_from_slice(envelope.trailer());
        self.count(envelope.header().len() + len + envelope.trailer().len());
    }

    /// Appends a header, and ends the segment.
    fn push_header(&mut self, header: &[u8]) {
        let mut bytes = [0; Envelope::MAX];
        match bytes.get_mut(..header.len()) {
            Some(place) if self.tail.is_empty() && !header.is_empty() => {
                place.copy_from_slice(header);
                let len = header.len() as u8;
                self.sealed
                    .push_back(Segment::Header(Header { len, bytes }));
            }
            _ => {
                self.tail.extend_from_slice(header);
                self.seal();
            }
        }
    }

    /// Begins a frame that is encoded in place. [`count`](Self::count) makes it part of the queue.
    pub(crate) fn writer(&mut self, framing: &Framing) -> Result<FrameWriter<'_>, EncodeError> {
        if self.tail.len() >= SEAL_AT {
            self.seal();
        }
        FrameWriter::begin(framing, &mut self.tail)
    }

    /// Counts a frame whose bytes were appended. An empty payload without framing has no bytes and is ignored.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.bytes += bytes as u64;
        self.unsent.push(bytes as u64);
    }

    /// Appends a frame with a payload of `len` bytes, which are read when it is written.
    pub(crate) fn push_source(
        &mut self,
        framing: &Framing,
        limit: u64,
        len: u64,
        reader: impl FnOnce() -> Option<Box<dyn Read + Send>>,
    ) -> Result<(), EncodeError> {
        let envelope = frame::envelope_of(framing, limit, len)?;
        let (header, trailer) = (envelope.header(), envelope.trailer());
        self.make_room(header.len())?;
        let Some(reader) = reader() else {
            return Ok(());
        };
        self.tail.extend_from_slice(header);
        self.seal();
        let source = Source::new(reader, len, framing.clone());
        self.sealed.push_back(Segment::Source(Box::new(source)));
        self.sources += 1;
        self.tail.extend_from_slice(trailer);
        let around = (header.len() + trailer.len()) as u64;
        self.bytes += around;
        self.promise(len.saturating_add(around));
        Ok(())
    }

    /// Counts a frame whose bytes will be appended.
    pub(super) fn promise(&mut self, bytes: u64) {
        if bytes > 0 {
            self.unsent.push(bytes);
        }
    }
}

//! Queueing: the fast path for small frames, and the general one.

use bytes::Bytes;

use super::common::recycle;
use super::{Common, Connection, Phase, Pressure, WriteHalf};
use crate::error::SendError;
use crate::frame::{self, Framing, LengthPrefix};
use crate::write_queue::{Dropped, SHARE_FROM, WriteQueue};

/// What to do with queued frames when a connection is closed with a [last frame](crate::Net::disconnect_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backlog {
    /// Write them first.
    Flush,
    /// Drop them, and count them in [`unsent_frames`](crate::DisconnectReason::unsent_frames). A partly written frame
    /// is completed.
    Drop,
}

impl Connection {
    /// Enables the fast path for small frames.
    pub(super) fn allow_at_once(&mut self) {
        let up_to = self.terms.options.congested_from() - 1;
        self.at_once_up_to = u32::try_from(up_to).unwrap_or(u32::MAX);
    }

    /// Returns whether something is queued that can be written without further calls of the user.
    #[inline(never)]
    pub(super) fn has_work(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.has_work())
    }

    /// Fast path: queues a payload by copying it. `false` means: use the general path.
    #[inline(always)]
    pub(crate) fn push_at_once(&mut self, payload: &[u8], common: &mut Common) -> bool {
        let up_to = self.at_once_up_to;
        if up_to == 0 {
            return false;
        }
        self.settle_fanout(common);
        let queue = match &mut self.queue {
            Some(queue) => queue,
            None => self.queue.insert(common.buffers.take_queue()),
        };
        let pushed =
            queue.push_at_once(self.decoder.framing(), self.decoder.limit(), up_to, payload);
        common.memory.add(pushed.unwrap_or(0));
        pushed.is_some()
    }

    /// Returns whether frames can be written without being queued: the queue is empty, and the socket takes them.
    #[inline(always)]
    pub(super) fn needs_no_queue(&self) -> bool {
        self.queue.is_none()
            && self.write_half == WriteHalf::Ready
            && self.pressure == Pressure::NONE
    }

    /// Returns the longest payload, and the most bytes queued, for which a reply may be collected instead of queued. `None`
    /// if replies have to be queued, because other frames precede them or cannot be written now.
    #[inline]
    pub(crate) fn room_for_replies(&self) -> Option<(usize, usize)> {
        let collects = self.at_once_up_to > 0 && self.fanout.is_empty() && self.needs_no_queue();
        let longest = usize::try_from(self.decoder.limit()).unwrap_or(usize::MAX);
        collects.then_some((longest, self.at_once_up_to as usize))
    }

    /// Gives a queue of replies to a connection that has none.
    pub(crate) fn set_queue(&mut self, queue: Box<WriteQueue>) {
        debug_assert!(self.queue.is_none() && self.fanout.is_empty());
        self.queue = Some(queue);
    }

    /// Adds a reply to the queue that the connection will get: the first `len` bytes of a buffer.
    #[cold]
    pub(crate) fn push_reply(&self, queue: &mut WriteQueue, buffer: &mut Vec<u8>, len: usize) {
        let (framing, limit) = (self.decoder.framing(), self.decoder.limit());
        let pushed = queue.push_owned(framing, limit, buffer, len);
        debug_assert!(pushed.is_ok(), "its length was checked before");
    }

    /// Returns the prefix of frames, if they have one, for replies to a frame that was read into a buffer of its own.
    #[inline]
    pub(crate) fn prefix(&self) -> Option<LengthPrefix> {
        self.decoder.framing().prefix()
    }

    /// Queues with `enqueue`, if there is room. On error the queue is unchanged.
    #[inline]
    pub(crate) fn with_queue(
        &mut self,
        common: &mut Common,
        enqueue: impl FnOnce(&mut WriteQueue, &Framing, u64) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        self.check_open()?;
        self.check_room(0)?;
        self.fill_queue(common, |queue, framing, limit| {
            enqueue(queue.back(), framing, limit)
        })
    }

    /// The same for callers that handle open frames, and have checked the room.
    #[inline]
    pub(super) fn fill_queue(
        &mut self,
        common: &mut Common,
        enqueue: impl FnOnce(&mut WriteQueue, &Framing, u64) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        self.settle_fanout(common);
        let queue = self
            .queue
            .get_or_insert_with(|| common.buffers.take_queue());
        let before = queue.copied();
        let result = enqueue(queue, self.decoder.framing(), self.decoder.limit());
        common.memory.add(queue.copied() as usize);
        common.memory.sub(before as usize);
        if queue.is_empty() {
            self.release_queue(common);
        } else if queue.flowing() >= self.terms.options.congested_from() {
            self.become_congested();
        }
        result
    }

    /// Whether a frame can be sent, apart from the room for it.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<(), SendError> {
        match self.phase {
            Phase::Open if self.has_failed_write() => Err(SendError::WriteFailed),
            Phase::Open if self.is_half_closed() => Err(SendError::HalfClosed),
            Phase::Open => Ok(()),
            Phase::Connecting => Err(SendError::Connecting),
            Phase::Closing | Phase::Releasing | Phase::Draining | Phase::Closed => {
                Err(SendError::Disconnected)
            }
        }
    }

    /// Whether the connection is open for sending, and no frame is open.
    pub(super) fn check_between_frames(&self) -> Result<(), SendError> {
        self.check_open()?;
        match self.queue.as_ref().and_then(|queue| queue.missing()) {
            Some(missing) => Err(SendError::FrameOpen { missing }),
            None => Ok(()),
        }
    }

    /// Queues a payload by reference if it is large, otherwise by copying it.
    pub(crate) fn push_shared(
        &mut self,
        common: &mut Common,
        payload: &Bytes,
    ) -> Result<(), SendError> {
        self.with_queue(common, |queue, framing, limit| {
            Ok(queue.push_shared(framing, limit, payload)?)
        })?;
        if payload.len() >= SHARE_FROM {
            common.memory.share(payload);
        }
        Ok(())
    }

    /// Queues a payload that is the first `len` bytes of a buffer. Takes the buffer if the payload is large, otherwise
    /// copies it.
    pub(crate) fn push_owned(
        &mut self,
        common: &mut Common,
        buffer: &mut Vec<u8>,
        len: usize,
    ) -> Result<(), SendError> {
        self.with_queue(common, |queue, framing, limit| {
            Ok(queue.push_owned(framing, limit, buffer, len)?)
        })
    }

    /// Queues the last frame of a connection, even if there is no room. With [`Backlog::Drop`], drops what is queued
    /// and returns the counts.
    pub(crate) fn push_last(
        &mut self,
        common: &mut Common,
        payload: &[u8],
        backlog: Backlog,
    ) -> Result<Dropped, SendError> {
        self.check_open()?;
        frame::envelope(self.decoder.framing(), self.decoder.limit(), payload)?;
        self.settle_fanout(common);
        let mut dropped = Dropped::default();
        if let Some(queue) = &mut self.queue {
            if let Some(missing) = queue.missing()
                && (backlog == Backlog::Flush || queue.has_begun_open_frame())
            {
                return Err(SendError::FrameOpen { missing });
            }
            if backlog == Backlog::Drop {
                let Common {
                    memory, buffers, ..
                } = common;
                let before = queue.copied();
                dropped = queue.drop_waiting(|payload| recycle(payload, memory, buffers));
                memory.sub((before - queue.copied()) as usize);
            }
        }
        self.fill_queue(common, |queue, framing, limit| {
            Ok(queue.push_copied(framing, limit, payload)?)
        })?;
        Ok(dropped)
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.bytes()) + self.fanout_bytes()
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.queue.is_some() || !self.fanout.is_empty()
    }

    pub(super) fn release_queue(&mut self, common: &mut Common) {
        if let Some(queue) = self.queue.take() {
            common.buffers.put_queue(queue);
        }
    }
}

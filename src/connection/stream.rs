//! Frames that are queued before they are complete, and frames that replace others.

use std::io::Read;

use super::{Common, Connection, Pressure};
use crate::error::SendError;

impl Connection {
    /// Queues a frame whose payload is read when it is written. On error the reader stays in `reader`.
    pub(crate) fn push_reader<R: Read + Send + 'static>(
        &mut self,
        common: &mut Common,
        len: u64,
        reader: &mut Option<R>,
    ) -> Result<(), SendError> {
        self.with_queue(common, |queue, framing, limit| {
            let boxed = || Some(Box::new(reader.take()?) as Box<dyn Read + Send>);
            Ok(queue.push_source(framing, limit, len, boxed)?)
        })
    }

    /// Calls readers again that returned `WouldBlock`. Returns whether there was one.
    pub(crate) fn wake_readers(&mut self) -> bool {
        self.queue
            .as_mut()
            .is_some_and(|queue| queue.wake_sources())
    }

    pub(crate) fn begin_frame(&mut self, common: &mut Common, len: u64) -> Result<(), SendError> {
        self.check_open()?;
        self.check_room(0)?;
        self.fill_queue(common, |queue, framing, limit| {
            queue.begin_frame(framing, limit, len)
        })?;
        // All further frames have to wait behind it.
        self.at_once_up_to = 0;
        Ok(())
    }

    pub(crate) fn push_chunk(
        &mut self,
        common: &mut Common,
        piece: &[u8],
    ) -> Result<(), SendError> {
        self.check_open()?;
        self.check_room_in_front()?;
        self.fill_queue(common, |queue, _, _| queue.push_chunk(piece))
    }

    /// Ends the open frame. Never fails for lack of room.
    pub(crate) fn finish_frame(&mut self, common: &mut Common) -> Result<(), SendError> {
        self.check_open()?;
        let Some(queue) = &mut self.queue else {
            return Err(SendError::NoFrameOpen);
        };
        let before = queue.copied();
        let result = queue.finish_frame();
        common.memory.add(queue.copied() as usize);
        common.memory.sub(before as usize);
        if result.is_ok() {
            self.allow_at_once();
            if self.flowing() >= self.terms.options.congested_from() {
                self.become_congested();
            }
        }
        result
    }

    /// Returns whether the queue waits for the rest of a frame that cannot come any more.
    pub(crate) fn is_left_open(&self) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.is_left_open())
    }

    /// Queues a frame, replacing the one queued in the same slot.
    pub(crate) fn push_latest(
        &mut self,
        common: &mut Common,
        slot: u32,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let freed = self
            .queue
            .as_ref()
            .map_or(0, |queue| queue.replaceable(slot));
        let mut replaced = false;
        self.check_open()?;
        self.check_room(freed)?;
        self.fill_queue(common, |queue, framing, limit| {
            replaced = queue.push_latest(framing, limit, slot, payload)?;
            Ok(())
        })?;
        common.written.replaced += u64::from(replaced);
        if replaced && self.pressure() != Pressure::NONE {
            // The new frame may be much shorter. No write may follow that would find the room.
            self.relieve(common.now);
        }
        Ok(())
    }
}

//! Frames that were sent to many connections, as long as they need not be copied into the queue.

use std::io;

use super::{Common, Connection, Io};
use crate::fanout::Span;

impl Connection {
    /// Fast path: adds a frame of the [fan-out buffer](crate::fanout::FanoutBuffer) by reference. Returns `false` if it has
    /// to be queued, because frames in the queue precede it or cannot be written now.
    #[inline(always)]
    pub(crate) fn push_fanout(&mut self, frame: Span, common: &mut Common) -> bool {
        let Some(fanout) = self.fanout.extended_by(frame) else {
            return false;
        };
        // What holds for the first frame holds for those that follow it.
        let is_accepted = (!self.fanout.is_empty() || self.needs_no_queue())
            && fanout.len() <= self.at_once_up_to;
        if is_accepted {
            self.fanout = fanout;
            common.memory.add(frame.len() as usize);
        }
        is_accepted
    }

    /// Copies frames that were added by reference into the queue, because others are queued behind them.
    #[inline(always)]
    pub(super) fn settle_fanout(&mut self, common: &mut Common) {
        if !self.fanout.is_empty() {
            self.queue_fanout(common);
        }
    }

    #[inline(never)]
    fn queue_fanout(&mut self, common: &mut Common) {
        let queue = self
            .queue
            .get_or_insert_with(|| common.buffers.take_queue());
        // The fault loses the first frame.
        let lost = usize::from(mutated!("first frame of a fan-out lost when it is queued"));
        for frame in common.fanout.frames(self.fanout).skip(lost) {
            queue.push_wire_frame(frame);
        }
        self.fanout = Span::default();
    }

    /// Writes frames that were added by reference. `None` if all were written; otherwise they are queued now, and
    /// [`replies_left`](Self::replies_left) continues with the result.
    #[inline]
    pub(crate) fn write_fanout(
        &mut self,
        stream: &mut impl Io,
        common: &mut Common,
    ) -> Option<io::Result<usize>> {
        let frames = common.fanout.bytes(self.fanout);
        common.written.calls += 1;
        match stream.write(frames) {
            Ok(written) if written == frames.len() => {
                common.written.bytes += written as u64;
                common.written.frames += common.fanout.count(self.fanout);
                common.memory.sub(written);
                self.active_at = common.now;
                self.fanout = Span::default();
                None
            }
            result => {
                self.queue_fanout(common);
                Some(result)
            }
        }
    }

    /// The bytes added by reference.
    #[inline]
    pub(super) fn fanout_bytes(&self) -> u64 {
        u64::from(self.fanout.len())
    }
}

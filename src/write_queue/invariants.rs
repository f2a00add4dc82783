//! What holds of a queue between two calls, checked in debug builds.

use super::{Segment, WriteQueue};

impl WriteQueue {
    /// # Panics
    /// If one of the invariants does not hold. The message is the invariant.
    pub(crate) fn check_invariants(&self) {
        let front = self.sealed.front().map_or(&self.tail[..], Segment::bytes);
        assert!(
            self.offset == 0 || self.offset < front.len(),
            "the offset lies in the first segment"
        );
        let (mut bytes, mut shared, mut sources) = (self.tail.len(), 0, 0);
        for segment in &self.sealed {
            let len = segment.bytes().len();
            bytes += len;
            match segment {
                Segment::Copied(_) | Segment::Header(_) | Segment::Owned(..) => {}
                Segment::Shared(_) => shared += len,
                Segment::Source(_) => sources += 1,
            }
            let may_be_empty = matches!(segment, Segment::Source(_));
            assert!(len > 0 || may_be_empty, "no segment is empty");
        }
        if let Some(Segment::Shared(_)) = self.sealed.front() {
            shared -= self.offset;
        }
        bytes -= self.offset;
        assert_eq!(self.bytes, bytes as u64, "bytes are counted");
        assert_eq!(self.shared, shared as u64, "shared bytes are counted");
        assert_eq!(self.sources, sources, "readers are counted");
        self.unsent.check_invariants();
        let has_frames = self.unsent.frames() > 0;
        assert!(has_frames || self.bytes == 0, "bytes belong to frames");
        assert!(
            !has_frames || !self.is_empty(),
            "an empty queue has no frames"
        );
        if let Some(behind) = self.behind() {
            behind.check_invariants();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::Framing;
    use crate::write_queue::SHARE_FROM;

    /// A copied frame, a shared one and a reader, of which one byte is written.
    fn queue() -> WriteQueue {
        let (framing, limit) = (Framing::default(), u64::MAX);
        let mut queue = WriteQueue::default();
        let reader = || Some(Box::new(std::io::repeat(7)) as _);
        queue
            .push_copied(&framing, limit, b"frame")
            .and_then(|()| {
                let payload = Bytes::from(vec![7; SHARE_FROM]);
                queue.push_shared(&framing, limit, &payload)
            })
            .and_then(|()| queue.push_source(&framing, limit, 5, reader))
            .expect("all can be sent");
        queue.advance(1, drop);
        queue
    }

    /// Checks a queue of three frames after `change`.
    fn check_after(change: impl FnOnce(&mut WriteQueue)) {
        let mut queue = queue();
        change(&mut queue);
        queue.check_invariants();
    }

    #[test]
    fn queue_of_three_frames_passes_however_much_is_written() {
        check_after(|_| {});
        let all = queue().bytes() as usize;
        for written in 1..all {
            check_after(|queue| {
                queue.advance(written, drop);
            });
        }
    }

    #[test]
    #[should_panic(expected = "the offset lies in the first segment")]
    fn offset_behind_the_first_segment_is_caught() {
        check_after(|queue| queue.offset = 100);
    }

    #[test]
    #[should_panic(expected = "no segment is empty")]
    fn empty_segment_is_caught() {
        check_after(|queue| queue.sealed.push_back(Segment::Copied(Vec::new())));
    }

    #[test]
    #[should_panic(expected = "bytes are counted")]
    fn byte_that_is_not_counted_is_caught() {
        check_after(|queue| queue.tail.push(7));
    }

    #[test]
    #[should_panic(expected = "shared bytes are counted")]
    fn shared_byte_that_is_not_counted_is_caught() {
        check_after(|queue| queue.shared -= 1);
    }

    #[test]
    #[should_panic(expected = "readers are counted")]
    fn reader_that_is_not_counted_is_caught() {
        check_after(|queue| queue.sources -= 1);
    }

    #[test]
    #[should_panic(expected = "bytes belong to frames")]
    fn bytes_without_a_frame_are_caught() {
        check_after(|queue| queue.unsent.clear());
    }

    #[test]
    #[should_panic(expected = "an empty queue has no frames")]
    fn frame_without_bytes_is_caught() {
        let mut queue = WriteQueue::default();
        queue.unsent.push(5);
        queue.check_invariants();
    }

    #[test]
    #[should_panic(expected = "bytes are counted")]
    fn queue_behind_an_open_frame_is_checked_too() {
        check_after(|queue| {
            let begun = queue.begin_frame(&Framing::default(), 100, 5);
            begun.expect("it is short");
            queue.back().tail.push(7);
        });
    }
}

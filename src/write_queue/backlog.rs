//! Dropping queued frames, for a last frame that has to be written soon.

use bytes::Bytes;

use super::{Done, Segment, WriteQueue};

/// What was dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl WriteQueue {
    /// Returns whether a part of the open frame was written, so that it cannot be dropped any more.
    pub(crate) fn has_begun_open_frame(&self) -> bool {
        // It is the last of the frames in front.
        self.open.is_some() && self.unsent.frames() == 1 && self.unsent.begun_left() > 0
    }

    /// Drops all frames except a partly written one. Dropped large payloads are passed to `done`.
    pub(crate) fn drop_waiting(&mut self, mut done: impl FnMut(Done)) -> Dropped {
        let before = Dropped {
            frames: self.frames(),
            bytes: self.unsent_bytes(),
        };
        let kept = self.keep(self.unsent.begun_left());
        let behind = self.open.take().map(|open| open.behind);
        let behind = behind.into_iter().flat_map(|behind| behind.sealed);
        for segment in self.sealed.drain(kept..).chain(behind) {
            segment.give(&mut done);
        }
        self.unsent.keep_begun();
        self.count_anew();
        Dropped {
            frames: before.frames - self.frames(),
            bytes: before.bytes.saturating_sub(self.unsent_bytes()),
        }
    }

    /// Truncates the queue behind the next `keep` bytes, including those that a source has not read yet. Returns the
    /// number of remaining segments; the caller drops the others.
    fn keep(&mut self, mut keep: u64) -> usize {
        let mut offset = self.offset;
        let mut kept = 0;
        for segment in &mut self.sealed {
            let here = match segment {
                Segment::Source(source) => source.left() + source.bytes().len() as u64,
                _ => segment.bytes().len() as u64,
            };
            let here = here - offset as u64;
            if keep == 0 || keep < here {
                // A frame ends in copied bytes, or between two segments.
                if let Segment::Copied(bytes) = segment
                    && keep > 0
                {
                    bytes.truncate(offset + keep as usize);
                    kept += 1;
                }
                self.tail.clear();
                return self.leave(kept);
            }
            (keep, offset) = (keep - here, 0);
            kept += 1;
        }
        self.tail.truncate(offset + keep as usize);
        if keep == 0 {
            self.tail.clear();
        }
        self.leave(kept)
    }

    /// Keeps the first `kept` segments.
    fn leave(&mut self, kept: usize) -> usize {
        if kept == 0 && self.tail.is_empty() {
            self.offset = 0;
        }
        kept
    }

    /// Recounts what is left.
    fn count_anew(&mut self) {
        let segments = self.sealed.iter();
        let all: usize = segments.map(|segment| segment.bytes().len()).sum();
        self.bytes = (all + self.tail.len() - self.offset) as u64;
        let shared: usize = self.shared_payloads().map(Bytes::len).sum();
        let written = match self.sealed.front() {
            Some(Segment::Shared(_)) => self.offset,
            _ => 0,
        };
        self.shared = (shared - written) as u64;
        let is_source = |segment: &&Segment| matches!(segment, Segment::Source(_));
        self.sources = self.sealed.iter().filter(is_source).count() as u64;
        if let Some(latest) = &mut self.latest {
            latest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Framing;
    use crate::write_queue::Next;
    use std::io::{IoSlice, Read};

    const LIMIT: u64 = u32::MAX as u64;

    /// Takes the next bytes out of a queue, at most `most`.
    fn write(queue: &mut WriteQueue, most: usize) -> Vec<u8> {
        let bytes = match queue.next() {
            Next::Pull => {
                queue.pull().expect("the reader has len bytes");
                Vec::new()
            }
            Next::Write(bytes) => bytes[..bytes.len().min(most)].to_vec(),
            Next::WriteVectored => {
                let mut slices = [IoSlice::new(&[]); 8];
                let (count, _) = queue.slices(&mut slices, most);
                let slices = slices[..count].iter();
                slices.flat_map(|slice| slice.to_vec()).collect()
            }
            Next::Wait | Next::Nothing => Vec::new(),
        };
        if !bytes.is_empty() {
            queue.advance(bytes.len(), drop);
        }
        bytes
    }

    proptest! {
        /// Wherever a write has ended, the frame that was begun is completed, and the last one follows.
        #[test]
        fn frame_that_was_begun_is_finished_and_the_last_one_follows(
            frames in prop::collection::vec((0..3_u8, 0..9000_usize), 0..12),
            written in 0..40_000_usize,
            step in 1..7000_usize,
            at_an_end: bool,
        ) {
            let framing = Framing::default();
            let mut queue = WriteQueue::default();
            let (mut wire, mut ends) = (Vec::new(), Vec::new());
            for (number, (kind, len)) in frames.into_iter().enumerate() {
                let payload = vec![number as u8; len];
                wire.extend_from_slice(&(len as u32).to_le_bytes());
                wire.extend_from_slice(&payload);
                ends.push(wire.len());
                match kind {
                    0 => queue.push_copied(&framing, LIMIT, &payload),
                    1 => queue.push_shared(&framing, LIMIT, &payload.into()),
                    _ => {
                        let reader = std::io::Cursor::new(payload);
                        let boxed = || Some(Box::new(reader) as Box<dyn Read + Send>);
                        queue.push_source(&framing, LIMIT, len as u64, boxed)
                    }
                }
                .expect("it can be sent");
            }
            let before = ends.iter().copied().filter(|end| *end <= written);
            let written = if at_an_end { before.max().unwrap_or(0) } else { written };
            let mut out = Vec::new();
            while out.len() < written.min(wire.len()) {
                out.extend(write(&mut queue, step.min(written - out.len())));
            }
            let end = ends.iter().copied().find(|end| *end >= out.len()).unwrap_or(0);
            let unsent = ends.iter().filter(|end| **end > out.len()).count() as u64;
            let has_begun = !out.is_empty() && !ends.contains(&out.len());
            let dropped = queue.drop_waiting(drop);
            let kept = if has_begun { end } else { out.len() };
            prop_assert_eq!(dropped.frames, unsent - u64::from(has_begun));
            prop_assert_eq!(dropped.bytes, (wire.len() - kept) as u64);
            queue.push_copied(&framing, LIMIT, b"bye").expect("small");
            while !queue.is_empty() {
                out.extend(write(&mut queue, step));
            }
            wire.truncate(kept);
            wire.extend_from_slice(b"\x03\0\0\0bye");
            prop_assert!(out == wire);
            prop_assert_eq!((queue.bytes(), queue.frames(), queue.copied()), (0, 0, 0));
        }
    }
}

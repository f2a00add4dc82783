//! The outbound queue of one connection. Pure: it stores frames and offers bytes; its caller writes them.
//!
//! ```text
//!   sealed                                                 tail
//!   +--------+------------------+---+-----------+--------+ +----------------------
//!   | copied |  shared (Bytes)  | c |  shared   | source | | copied, still growing
//!   +--------+------------------+---+-----------+--------+ +----------------------
//!      ^ offset: all before it is written
//! ```
//!
//! Small payloads are copied one after the other into the tail, so that many frames make one write. Large ones are
//! queued by reference; the tail is sealed before them. A source is read once it is at the front. While a frame is
//! open, its chunks are appended here, and whole frames to a second queue behind it.
//!
//! Invariants: no sealed segment is empty, except for a source; `offset` is inside the first segment (the tail, if none
//! is sealed); the first segment has the serial number `first`, and the others follow; `unsent` counts the frames that
//! are not completely written, and `bytes` those of their bytes that are in the queue.

mod backlog;
#[cfg(any(debug_assertions, test))]
mod invariants;
mod latest;
mod lengths;
#[cfg(any(test, fuzzing))]
pub(crate) mod model;
mod open;
mod push;
mod segment;
mod source;

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::tick::Tick;
use latest::Latest;
use lengths::FrameLengths;
use open::OpenFrame;
use segment::Segment;

pub(crate) use backlog::Dropped;
pub(crate) use segment::Done;
pub(crate) use source::SourceError;

/// Owned payloads are queued by reference from this size on. Copying is faster up to 2-4 KiB, measured on an echo
/// server: `writev` of two slices costs more than the copy.
pub(crate) const SHARE_FROM: usize = 4 * 1024;

/// A tail of this size is sealed, so that a long queue never has to be moved to grow.
const SEAL_AT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    sealed: VecDeque<Segment>,
    tail: Vec<u8>,
    offset: usize,
    first: u64,
    bytes: u64,
    /// Bytes of shared payloads, included in `bytes`.
    shared: u64,
    unsent: FrameLengths,
    /// The number of segments that are sources.
    sources: u64,
    /// The open frame, if there is one.
    open: Option<Box<OpenFrame>>,
    /// The replaceable frames, if there ever were any.
    latest: Option<Box<Latest>>,
    /// When bytes were last written, or the first were queued. Kept here for the caller: only a connection with a queue
    /// can stall.
    pub(crate) progress_at: Tick,
}

/// The next step for the caller.
#[derive(Debug)]
pub(crate) enum Next<'q> {
    /// Write these bytes.
    Write(&'q [u8]),
    /// Write the [`slices`](WriteQueue::slices).
    WriteVectored,
    /// Call [`pull`](WriteQueue::pull).
    Pull,
    /// Wait until more of the frame in front exists.
    Wait,
    /// Nothing: the queue is empty.
    Nothing,
}

impl WriteQueue {
    /// Returns whether nothing is queued and no frame is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.sealed.is_empty() && self.open.is_none()
    }

    /// Returns the queued bytes, headers included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.behind().map_or(0, Self::bytes)
    }

    /// Returns the queued bytes in front, that is, without those behind an open frame.
    pub(crate) fn flowing(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes that queued sources will need when they are read.
    pub(crate) fn reserved(&self) -> u64 {
        self.sources * source::WINDOW as u64 + self.behind().map_or(0, Self::reserved)
    }

    /// Returns the queued bytes that are copies.
    pub(crate) fn copied(&self) -> u64 {
        self.bytes - self.shared + self.behind().map_or(0, Self::copied)
    }

    /// Returns the payloads queued by reference.
    pub(crate) fn shared_payloads(&self) -> impl Iterator<Item = &Bytes> {
        let behind = self.behind().into_iter().flat_map(|behind| &behind.sealed);
        self.sealed
            .iter()
            .chain(behind)
            .filter_map(|segment| match segment {
                Segment::Shared(payload) => Some(payload),
                _ => None,
            })
    }

    /// Returns the number of queued frames; a partly written one still counts.
    pub(crate) fn frames(&self) -> u64 {
        self.unsent.frames() + self.behind().map_or(0, Self::frames)
    }

    /// Returns the number of queued frames in front, that is, without those behind an open frame.
    pub(crate) fn frames_in_front(&self) -> u64 {
        self.unsent.frames()
    }

    /// Returns the bytes that were accepted and not written, including those that sources have not read yet.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        let promised = self.sealed.iter().map(|segment| match segment {
            Segment::Source(source) => source.left(),
            _ => 0,
        });
        let behind = self.behind().map_or(0, Self::unsent_bytes);
        promised.fold(self.bytes.saturating_add(behind), u64::saturating_add)
    }

    fn behind(&self) -> Option<&Self> {
        self.open.as_ref().map(|open| &open.behind)
    }

    /// Returns the serial number of the tail.
    fn tail_serial(&self) -> u64 {
        self.first + self.sealed.len() as u64
    }

    /// Returns the heap memory that an empty queue keeps.
    pub(crate) fn retained(&self) -> usize {
        let sealed = self.sealed.capacity() * size_of::<Segment>();
        let latest = self.latest.as_ref().map_or(0, |latest| latest.retained());
        self.tail.capacity() + sealed + self.unsent.retained() + latest
    }

    /// Returns the next step.
    #[inline]
    pub(crate) fn next(&self) -> Next<'_> {
        if !self.sealed.is_empty() {
            return self.next_sealed();
        }
        let slice = &self.tail[self.offset.min(self.tail.len())..];
        if !slice.is_empty() {
            Next::Write(slice)
        } else if self.open.is_some() {
            Next::Wait
        } else {
            // A closure that panicked while it encoded its frame leaves an empty queue.
            Next::Nothing
        }
    }

    fn next_sealed(&self) -> Next<'_> {
        match self.sealed.front() {
            Some(Segment::Source(source)) if source.bytes().is_empty() => {
                if source.is_parked() {
                    Next::Wait
                } else {
                    Next::Pull
                }
            }
            _ => Next::WriteVectored,
        }
    }

    /// Returns whether the next step is possible without further calls of the user.
    pub(crate) fn has_work(&self) -> bool {
        !matches!(self.next(), Next::Wait)
    }

    /// Reads from the source in front. Returns the number of bytes read.
    pub(crate) fn pull(&mut self) -> Result<usize, SourceError> {
        let Some(Segment::Source(source)) = self.sealed.front_mut() else {
            return Ok(0);
        };
        let pulled = source.pull()?;
        self.bytes += pulled as u64;
        if pulled == 0 && source.is_complete() {
            self.drop_front();
        }
        Ok(pulled)
    }

    /// Lets sources be read again that returned `WouldBlock`. Returns whether there was one.
    pub(crate) fn wake_sources(&mut self) -> bool {
        let mut woken = false;
        for segment in &mut self.sealed {
            if let Segment::Source(source) = segment {
                woken |= source.wake();
            }
        }
        woken
            | self
                .open
                .as_mut()
                .is_some_and(|open| open.behind.wake_sources())
    }

    /// Fills `out` with the next bytes to write, up to `most`, for one vectored write of up to `N` slices. Returns
    /// the numbers of slices and of bytes.
    pub(crate) fn slices<'a, const N: usize>(
        &'a self,
        out: &mut [IoSlice<'a>; N],
        most: usize,
    ) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        let mut offer = |piece: &'a [u8]| {
            let start = if count == 0 { self.offset } else { 0 };
            let len = (piece.len() - start).min(most - bytes);
            let Some(slot) = out.get_mut(count).filter(|_| len > 0) else {
                return;
            };
            *slot = IoSlice::new(&piece[start..start + len]);
            count += 1;
            bytes += len;
        };
        for segment in &self.sealed {
            offer(segment.bytes());
            if let Segment::Source(source) = segment
                && !source.is_complete()
            {
                // What follows the source has to wait for its end.
                return (count, bytes);
            }
        }
        offer(&self.tail);
        (count, bytes)
    }

    /// Removes the next `n` bytes, which were written. Returns how many of them were copies. Completely written shared
    /// payloads are passed to `done`.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize, done: impl FnMut(Done)) -> usize {
        if self.bytes == n as u64 && self.sealed.is_empty() && self.open.is_none() {
            // The usual case: everything was written.
            self.bytes = 0;
            self.clear_tail();
            self.unsent.clear();
            return n;
        }
        self.advance_within(n, done)
    }

    #[inline(never)]
    fn advance_within(&mut self, n: usize, done: impl FnMut(Done)) -> usize {
        let mut copied = n;
        if !self.sealed.is_empty() {
            copied -= self.advance_sealed(n, done);
        } else if self.offset + n == self.tail.len() {
            self.clear_tail();
        } else {
            self.offset += n;
        }
        self.bytes -= n as u64;
        if self.is_empty() {
            self.unsent.clear();
        } else {
            self.unsent.advance(n as u64);
        }
        copied
    }

    /// Removes written bytes from the sealed segments. Returns how many of them were queued by reference.
    fn advance_sealed(&mut self, mut n: usize, mut done: impl FnMut(Done)) -> usize {
        let before = self.shared;
        while let Some(front) = self.sealed.front() {
            let left = front.bytes().len() - self.offset;
            if let Segment::Shared(_) = front {
                self.shared -= left.min(n) as u64;
            }
            if n < left {
                self.offset = match mutated!("offset of a partly written segment reset") {
                    true => n,
                    false => self.offset + n,
                };
                return (before - self.shared) as usize;
            }
            n -= left;
            self.offset = 0;
            match self.sealed.front_mut() {
                Some(Segment::Source(source)) if !source.is_complete() => {
                    source.drained();
                    return (before - self.shared) as usize;
                }
                _ => {}
            }
            match self.drop_front() {
                // Its memory is reused for the next small frames.
                Some(Segment::Copied(mut bytes)) if self.tail.capacity() == 0 => {
                    bytes.clear();
                    self.tail = bytes;
                }
                Some(segment) => segment.give(&mut done),
                None => {}
            }
        }
        self.offset = n;
        if self.offset == self.tail.len() {
            self.clear_tail();
        }
        (before - self.shared) as usize
    }

    fn drop_front(&mut self) -> Option<Segment> {
        self.first += 1;
        let front = self.sealed.pop_front();
        self.sources -= u64::from(matches!(front, Some(Segment::Source(_))));
        front
    }

    /// Clears the tail, which was written completely.
    #[inline]
    fn clear_tail(&mut self) {
        self.tail.clear();
        self.offset = 0;
        if let Some(latest) = &mut self.latest {
            latest.clear();
        }
    }

    /// Removes all frames. Returns the number of bytes that were copies. Large payloads are passed to `done`.
    pub(crate) fn clear(&mut self, mut done: impl FnMut(Done)) -> usize {
        let copied = self.copied() as usize;
        let behind = self.open.take().map(|open| open.behind);
        let behind = behind.into_iter().flat_map(|behind| behind.sealed);
        for segment in self.sealed.drain(..).chain(behind) {
            segment.give(&mut done);
        }
        self.clear_tail();
        self.shared = 0;
        self.sources = 0;
        self.unsent.clear();
        self.bytes = 0;
        copied
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.sealed.push_back(Segment::Copied(tail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Framing;
    use proptest::prelude::*;

    /// A queue, and the bytes and frame ends it should contain.
    #[derive(Default)]
    struct Model {
        queue: WriteQueue,
        wire: Vec<u8>,
        ends: Vec<usize>,
        written: usize,
    }

    impl Model {
        fn push(&mut self, payload: &[u8], shared: bool) {
            let framing = Framing::default();
            let limit = u64::from(u32::MAX);
            if shared {
                let payload = Bytes::copy_from_slice(payload);
                self.queue.push_shared(&framing, limit, &payload)
            } else {
                self.queue.push_copied(&framing, limit, payload)
            }
            .expect("it can be sent");
            self.wire
                .extend_from_slice(&(payload.len() as u32).to_le_bytes());
            self.wire.extend_from_slice(payload);
            self.ends.push(self.wire.len());
        }

        fn offered(&self) -> Vec<u8> {
            match self.queue.next() {
                Next::Write(slice) => slice.to_vec(),
                _ => {
                    let mut slices = [IoSlice::new(&[]); 8];
                    let (count, _) = self.queue.slices(&mut slices, usize::MAX);
                    slices[..count]
                        .iter()
                        .flat_map(|slice| slice.to_vec())
                        .collect()
                }
            }
        }

        fn write(&mut self, most: usize) {
            let n = most.min(self.offered().len());
            let _ = self.queue.advance(n, drop);
            self.written += n;
        }

        fn check(&self) {
            let offered = self.offered();
            let rest = &self.wire[self.written..];
            assert!(rest.starts_with(&offered), "the wrong bytes are offered");
            assert_eq!(offered.is_empty(), rest.is_empty());
            assert_eq!(self.queue.is_empty(), rest.is_empty());
            assert_eq!(self.queue.bytes(), rest.len() as u64);
            let unsent = self.ends.iter().filter(|end| **end > self.written);
            assert_eq!(self.queue.frames(), unsent.count() as u64);
        }
    }

    #[test]
    fn every_way_to_write_a_short_queue_writes_the_same() {
        // 15 bytes: the mask says after which of them a write ends.
        for mask in 0..1_u32 << 14 {
            let mut model = Model::default();
            model.push(b"abc", false);
            model.push(b"", false);
            model.push(b"", true);
            let mut last = 0;
            for at in 1..=15 {
                if at == 15 || mask & 1 << (at - 1) != 0 {
                    model.write(at - last);
                    model.check();
                    last = at;
                }
            }
            assert!(model.queue.is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_mix_of_pushes_and_writes_keeps_the_order(
            steps in prop::collection::vec((0..20_000_usize, any::<bool>(), 0..30_000_usize), 1..60)
        ) {
            let mut model = Model::default();
            for (number, (len, shared, write)) in steps.into_iter().enumerate() {
                model.push(&vec![number as u8; len], shared);
                model.check();
                model.write(write);
                model.check();
            }
            while !model.queue.is_empty() {
                model.write(10_000);
                model.check();
            }
            prop_assert_eq!((model.queue.frames(), model.queue.offset), (0, 0));
        }
    }

    #[test]
    fn a_frame_that_fails_while_it_is_written_leaves_nothing() {
        use std::io::Write;
        let framing = Framing::varint();
        let mut queue = WriteQueue::default();
        queue.push_copied(&framing, 1000, b"first").expect("small");
        let before = queue.tail.clone();
        let mut writer = queue.writer(&framing).expect("begun");
        writer.write_all(&[7; 1001]).expect("the buffer grows");
        assert!(writer.finish(&framing, 1000).is_err(), "one byte too long");
        assert_eq!(queue.tail, before);

        let mut writer = queue.writer(&framing).expect("begun");
        writer.write_all(&[7; 300]).expect("the buffer grows");
        let len = writer
            .finish(&framing, 1000)
            .expect("a header of two bytes");
        queue.count(len);
        assert_eq!(len, 302);
        assert_eq!(queue.tail[before.len()..][..3], [0xAC, 0x02, 7]);
    }

    #[test]
    fn a_large_payload_is_not_copied_and_comes_back() {
        let framing = Framing::default();
        let payload = Bytes::from(vec![1; SHARE_FROM]);
        let mut queue = WriteQueue::default();
        queue
            .push_shared(&framing, u64::MAX, &payload)
            .expect("fits");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(queue.slices(&mut slices, usize::MAX), (2, 4 + SHARE_FROM));
        assert!(std::ptr::eq(slices[1].as_ptr(), payload.as_ptr()));
        let mut back = Vec::new();
        queue.advance(4 + SHARE_FROM, |payload| back.push(payload));
        assert!(matches!(&back[..], [Done::Shared(shared)] if *shared == payload));
        assert!(queue.is_empty());
    }
}

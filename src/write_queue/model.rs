//! All kinds of frames, mixed at random, compared with a list of the expected output.

use std::io::{self, IoSlice, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::{Next, WriteQueue};
use crate::error::SendError;
use crate::frame::Framing;

const LIMIT: u64 = u32::MAX as u64;

/// An expected frame.
#[derive(Debug)]
struct Expected {
    wire: Vec<u8>,
    /// The number of its bytes that may be written: less than its length only while it is open.
    given: usize,
    slot: Option<u32>,
}

/// A reader that returns one piece at a time, and `WouldBlock` before each piece until it is woken.
struct Halting {
    payload: io::Cursor<Vec<u8>>,
    at_a_time: usize,
    /// How many reads may return data.
    allowed: Arc<AtomicUsize>,
}

impl Read for Halting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.payload.position() == self.payload.get_ref().len() as u64 {
            return Ok(0);
        }
        let taken = |left: usize| left.checked_sub(1);
        if self
            .allowed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_err()
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = self.at_a_time.min(buffer.len());
        self.payload.read(&mut buffer[..most])
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send {
        len: usize,
        shared: bool,
    },
    Reader {
        len: usize,
        at_a_time: usize,
    },
    Begin {
        len: usize,
    },
    Chunk {
        len: usize,
    },
    Finish,
    Latest {
        slot: u32,
        len: usize,
    },
    Wake,
    Write(usize),
    /// To the end of the frame that is being written.
    WriteFrame,
}

struct Model {
    framing: Framing,
    queue: WriteQueue,
    expected: Vec<Expected>,
    /// The open frame, and the number of missing payload bytes.
    open: Option<(usize, usize)>,
    /// Bytes of `expected` that were written.
    written: usize,
    allowed: Arc<AtomicUsize>,
    number: u8,
}

impl Model {
    fn new(framing: Framing) -> Self {
        Self {
            framing,
            queue: WriteQueue::default(),
            expected: Vec::new(),
            open: None,
            written: 0,
            allowed: Arc::default(),
            number: 0,
        }
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.number = self.number.wrapping_add(1);
        // Never the delimiter.
        vec![self.number | 0x80; len]
    }

    fn expect(&mut self, payload: &[u8], slot: Option<u32>) {
        let mut wire = Vec::new();
        crate::frame::append(&self.framing, LIMIT, payload, &mut wire).expect("it can be sent");
        let given = wire.len();
        self.expected.push(Expected { wire, given, slot });
    }

    fn take(&mut self, step: Step) {
        let (framing, queue) = (self.framing.clone(), &mut self.queue);
        match step {
            Step::Send { len, shared } => {
                let payload = self.payload(len);
                let queue = self.queue.back();
                if shared {
                    queue.push_shared(&framing, LIMIT, &Bytes::from(payload.clone()))
                } else {
                    queue.push_copied(&framing, LIMIT, &payload)
                }
                .expect("it can be sent");
                self.expect(&payload, None);
            }
            Step::Reader { len, at_a_time } => {
                let payload = self.payload(len);
                let reader = Halting {
                    payload: io::Cursor::new(payload.clone()),
                    at_a_time,
                    allowed: Arc::clone(&self.allowed),
                };
                let queue = self.queue.back();
                queue
                    .push_source(&framing, LIMIT, len as u64, || Some(Box::new(reader)))
                    .expect("it can be sent");
                self.expect(&payload, None);
            }
            Step::Begin { len } => {
                let result = queue.begin_frame(&framing, LIMIT, len as u64);
                if self.open.is_some() {
                    assert!(matches!(result, Err(SendError::FrameOpen { .. })));
                    return;
                }
                result.expect("none is open");
                let payload = self.payload(len);
                self.expect(&payload, None);
                self.open = Some((self.expected.len() - 1, len));
                if let Some(frame) = self.expected.last_mut() {
                    let around = frame.wire.len() - len;
                    // A delimiter follows the payload, a length precedes it.
                    frame.given = if framing.is_same(&Framing::delimiter(b'\n')) {
                        0
                    } else {
                        around
                    };
                }
            }
            Step::Chunk { len } => {
                let Some((index, missing)) = self.open else {
                    assert!(matches!(
                        queue.push_chunk(&[1]),
                        Err(SendError::NoFrameOpen)
                    ));
                    return;
                };
                let frame = &mut self.expected[index];
                let len = len.min(missing);
                let piece = &frame.wire[frame.given..frame.given + len];
                queue.push_chunk(piece).expect("it belongs to the frame");
                frame.given += len;
                self.open = Some((index, missing - len));
                let result = queue.push_chunk(&vec![0x80; missing - len + 1]);
                assert!(matches!(result, Err(SendError::ChunkTooLong { .. })));
            }
            Step::Finish => match (self.open, queue.finish_frame()) {
                (None, result) => assert!(matches!(result, Err(SendError::NoFrameOpen))),
                (Some((index, 0)), result) => {
                    result.expect("nothing is missing");
                    self.open = None;
                    self.expected[index].given = self.expected[index].wire.len();
                }
                (Some((_, missing)), result) => assert!(
                    matches!(result, Err(SendError::FrameOpen { missing: left }) if left == missing as u64)
                ),
            },
            Step::Latest { slot, len } => self.replace(slot, len),
            Step::Wake => {
                self.allowed.fetch_add(1, Ordering::Relaxed);
                self.queue.wake_sources();
            }
            Step::Write(most) => {
                self.write(most);
            }
            Step::WriteFrame => {
                let ends = self.expected.iter().scan(0, |end, frame| {
                    *end += frame.wire.len();
                    Some(*end)
                });
                let written = self.written;
                if let Some(end) = ends.into_iter().find(|end| *end > written) {
                    self.write(end - written);
                }
            }
        }
    }

    fn replace(&mut self, slot: u32, len: usize) {
        let payload = self.payload(len);
        let mut start = 0;
        let mut waiting = None;
        for (index, frame) in self.expected.iter().enumerate() {
            if frame.slot == Some(slot) && start >= self.written {
                waiting = Some(index);
            }
            start += frame.wire.len();
        }
        let freed = waiting.map_or(0, |index| self.expected[index].wire.len());
        assert_eq!(self.queue.replaceable(slot), freed as u64);
        let replaced = self.queue.push_latest(&self.framing, LIMIT, slot, &payload);
        assert_eq!(replaced, Ok(freed > 0));
        if let Some(index) = waiting {
            self.expected.remove(index);
            if let Some((open, _)) = &mut self.open
                && *open > index
            {
                *open -= 1;
            }
        }
        self.expect(&payload, Some(slot));
    }

    /// Writes once, or checks that nothing can be written.
    fn write(&mut self, most: usize) -> bool {
        loop {
            let offered = match self.queue.next() {
                Next::Write(slice) => slice.to_vec(),
                Next::WriteVectored => {
                    let mut slices = [IoSlice::new(&[]); 4];
                    let (count, bytes) = self.queue.slices(&mut slices, most.max(1));
                    assert!(bytes <= most.max(1), "more than was asked for");
                    slices[..count]
                        .iter()
                        .flat_map(|slice| slice.to_vec())
                        .collect()
                }
                Next::Pull => {
                    self.queue.pull().expect("the reader has len bytes");
                    continue;
                }
                Next::Wait | Next::Nothing => return false,
            };
            assert!(!offered.is_empty(), "there is nothing to write");
            let n = offered.len().min(most);
            assert!(self.expects(&offered), "the wrong bytes are offered");
            if n > 0 {
                let _ = self.queue.advance(n, drop);
                self.written += n;
            }
            return true;
        }
    }

    /// Whether the unwritten bytes begin with these.
    fn expects(&self, mut offered: &[u8]) -> bool {
        let mut start = 0;
        for frame in &self.expected {
            let written = self.written.saturating_sub(start).min(frame.wire.len());
            let unwritten = &frame.wire[written..];
            let (front, rest) = offered.split_at(offered.len().min(unwritten.len()));
            if !unwritten.starts_with(front) {
                return false;
            }
            offered = rest;
            start += frame.wire.len();
        }
        offered.is_empty()
    }

    fn check(&self) {
        let (mut end, mut unsent, mut frames, mut halted) = (0, 0, 0, false);
        for frame in &self.expected {
            let start = end;
            end += frame.wire.len();
            unsent += (start + frame.given).saturating_sub(self.written.max(start));
            frames += u64::from(end > self.written);
            if start + frame.given > self.written && !halted {
                halted = frame.given < frame.wire.len();
            }
        }
        assert!(self.written <= end);
        assert_eq!(self.queue.unsent_bytes(), unsent as u64);
        assert_eq!(self.queue.frames(), frames);
        // A reader may still have to return EOF.
        let nothing = unsent == 0 && self.open.is_none() && frames == 0;
        assert!(nothing || !self.queue.is_empty());
    }

    /// Completes what is missing, and writes everything.
    fn finish(&mut self) {
        if let Some((_, missing)) = self.open {
            self.take(Step::Chunk { len: missing });
            self.take(Step::Finish);
        }
        self.allowed.store(usize::MAX / 2, Ordering::Relaxed);
        self.queue.wake_sources();
        while self.write(7000) {
            self.check();
        }
        let wire: usize = self.expected.iter().map(|frame| frame.wire.len()).sum();
        assert_eq!(self.written, wire, "not all was written");
        assert!(self.queue.is_empty());
        assert_eq!(
            (self.queue.bytes(), self.queue.copied(), self.queue.frames()),
            (0, 0, 0)
        );
    }
}

pub(crate) fn run(framing: Framing, steps: impl IntoIterator<Item = Step>) {
    let mut model = Model::new(framing);
    for step in steps {
        model.take(step);
        model.check();
    }
    model.finish();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![3 => 0..40_usize, 1 => 0..9000_usize];
        prop_oneof![
            2 => (len.clone(), any::<bool>()).prop_map(|(len, shared)| Step::Send { len, shared }),
            2 => (len.clone(), 1..5000_usize)
                .prop_map(|(len, at_a_time)| Step::Reader { len, at_a_time }),
            2 => len.clone().prop_map(|len| Step::Begin { len }),
            4 => len.clone().prop_map(|len| Step::Chunk { len }),
            4 => Just(Step::Finish),
            6 => (0..3_u32, len).prop_map(|(slot, len)| Step::Latest { slot, len }),
            3 => Just(Step::Wake),
            4 => prop_oneof![0..30_usize, 0..20_000_usize].prop_map(Step::Write),
            3 => Just(Step::WriteFrame),
        ]
    }

    #[test]
    fn what_was_written_is_not_taken_for_what_waits_when_its_segment_is_gone() {
        let latest = |slot| Step::Latest { slot, len: 3 };
        let (len, at_a_time) = (0, 1);
        for reader in [None, Some(Step::Reader { len, at_a_time })] {
            let steps = [latest(0), latest(1)].into_iter().chain(reader);
            let steps = steps.chain([Step::WriteFrame, latest(1), latest(0)]);
            run(Framing::delimiter(b'\n'), steps);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_mixture_of_frames_is_written_whole_and_in_order(
            steps in prop::collection::vec(step(), 1..60),
            with_lengths in any::<bool>(),
        ) {
            let framing = if with_lengths {
                Framing::default()
            } else {
                Framing::delimiter(b'\n')
            };
            run(framing, steps);
        }
    }
}

//! Large replies, which are not copied: a frame that is sent back as it was received is written from the read buffer, and
//! a frame that has a buffer of its own from there. Pure.

use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

use crate::frame::LengthPrefix;

/// The most pieces of replies that are not copied; more are.
const PIECES: usize = 8;
/// The most slices of a write: before a piece there may be copied replies, and a piece may have a header.
const SLICES: usize = 3 * PIECES + 1;

/// A frame in a buffer of its own is collected up to this size. Larger ones are queued.
const LONGEST: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Uncopied {
    /// The read buffer, if replies may be written from there.
    input: Option<Arc<Vec<u8>>>,
    /// The payload that is being delivered from there.
    offered: Place,
    /// Frames in the read buffer, one after the other, with their headers: the last piece, while it may be continued.
    run: Place,
    /// The number of copied bytes that precede the run.
    behind: usize,
    /// The other pieces.
    pieces: Vec<Piece>,
    /// The bytes of all pieces.
    len: usize,
    /// The most that they may be.
    most: usize,
}

/// A place in memory.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Place {
    addr: usize,
    len: usize,
}

impl Place {
    #[inline(always)]
    fn of(bytes: &[u8]) -> Self {
        Self {
            addr: bytes.as_ptr().addr(),
            len: bytes.len(),
        }
    }

    /// Returns the bytes, which are a part of `whole`.
    fn within(self, whole: &[u8]) -> &[u8] {
        let start = self.addr.wrapping_sub(whole.as_ptr().addr());
        let bytes = whole.get(start..).and_then(|bytes| bytes.get(..self.len));
        bytes.unwrap_or_default()
    }
}

#[derive(Debug)]
struct Piece {
    /// The number of copied bytes that precede it.
    behind: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A run of frames in the read buffer.
    Run(Place),
    /// A payload that is the first bytes of a buffer, and its header.
    Own {
        header: ([u8; 8], usize),
        buffer: Vec<u8>,
        len: usize,
    },
}

/// A part of the replies, in the order in which they were sent.
pub(super) enum Part<'r> {
    /// Whole frames.
    Wire(&'r [u8]),
    /// A payload in a buffer of its own.
    Own(&'r mut Vec<u8>, usize),
}

impl Uncopied {
    /// Returns the bytes of these replies.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Sets the most bytes to collect.
    pub(super) fn limit(&mut self, most: usize) {
        self.most = most;
    }

    /// Allows replies to be written from the read buffer.
    pub(super) fn share(&mut self, input: Arc<Vec<u8>>) {
        self.offered = Place::default();
        self.input = Some(input);
    }

    /// Notes that a frame is being delivered from the shared read buffer, where its header precedes the payload.
    #[inline(always)]
    pub(super) fn offer(&mut self, payload: &[u8]) {
        self.offered = Place::of(payload);
    }

    /// Collects the frame that is being delivered, if it is the one with this payload and continues the last run. `behind` is
    /// the number of copied bytes that precede it. Returns its length.
    #[inline(always)]
    pub(super) fn continue_run(
        &mut self,
        prefix: LengthPrefix,
        payload: &[u8],
        behind: usize,
    ) -> Option<usize> {
        let place = Place::of(payload);
        let len = prefix.frame_len(place.len);
        let whole = self.len + len;
        if self.offered != place
            || self.run.addr + self.run.len != place.addr - prefix.width()
            || self.behind != behind
            || whole > self.most
        {
            return None;
        }
        self.run.len += len;
        self.len = whole;
        Some(len)
    }

    /// Collects the frame that is being delivered, if it is the one with this payload, as the first of a run.
    pub(super) fn begin_run(
        &mut self,
        prefix: LengthPrefix,
        payload: &[u8],
        behind: usize,
    ) -> Option<usize> {
        let place = Place::of(payload);
        // Without the read buffer nothing is written from it, whatever was offered.
        if self.input.is_none() || self.offered != place {
            return None;
        }
        self.begin_piece()?;
        self.run = Place {
            addr: place.addr - prefix.width(),
            len: 0,
        };
        self.behind = behind;
        self.continue_run(prefix, payload, behind)
    }

    /// Collects a frame whose payload is the first `len` bytes of `buffer`, and takes the buffer.
    pub(super) fn push_own(
        &mut self,
        prefix: LengthPrefix,
        buffer: &mut Vec<u8>,
        len: usize,
        behind: usize,
    ) -> Option<usize> {
        let whole = prefix.frame_len(len);
        if whole > LONGEST || self.len + whole > self.most {
            return None;
        }
        self.begin_piece()?;
        let content = Content::Own {
            header: prefix.header(len as u64),
            buffer: mem::take(buffer),
            len,
        };
        self.pieces.push(Piece { behind, content });
        self.len += whole;
        Some(whole)
    }

    /// Returns `None` if there is no room for another piece.
    fn begin_piece(&mut self) -> Option<()> {
        self.end_run();
        (self.pieces.len() < PIECES).then_some(())
    }

    fn end_run(&mut self) {
        let run = mem::take(&mut self.run);
        if run.len > 0 {
            self.pieces.push(Piece {
                behind: self.behind,
                content: Content::Run(run),
            });
        }
    }

    /// Calls `write` with all replies: these and the copied ones.
    pub(super) fn gather<R>(
        &mut self,
        copied: &[u8],
        write: impl FnOnce(&[IoSlice<'_>]) -> R,
    ) -> R {
        self.end_run();
        let input = self.input.as_deref().map_or(&[][..], |input| input);
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut add = |bytes| {
            if let Some(slot) = slices.get_mut(count) {
                *slot = IoSlice::new(bytes);
                count += usize::from(!bytes.is_empty());
            }
        };
        let mut at = 0;
        for piece in &self.pieces {
            add(&copied[at..piece.behind]);
            at = piece.behind;
            match &piece.content {
                Content::Run(run) => add(run.within(input)),
                Content::Own {
                    header: (header, width),
                    buffer,
                    len,
                } => {
                    add(&header[..*width]);
                    add(&buffer[..*len]);
                }
            }
        }
        add(&copied[at..]);
        write(&slices[..count])
    }

    /// Takes the replies apart: these and the copied ones, in order. No longer refers to the read buffer.
    pub(super) fn take_apart(&mut self, copied: &[u8], mut part: impl FnMut(Part<'_>)) {
        self.end_run();
        let input = self.input.take();
        let input = input.as_deref().map_or(&[][..], |input| input);
        let mut at = 0;
        for piece in self.pieces.drain(..) {
            part(Part::Wire(&copied[at..piece.behind]));
            at = piece.behind;
            match piece.content {
                Content::Run(run) => part(Part::Wire(run.within(input))),
                Content::Own {
                    mut buffer, len, ..
                } => part(Part::Own(&mut buffer, len)),
            }
        }
        part(Part::Wire(&copied[at..]));
        self.clear(drop);
    }

    /// Removes the replies, which were written, and passes their buffers to `done`. No longer refers to the read buffer.
    pub(super) fn clear(&mut self, mut done: impl FnMut(Vec<u8>)) {
        for piece in self.pieces.drain(..) {
            if let Content::Own { buffer, .. } = piece.content {
                done(buffer);
            }
        }
        self.offered = Place::default();
        self.run = Place::default();
        self.input = None;
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::replies::{COPIED_UP_TO, Replies};
    use super::*;
    use crate::connection_id::ConnectionId;
    use crate::frame::Framing;

    const MOST: usize = 600_000;

    /// A reply of a handler.
    #[derive(Debug, Clone)]
    enum Reply {
        /// The frame that was received, or a part of it.
        Back(bool),
        /// Other bytes.
        Other(usize),
        /// A frame with a buffer of its own.
        Own(usize),
        None,
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            5 => Just(Reply::Back(true)),
            1 => Just(Reply::Back(false)),
            1 => (0..3000_usize).prop_map(Reply::Other),
            1 => (0..9000_usize).prop_map(Reply::Own),
            1 => Just(Reply::None),
        ]
    }

    fn frames() -> impl Strategy<Value = Vec<(usize, Vec<Reply>)>> {
        let len = prop_oneof![0..20_usize, 1000..1050_usize, 2000..9000_usize];
        prop::collection::vec((len, prop::collection::vec(reply(), 0..3)), 0..20)
    }

    proptest! {
        #[test]
        fn replies_come_in_order_however_they_are_collected(
            frames in frames(),
            is_wide in any::<bool>(),
            queued in any::<bool>(),
        ) {
            let prefix = match is_wide {
                true => Framing::length_prefix().u64().big_endian().inclusive(),
                false => Framing::length_prefix(),
            };
            let encode = |payload: &[u8], out: &mut Vec<u8>| {
                let (header, width) = prefix.header(payload.len() as u64);
                out.extend_from_slice(&header[..width]);
                out.extend_from_slice(payload);
            };
            let mut input = Vec::new();
            for (at, (len, _)) in frames.iter().enumerate() {
                encode(&vec![at as u8; *len], &mut input);
            }
            let input = Arc::new(input);
            let id = ConnectionId::new(0, 0);
            let mut replies = Replies::new();
            replies.begin(id, prefix, 8000, MOST);
            replies.share(Arc::clone(&input));
            let (mut expected, mut count, mut place) = (Vec::new(), 0, 0);
            for (at, (len, wanted)) in frames.iter().enumerate() {
                let payload = &input[place + prefix.width()..][..*len];
                replies.offer(payload);
                place += prefix.width() + len;
                for reply in wanted {
                    let own = vec![at as u8; 9000];
                    let (sent, payload) = match *reply {
                        Reply::Back(true) => (send(&mut replies, id, payload), payload),
                        Reply::Back(false) => {
                            let part = &payload[..len.saturating_sub(1)];
                            (send(&mut replies, id, part), part)
                        }
                        Reply::Other(len) => (send(&mut replies, id, &own[..len]), &own[..len]),
                        Reply::Own(len) => {
                            let mut buffer = own.clone();
                            let sent = replies.push_own(&mut buffer, len);
                            prop_assert_eq!(sent.is_some(), buffer.is_empty());
                            (sent, &own[..len])
                        }
                        Reply::None => continue,
                    };
                    if let Some(sent) = sent {
                        let before = expected.len();
                        encode(payload, &mut expected);
                        prop_assert_eq!(sent, expected.len() - before);
                        count += 1;
                    } else {
                        let has_own = matches!(reply, Reply::Own(_));
                        prop_assert!(payload.len() > 8000 || has_own || expected.len() > 200_000);
                    }
                }
            }
            prop_assert_eq!(replies.len(), expected.len());
            let gathered = replies.gather(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>());
            prop_assert!(gathered == expected, "they are written in order");
            let removed = if queued {
                let mut wire = Vec::new();
                replies.take_apart(|part| match part {
                    Part::Wire(frames) => wire.extend_from_slice(frames),
                    Part::Own(buffer, len) => encode(&buffer[..len], &mut wire),
                });
                prop_assert!(wire == expected, "they are queued in order");
                count
            } else {
                replies.clear_all(drop)
            };
            prop_assert_eq!(removed, count);
            prop_assert!(replies.len() == 0 && replies.are_copied());
            prop_assert_eq!(Arc::strong_count(&input), 1, "the read buffer is free again");
        }
    }

    /// Sends as `Net` does.
    fn send(replies: &mut Replies, id: ConnectionId, payload: &[u8]) -> Option<usize> {
        if let Some(place) = replies.push(id, payload.len()) {
            place.copy_from_slice(payload);
            return Some(LengthPrefix::DEFAULT_WIDTH + payload.len());
        }
        let sent = replies.send_back(payload);
        let sent = sent.or_else(|| replies.push_small(payload));
        sent.or_else(|| replies.push_otherwise(payload))
    }

    #[test]
    fn frames_that_follow_each_other_are_one_slice_of_the_read_buffer() {
        let prefix = Framing::length_prefix();
        let payload = [7; COPIED_UP_TO + 1];
        let mut frame = vec![0; 4 + payload.len()];
        prefix.write(&payload, &mut frame);
        let input = Arc::new(frame.repeat(5));
        let id = ConnectionId::new(0, 0);
        let mut replies = Replies::new();
        replies.begin(id, prefix, usize::MAX, MOST);
        assert!(replies.push_own(&mut vec![8; 5000], 5000).is_some());
        replies.share(Arc::clone(&input));
        for received in input.chunks(frame.len()) {
            replies.offer(&received[4..]);
            assert_eq!(send(&mut replies, id, &received[4..]), Some(frame.len()));
        }
        replies.gather(|slices| {
            let [_header, own, returned] = slices else {
                panic!("{} slices", slices.len());
            };
            assert_eq!(own.len(), 5000);
            assert_eq!(returned.as_ptr(), input.as_ptr(), "nothing was copied");
            assert_eq!(returned.len(), input.len());
        });
    }
    #[test]
    fn frame_is_written_from_the_read_buffer_only_if_it_was_offered_since_that_was_shared() {
        // Not the default, which is copied before anything else is tried.
        let prefix = Framing::length_prefix().big_endian();
        let payload = [7; COPIED_UP_TO + 1];
        let mut input = vec![0; 4 + payload.len()];
        prefix.write(&payload, &mut input);
        let input = Arc::new(input);
        let id = ConnectionId::new(0, 0);
        let mut replies = Replies::new();
        for is_shared in [true, false] {
            // Shared only after it was offered, or not at all.
            replies.begin(id, prefix, usize::MAX, MOST);
            replies.offer(&input[4..]);
            if is_shared {
                replies.share(Arc::clone(&input));
            }
            assert_eq!(send(&mut replies, id, &input[4..]), Some(input.len()));
            assert_eq!(replies.wire(), &input[..], "it was copied");
            replies.clear_all(drop);
        }
    }
}

//! What holds after each step, and at the end.

use super::{Pair, Side};
use crate::connection::{HeldBack, Phase};
use crate::reason::DisconnectReason;

impl Pair {
    /// Each byte and frame that was sent is written, queued, or counted as unsent, and the memory in use is what is held.
    pub(super) fn check(&self) {
        let mut used = 0;
        for i in [0, 1] {
            let Side {
                connection, sent, ..
            } = &self.sides[i];
            connection.check_invariants();
            let written = self.pipes[i].bytes.len();
            let queue = connection.queue.as_ref();
            let queued = queue.map_or((0, 0), |queue| (queue.bytes(), queue.frames()));
            let dropped = self.reason(i);
            let dropped = dropped.map_or((0, 0), |it| (it.unsent_bytes, it.unsent_frames));
            let unsent = (wire_len(sent) - written, sent.len() - whole(sent, written));
            let unsent = (unsent.0 as u64, unsent.1 as u64);
            assert_eq!((queued.0 + dropped.0, queued.1 + dropped.1), unsent);
            let shared = connection.shared_payloads().map(|it| it.len() as u64);
            used += connection.held_alone() + shared.sum::<u64>();
        }
        assert_eq!(self.common.memory.used(), used);
    }

    /// All that was received is delivered, and neither side waits for an event that does not come.
    pub(super) fn check_settled(&self) {
        for i in [0, 1] {
            let Side {
                connection,
                got,
                heard,
                has_left,
                ..
            } = &self.sides[i];
            let sent = &self.sides[1 - i].sent;
            let shown = whole(sent, *heard);
            match has_left {
                true => assert!(got.len() <= shown && *got == sent[..got.len()]),
                false => assert_eq!(*got, sent[..shown]),
            }
            let incoming = &self.pipes[1 - i];
            if connection.phase != Phase::Closed {
                assert_ne!(connection.phase, Phase::Closing);
                assert!(!connection.has_queued(), "it is not written to");
                assert_eq!(connection.held_back, HeldBack::NOT, "it is not read");
                assert_eq!(incoming.read, incoming.readable_to());
                assert_eq!(connection.end_is_known(), incoming.end_arrived);
            }
        }
    }

    pub(super) fn reason(&self, i: usize) -> Option<&DisconnectReason> {
        self.sides[i].connection.aside.as_ref()?.ending.as_ref()
    }
}

/// How long frames are on the wire.
pub(super) fn wire_len(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(|frame| 2 + frame.len()).sum()
}

/// How many frames end within so many bytes.
pub(super) fn whole(frames: &[Vec<u8>], bytes: usize) -> usize {
    let ends = frames.iter().scan(0, |end, frame| {
        *end += 2 + frame.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= bytes).count()
}

//! What one read brought, as replies that one call can write.

use std::ops::Range;

/// Bytes of the length in front of each frame.
pub(super) const HEADER: usize = 4;
/// Of the buffer that all connections read into.
pub(super) const BUFFER: usize = 256 * 1024;
/// Larger frames, header included, are not copied; if they come in pieces they get a buffer of their own.
pub(super) const SMALL: usize = 4 * 1024;

/// The buffer that all connections read into, and the replies to the frames in it.
pub(super) struct Batch {
    pub(super) read: Vec<u8>,
    /// A large frame that is whole now, header included. It comes before the pieces.
    pub(super) first: Option<Vec<u8>>,
    /// The replies to small frames, one behind the other.
    copied: Vec<u8>,
    pieces: Vec<Piece>,
}

enum Piece {
    Copied(Range<usize>),
    Read(Range<usize>),
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            read: vec![0; BUFFER],
            first: None,
            copied: Vec::with_capacity(BUFFER),
            pieces: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.first.is_none()
    }

    /// Replies to the frames that are whole within the first `end` bytes of what was read. Returns where the rest begins.
    pub(super) fn fill(&mut self, end: usize) -> usize {
        let Self {
            read,
            copied,
            pieces,
            ..
        } = self;
        pieces.clear();
        copied.clear();
        let (mut at, mut copied_to) = (0, 0);
        while let Some((header, body)) = read[at..end].split_first_chunk::<HEADER>() {
            let len = u32::from_le_bytes(*header) as usize;
            let Some(payload) = body.get(..len) else {
                break;
            };
            let next = at + HEADER + len;
            if len <= SMALL - HEADER {
                copied.extend_from_slice(header);
                copied.extend_from_slice(payload);
            } else {
                if copied_to < copied.len() {
                    pieces.push(Piece::Copied(copied_to..copied.len()));
                    copied_to = copied.len();
                }
                match pieces.last_mut() {
                    Some(Piece::Read(range)) if range.end == at => range.end = next,
                    _ => pieces.push(Piece::Read(at..next)),
                }
            }
            at = next;
        }
        if copied_to < copied.len() {
            pieces.push(Piece::Copied(copied_to..copied.len()));
        }
        at
    }

    /// All replies, in order.
    pub(super) fn replies(&self) -> impl Iterator<Item = &[u8]> {
        self.first.as_deref().into_iter().chain(self.pieces())
    }

    /// Those behind the large frame.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| match piece {
            Piece::Copied(range) => &self.copied[range.clone()],
            Piece::Read(range) => &self.read[range.clone()],
        })
    }
}

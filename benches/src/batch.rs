//! What one read brought, as replies that one call can write: for servers that are written by hand.

use std::ops::Range;
use std::ptr;

/// Bytes of the length in front of each frame.
pub(crate) const HEADER: usize = 4;
/// Of the buffer that all connections read into.
pub(crate) const BUFFER: usize = 256 * 1024;
/// Larger frames, header included, are not copied; if they come in pieces they get a buffer of their own.
pub(crate) const SMALL: usize = 4 * 1024;

/// The buffer that all connections read into, and the replies to the frames in it.
pub(crate) struct Batch {
    pub(crate) read: Vec<u8>,
    /// A large frame that is whole now, header included. It comes before the pieces.
    pub(crate) first: Option<Vec<u8>>,
    /// The replies to small frames, one behind the other.
    copied: Vec<u8>,
    pieces: Vec<Piece>,
}

enum Piece {
    Copied(Range<usize>),
    Read(Range<usize>),
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            read: vec![0; BUFFER],
            first: None,
            copied: vec![0; BUFFER],
            pieces: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.first.is_none()
    }

    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.pieces.clear();
    }

    /// Replies to the frames that are whole within the first `end` bytes of what was read. Returns where the rest begins.
    pub(crate) fn fill(&mut self, end: usize) -> usize {
        self.clear();
        let Self {
            read,
            copied,
            pieces,
            ..
        } = self;
        let replies = copied.as_mut_ptr();
        let (mut len, mut since) = (0, 0);
        let mut rest = &read[..end];
        while let Some((header, body)) = rest.split_first_chunk::<HEADER>()
            && let Some((payload, next)) =
                body.split_at_checked(u32::from_le_bytes(*header) as usize)
        {
            if payload.len() <= SMALL - HEADER {
                // SAFETY: no more is copied than was read, and there is room for as much as can be read.
                unsafe {
                    let reply = replies.add(len);
                    ptr::copy_nonoverlapping(header.as_ptr(), reply, HEADER);
                    ptr::copy_nonoverlapping(payload.as_ptr(), reply.add(HEADER), payload.len());
                }
                len += HEADER + payload.len();
            } else {
                if since < len {
                    pieces.push(Piece::Copied(since..len));
                    since = len;
                }
                let frame = end - rest.len()..end - next.len();
                match pieces.last_mut() {
                    Some(Piece::Read(before)) if before.end == frame.start => {
                        before.end = frame.end;
                    }
                    _ => pieces.push(Piece::Read(frame)),
                }
            }
            rest = next;
        }
        if since < len {
            pieces.push(Piece::Copied(since..len));
        }
        end - rest.len()
    }

    /// The replies, if they are one piece.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        match &self.pieces[..] {
            [piece] if self.first.is_none() => Some(self.bytes(piece)),
            _ => None,
        }
    }

    /// All replies, in order.
    pub(crate) fn replies(&self) -> impl Iterator<Item = &[u8]> {
        self.first.as_deref().into_iter().chain(self.pieces())
    }

    /// Those behind the large frame.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.pieces.iter().map(|piece| self.bytes(piece))
    }

    fn bytes(&self, piece: &Piece) -> &[u8] {
        match piece {
            Piece::Copied(range) => &self.copied[range.clone()],
            Piece::Read(range) => &self.read[range.clone()],
        }
    }
}

/// What is left of pieces of which so many bytes were written.
pub(crate) fn unwritten<'p>(
    pieces: impl Iterator<Item = &'p [u8]>,
    mut written: usize,
) -> impl Iterator<Item = &'p [u8]> {
    pieces.map(move |piece| {
        let (done, rest) = piece.split_at(written.min(piece.len()));
        written -= done.len();
        rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_is_left_wherever_a_write_ends() {
        let pieces = [&b"one"[..], b"", b"fourth", b"x", b"last"];
        let all = pieces.concat();
        for written in 0..=all.len() {
            let rest: Vec<_> = unwritten(pieces.into_iter(), written).collect();
            assert_eq!(rest.concat(), &all[written..]);
        }
    }
}

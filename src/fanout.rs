//! Small frames that are sent to many connections in a turn, stored once. Pure.

use crate::error::EncodeError;

/// The most bytes stored, so that offsets take two bytes. Further frames are copied into the queues of their receivers.
const MOST: usize = u16::MAX as usize;

/// The frames, encoded, one after the other. Each receiver has a [`Span`] of them until they are written.
#[derive(Debug, Default)]
pub(crate) struct FanoutBuffer {
    wire: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<u16>,
    was_used: bool,
}

/// Successive frames of a [`FanoutBuffer`], in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    #[inline]
    pub(crate) fn len(self) -> u32 {
        u32::from(self.end - self.start)
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns this span extended by the next. `None` if `next` does not follow; every span follows an empty one.
    #[inline]
    pub(crate) fn extended_by(self, next: Self) -> Option<Self> {
        let start = match self.is_empty() {
            true => next.start,
            false if self.end == next.start => self.start,
            false => return None,
        };
        Some(Self { start, ..next })
    }
}

impl FanoutBuffer {
    /// Stores a frame that `encode` appends. `None` if that fails, if it is empty, or if there is no room.
    pub(crate) fn push(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Option<Span> {
        let start = self.wire.len();
        let is_encoded = encode(&mut self.wire).is_ok();
        let is_stored = is_encoded && (start + 1..=MOST).contains(&self.wire.len());
        if !is_stored {
            self.wire.truncate(start);
            return None;
        }
        let span = Span {
            start: start as u16,
            end: self.wire.len() as u16,
        };
        self.ends.push(span.end);
        Some(span)
    }

    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let range = usize::from(span.start)..usize::from(span.end);
        self.wire.get(range).unwrap_or_default()
    }

    /// Returns the number of frames in a span.
    #[inline]
    pub(crate) fn count(&self, span: Span) -> u64 {
        let ended_by = |at: u16| self.ends.partition_point(|end| *end <= at);
        (ended_by(span.end) - ended_by(span.start)) as u64
    }

    /// Returns the frames of a span.
    pub(crate) fn frames(&self, span: Span) -> impl Iterator<Item = &[u8]> {
        let mut start = span.start;
        let ends = self.ends.iter().copied();
        let ends = ends.filter(move |end| span.start < *end && *end <= span.end);
        ends.map(move |end| {
            let frame = self.bytes(Span { start, end });
            start = end;
            frame
        })
    }

    /// Removes all frames, once no connection has a span of them.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.wire.is_empty() {
            self.wire.clear();
            self.ends.clear();
            self.was_used = true;
        }
    }

    /// Returns the memory to the allocator, if it was not used since the last call.
    pub(crate) fn trim(&mut self) {
        if !std::mem::take(&mut self.was_used) && self.wire.is_empty() {
            *self = Self::default();
        }
    }

    /// Returns whether a later [`trim`](Self::trim) may free anything.
    pub(crate) fn is_retaining(&self) -> bool {
        self.wire.capacity() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut FanoutBuffer, frame: &[u8]) -> Option<Span> {
        buffer.push(|wire| {
            wire.extend_from_slice(frame);
            Ok(())
        })
    }

    fn stored(buffer: &mut FanoutBuffer, frame: &[u8]) -> Span {
        push(buffer, frame).expect("there is room")
    }

    #[test]
    fn adjacent_spans_join_and_others_do_not() {
        let mut buffer = FanoutBuffer::default();
        let [one, two, three] =
            ["one", "two", "three"].map(|it| stored(&mut buffer, it.as_bytes()));
        assert_eq!(Span::default().extended_by(two), Some(two));
        assert_eq!(one.extended_by(three), None);
        assert_eq!(two.extended_by(one), None);
        let joined = one.extended_by(two).expect("it follows");
        assert_eq!((joined.len(), buffer.bytes(joined)), (6, &b"onetwo"[..]));
        let rest = two.extended_by(three).expect("it follows");
        assert!(buffer.frames(rest).eq([&b"two"[..], b"three"]));
        assert_eq!((buffer.count(rest), buffer.count(three)), (2, 1));
    }

    #[test]
    fn buffer_takes_no_more_than_its_limit_and_is_freed_when_unused() {
        let mut buffer = FanoutBuffer::default();
        assert!(push(&mut buffer, &[0; MOST]).is_some());
        assert_eq!(push(&mut buffer, &[0]), None);
        buffer.clear();
        assert!(push(&mut buffer, &[0]).is_some());
        buffer.clear();
        buffer.trim();
        assert!(buffer.is_retaining(), "it was used");
        buffer.trim();
        assert!(!buffer.is_retaining());
    }
}

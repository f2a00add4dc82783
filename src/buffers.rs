//! The loop's recycled memory. An idle connection has none; a busy one takes it from here and returns it.
//!
//! Write queues and the buffers of incomplete frames are reused last in, first out, so that the next one is in the
//! cache. Large buffers are kept by size: mapping, zeroing and faulting in fresh memory for a frame costs more than
//! copying it. What is not used between two calls of [`trim`](Buffers::trim) is returned to the allocator.

use bytes::Bytes;

use crate::write_queue::WriteQueue;

/// The maximum size of the pool of queues and of that of small buffers, in bytes.
const MAX_POOLED: usize = 4 * 1024 * 1024;
/// A queue or small buffer larger than this is not pooled.
const MAX_SINGLE: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// The queue returned last: most connections are flushed before the next one is sent to.
    queue: Option<Box<WriteQueue>>,
    /// All other queues.
    queues: Pool<Box<WriteQueue>>,
    /// Buffers for the beginnings of small frames.
    inputs: Pool<Vec<u8>>,
    large: Large,
}

#[derive(Debug)]
struct Pool<T> {
    items: Vec<(T, usize)>,
    /// The heap memory of all items.
    bytes: usize,
    /// The smallest number of items since the last trim: this many were not needed.
    spare: usize,
    /// Whether any item was taken or returned since the last trim.
    was_used: bool,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            spare: 0,
            was_used: false,
        }
    }
}

impl<T> Pool<T> {
    #[inline]
    fn take(&mut self) -> Option<T> {
        let (item, size) = self.items.pop()?;
        self.bytes -= size;
        self.spare = self.spare.min(self.items.len());
        self.was_used = true;
        Some(item)
    }

    #[inline]
    fn put(&mut self, item: T, size: usize) {
        self.items.push((item, size));
        self.bytes += size;
        self.was_used = true;
    }

    /// Returns an item to the pool, unless the item or the pool would be too large.
    fn put_bounded(&mut self, item: T, size: usize) {
        if size <= MAX_SINGLE && self.bytes + size <= MAX_POOLED {
            self.put(item, size);
        }
    }

    /// Takes one of the last `looks` items for which `fits` returns `true`.
    fn take_if(&mut self, looks: usize, fits: impl Fn(&T) -> bool) -> Option<T> {
        let last = self.items.iter().enumerate().rev().take(looks);
        let place = last.into_iter().find(|(_, (item, _))| fits(item))?.0;
        let last = self.items.len() - 1;
        self.items.swap(place, last);
        self.take()
    }

    fn trim(&mut self) {
        // The oldest items are at the bottom.
        for (_, size) in self.items.drain(..self.spare) {
            self.bytes -= size;
        }
        self.spare = self.items.len();
        // While items are in use, the memory of their places is kept.
        if self.items.is_empty() && !self.was_used {
            self.items = Vec::new();
        }
        self.was_used = false;
    }
}

/// Large buffers, by the power of two of their length. Their whole length can be used at once.
#[derive(Debug, Default)]
struct Large {
    classes: [Pool<Vec<u8>>; CLASSES],
    /// The bytes of all classes.
    bytes: usize,
    /// One buffer that is too large for the classes.
    giant: Option<Vec<u8>>,
    giant_was_used: bool,
}

/// The smallest large buffer: 4 KiB.
const MIN_LARGE: usize = 1 << 12;
/// From 4 KiB to just below 8 MiB.
const CLASSES: usize = 11;
/// The maximum size of all classes together, in bytes: the buffers of some peers with frames of 1 MiB.
const MAX_LARGE: usize = 16 * 1024 * 1024;

impl Large {
    fn class(len: usize) -> usize {
        (len.max(MIN_LARGE) / MIN_LARGE).ilog2() as usize
    }

    /// Takes a buffer of at least `len` bytes.
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        /// The number of buffers to try in the first class, in which not all are long enough.
        const LOOKS: usize = 4;
        let first = Self::class(len);
        let buffer = match self.classes.get_mut(first) {
            Some(class) => class.take_if(LOOKS, |buffer| buffer.len() >= len),
            None => return self.take_giant(len),
        };
        let larger = self.classes.iter_mut().skip(first + 1);
        let buffer = buffer.or_else(|| larger.take(2).find_map(Pool::take))?;
        self.bytes -= buffer.len();
        Some(buffer)
    }

    fn take_giant(&mut self, len: usize) -> Option<Vec<u8>> {
        self.giant_was_used = true;
        self.giant.take_if(|giant| giant.len() >= len)
    }

    fn put(&mut self, buffer: Vec<u8>) {
        let len = buffer.len();
        self.make_room(len);
        match self.classes.get_mut(Self::class(len)) {
            Some(class) if self.bytes + len <= MAX_LARGE => {
                self.bytes += len;
                class.put(buffer, len);
            }
            Some(_) => {}
            None if self.giant.as_ref().is_none_or(|giant| giant.len() < len) => {
                self.giant = Some(buffer);
            }
            None => {}
        }
    }

    /// Frees buffers of other classes, the smallest first, if there is no room for `len` bytes. Many of them were outgrown by
    /// their frames.
    fn make_room(&mut self, len: usize) {
        let own = Self::class(len);
        if own >= CLASSES {
            return;
        }
        for (class, pool) in self.classes.iter_mut().enumerate() {
            while self.bytes + len > MAX_LARGE
                && class != own
                && let Some(unused) = pool.take()
            {
                self.bytes -= unused.len();
            }
        }
    }

    fn is_retaining(&self) -> bool {
        self.bytes > 0 || self.giant.is_some()
    }

    fn trim(&mut self) {
        self.classes.iter_mut().for_each(Pool::trim);
        self.bytes = self.classes.iter().map(|class| class.bytes).sum();
        if !std::mem::take(&mut self.giant_was_used) {
            self.giant = None;
        }
    }
}

impl Buffers {
    #[inline]
    pub(crate) fn take_queue(&mut self) -> Box<WriteQueue> {
        match self.queue.take() {
            Some(queue) => queue,
            None => self.take_pooled_queue(),
        }
    }

    #[cold]
    fn take_pooled_queue(&mut self) -> Box<WriteQueue> {
        self.queues.take().unwrap_or_default()
    }

    /// Takes back a queue, which must be empty.
    #[inline]
    pub(crate) fn put_queue(&mut self, queue: Box<WriteQueue>) {
        if queue.retained() <= MAX_SINGLE
            && let Some(other) = self.queue.replace(queue)
        {
            self.put_pooled_queue(other);
        }
    }

    #[cold]
    fn put_pooled_queue(&mut self, queue: Box<WriteQueue>) {
        let size = queue.retained() + size_of::<WriteQueue>();
        self.queues.put_bounded(queue, size);
    }

    /// Returns a buffer for the beginning of an incomplete frame. Its content is unspecified.
    pub(crate) fn take_input(&mut self) -> Vec<u8> {
        self.inputs.take().unwrap_or_default()
    }

    /// Takes back the buffer of a frame, small or large.
    pub(crate) fn put_input(&mut self, buffer: Vec<u8>) {
        if buffer.len() >= MIN_LARGE {
            self.large.put(buffer);
        } else if buffer.capacity() > 0 {
            let size = buffer.capacity();
            self.inputs.put_bounded(buffer, size);
        }
    }

    /// Takes back a payload that was written, if no other references exist.
    pub(crate) fn put_shared(&mut self, payload: Bytes) {
        if payload.len() >= MIN_LARGE
            && let Ok(unique) = payload.try_into_mut()
        {
            self.large.put(unique.into());
        }
    }

    /// Returns a buffer for a frame of `len` bytes, if there is one. Its whole length can be used at once; its content is
    /// unspecified.
    pub(crate) fn take_large(&mut self, len: usize) -> Option<Vec<u8>> {
        self.large.take(len)
    }

    /// Returns whether a later [`trim`](Self::trim) may free anything.
    pub(crate) fn is_retaining(&self) -> bool {
        self.large.is_retaining()
            || self.queue.is_some()
            || !self.queues.items.is_empty()
            || !self.inputs.items.is_empty()
    }

    /// Frees what was not used since the last call.
    pub(crate) fn trim(&mut self) {
        // The next taker finds it in the pool.
        if let Some(queue) = self.queue.take() {
            self.put_pooled_queue(queue);
        }
        self.queues.trim();
        self.inputs.trim();
        self.large.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_frames_have_outgrown_do_not_displace_those_in_use() {
        let mut buffers = Buffers::default();
        for _ in 0..30 {
            buffers.put_input(vec![7; 700_000]);
        }
        for _ in 0..3 {
            buffers.put_input(vec![7; 1 << 20]);
        }
        let mut take = || buffers.take_large(1 << 20).map(|buffer| buffer.len());
        assert_eq!([take(), take(), take()], [Some(1 << 20); 3]);
        assert!(buffers.large.bytes <= MAX_LARGE);
    }

    #[test]
    fn large_buffer_is_found_for_a_frame_that_fits() {
        let mut buffers = Buffers::default();
        for len in [5000, 100_000, 1 << 20] {
            buffers.put_input(vec![7; len]);
        }
        let mut take = |len| buffers.take_large(len).map(|buffer| buffer.len());
        assert_eq!(take(100_001), None, "the only one in its class is shorter");
        assert_eq!(take(70_000), Some(100_000));
        assert_eq!(take(4097), Some(5000));
        assert_eq!(take(300_000), Some(1 << 20), "up to two classes larger");
        assert!(!buffers.is_retaining());
    }

    #[test]
    fn large_buffers_are_bounded_in_bytes_and_one_giant_is_kept_besides() {
        let mut buffers = Buffers::default();
        for _ in 0..20 {
            buffers.put_input(vec![7; 1 << 20]);
        }
        buffers.put_input(vec![7; 64 << 20]);
        buffers.put_input(vec![7; 32 << 20]);
        let count = std::iter::from_fn(|| buffers.take_large(1 << 20)).count();
        assert_eq!(count, MAX_LARGE >> 20);
        let giant = buffers.take_large(40 << 20).map(|buffer| buffer.len());
        assert_eq!(giant, Some(64 << 20));
    }

    #[test]
    fn unused_buffers_are_freed_by_the_second_trim() {
        let mut buffers = Buffers::default();
        buffers.put_input(vec![7; 1 << 20]);
        buffers.put_input(vec![7; 16 << 20]);
        buffers.put_input(vec![7; 100]);
        buffers.trim();
        buffers.trim();
        assert!(!buffers.is_retaining());
        assert_eq!(buffers.large.bytes, 0);
    }
}

//! The loop's recycled memory. An idle connection has none; a busy one takes it from here and returns it.
//!
//! Write queues and the buffers of incomplete frames are reused last in, first out, so that the next one is in the
//! cache. One large buffer is kept besides: mapping and faulting in fresh memory for a 64 MiB frame costs more than
//! copying it. What is not used between two calls of [`trim`](Buffers::trim) is returned to the allocator.

use bytes::Bytes;

use crate::write_queue::WriteQueue;

/// The maximum size of each of the two pools, in bytes.
const MAX_POOLED: usize = 4 * 1024 * 1024;
/// A buffer larger than this is not pooled.
const MAX_SINGLE: usize = 256 * 1024;
/// The minimum size of a buffer that is kept as the large one.
const MIN_LARGE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// The queue returned last: most connections are flushed before the next one is sent to.
    queue: Option<Box<WriteQueue>>,
    /// All other queues.
    queues: Pool<Box<WriteQueue>>,
    inputs: Pool<Vec<u8>>,
    large: Option<Vec<u8>>,
    large_was_used: bool,
}

#[derive(Debug)]
struct Pool<T> {
    items: Vec<(T, usize)>,
    /// The heap memory of all items.
    bytes: usize,
    /// The smallest number of items since the last trim: that many were not needed.
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
        if size <= MAX_SINGLE && self.bytes + size <= MAX_POOLED {
            self.items.push((item, size));
            self.bytes += size;
            self.was_used = true;
        }
    }

    fn trim(&mut self) {
        // The oldest items are at the bottom.
        for (_, size) in self.items.drain(..self.spare) {
            self.bytes -= size;
        }
        self.spare = self.items.len();
        // While items are in use, the memory for their places is kept.
        if self.items.is_empty() && !self.was_used {
            self.items = Vec::new();
        }
        self.was_used = false;
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
        self.queues.put(queue, size);
    }

    /// Returns a buffer for the beginning of an incomplete frame. Its content is unspecified.
    pub(crate) fn take_input(&mut self) -> Vec<u8> {
        self.inputs.take().unwrap_or_default()
    }

    /// Takes back the buffer of a frame, small or large.
    pub(crate) fn put_input(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() >= MIN_LARGE {
            self.put_large(buffer);
        } else if buffer.capacity() > 0 {
            let size = buffer.capacity();
            self.inputs.put(buffer, size);
        }
    }

    /// Takes back a payload that was written, if no other references exist.
    pub(crate) fn put_shared(&mut self, payload: Bytes) {
        if payload.len() >= MIN_LARGE
            && let Ok(unique) = payload.try_into_mut()
        {
            self.put_large(unique.into());
        }
    }

    /// Returns the large buffer, if there is one and it is larger than `size`. Its whole length can be used at once.
    pub(crate) fn take_large(&mut self, size: usize) -> Option<Vec<u8>> {
        self.large_was_used = true;
        self.large.take_if(|large| large.len() > size)
    }

    fn put_large(&mut self, buffer: Vec<u8>) {
        let kept = self.large.as_ref().map_or(0, Vec::len);
        if buffer.len() > kept {
            self.large = Some(buffer);
        }
    }

    /// Returns whether a later [`trim`](Self::trim) may free anything.
    pub(crate) fn is_retaining(&self) -> bool {
        self.large.is_some()
            || self.queue.is_some()
            || !self.queues.items.is_empty()
            || !self.inputs.items.is_empty()
    }

    /// Frees what was not used since the last call.
    pub(crate) fn trim(&mut self) {
        // The next user finds it in the pool.
        if let Some(queue) = self.queue.take() {
            self.put_pooled_queue(queue);
        }
        self.queues.trim();
        self.inputs.trim();
        if !self.large_was_used {
            self.large = None;
        }
        self.large_was_used = false;
    }
}

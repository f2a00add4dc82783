//! The loop's read buffer. Replies can be written from it: then the loop and the replies share it until the next read.

use std::io;
use std::mem;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct ReadBuffer {
    /// The buffer, while it is not shared; otherwise empty.
    own: Vec<u8>,
    /// The buffer, while it is shared; otherwise empty.
    shared: Arc<Vec<u8>>,
    size: usize,
}

impl ReadBuffer {
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        let mut own = Vec::new();
        own.try_reserve_exact(size)?;
        own.resize(size, 0);
        Ok(Self {
            own,
            shared: Arc::default(),
            size,
        })
    }

    /// Returns the whole buffer, to read into it.
    #[inline(always)]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.own.is_empty() {
            self.take_back();
        }
        &mut self.own
    }

    #[inline(never)]
    fn take_back(&mut self) {
        match Arc::get_mut(&mut self.shared) {
            Some(shared) => self.own = mem::take(shared),
            None => {
                debug_assert!(
                    false,
                    "replies refer to the read buffer only until the next read"
                );
                self.own = vec![0; self.size];
                self.shared = Arc::default();
            }
        }
    }

    /// Returns the content while it is not shared; nothing otherwise.
    #[inline(always)]
    pub(crate) fn unshared(&self) -> &[u8] {
        &self.own
    }

    /// Returns the content.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.own.is_empty() {
            &self.shared
        } else {
            &self.own
        }
    }

    #[inline(always)]
    pub(crate) fn is_shared(&self) -> bool {
        self.own.is_empty()
    }

    /// Shares the buffer. Its bytes stay where they are in memory.
    pub(crate) fn share(&mut self) -> Arc<Vec<u8>> {
        let own = mem::take(&mut self.own);
        if !own.is_empty() {
            match Arc::get_mut(&mut self.shared) {
                Some(shared) => *shared = own,
                None => self.shared = Arc::new(own),
            }
        }
        Arc::clone(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_the_same_memory_before_and_after_it_is_shared() {
        let mut buffer = ReadBuffer::new(16).expect("there is memory");
        let place = buffer.room().as_ptr();
        buffer.room()[3] = 7;
        for _ in 0..2 {
            let shared = buffer.share();
            assert!(buffer.is_shared() && shared[3] == 7 && buffer.bytes()[3] == 7);
            assert_eq!(
                buffer.share().as_ptr(),
                place,
                "sharing twice is sharing once"
            );
            drop(shared);
            assert_eq!(buffer.room().as_ptr(), place);
            assert!(!buffer.is_shared());
        }
    }
}

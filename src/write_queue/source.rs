//! A frame whose payload is read when it is written.

use std::fmt;
use std::io::{self, Read};

use crate::error::EncodeError;
use crate::frame::Framing;

/// The bytes per read: usually as much as a socket takes at once.
pub(super) const WINDOW: usize = 64 * 1024;

/// A reader that has to return a known number of bytes.
pub(crate) struct Source {
    /// `None` while it is being read: a reader that panics is not read again.
    reader: Option<Box<dyn Read + Send>>,
    /// Bytes that were not read yet.
    left: u64,
    /// The buffer for reads; empty while parked.
    window: Vec<u8>,
    /// Bytes of the window that are to be written.
    filled: usize,
    /// The reader returned `WouldBlock`.
    parked: bool,
    /// All bytes were read, and the reader has no more.
    complete: bool,
    framing: Framing,
}

/// Why a reader does not make a valid frame.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// It ended early.
    Ended {
        missing: u64,
    },
    /// It has more bytes than the frame.
    TooLong,
    /// The framing cannot encode its bytes.
    Unfit(EncodeError),
    Failed(io::Error),
}

impl Source {
    pub(super) fn new(reader: Box<dyn Read + Send>, left: u64, framing: Framing) -> Self {
        Self {
            reader: Some(reader),
            left,
            window: Vec::new(),
            filled: 0,
            parked: false,
            complete: false,
            framing,
        }
    }

    /// Returns the bytes to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.window[..self.filled]
    }

    /// Returns the number of bytes that were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn is_parked(&self) -> bool {
        self.parked
    }

    /// Lets it be read again. Returns whether it was parked.
    pub(super) fn wake(&mut self) -> bool {
        std::mem::take(&mut self.parked)
    }

    /// Notes that all bytes of the window were written.
    pub(super) fn drained(&mut self) {
        self.filled = 0;
    }

    /// Reads the next bytes. Returns how many: 0 if the reader returned `WouldBlock` and is parked, or if it is
    /// complete. On error nothing changes.
    pub(super) fn pull(&mut self) -> Result<usize, SourceError> {
        let Some(mut reader) = self.reader.take() else {
            let error = io::Error::other("it panicked in an earlier call");
            return Err(SourceError::Failed(error));
        };
        let mut window = std::mem::take(&mut self.window);
        let read = self.read(&mut *reader, &mut window)?;
        self.reader = Some(reader);
        match read {
            Some(read) => {
                self.left -= read as u64;
                self.complete = self.left == 0;
                (self.window, self.filled) = (window, read);
            }
            None => self.parked = true,
        }
        Ok(self.filled)
    }

    /// Reads the next bytes into the window. Returns how many; `None` if there are none now. After the last byte,
    /// checks that the reader has no more.
    fn read(
        &self,
        reader: &mut dyn Read,
        window: &mut Vec<u8>,
    ) -> Result<Option<usize>, SourceError> {
        let mut filled = 0;
        if self.left > 0 {
            // Ask for one byte more than expected, to detect a reader that has more.
            let most = self.left.saturating_add(1).min(WINDOW as u64) as usize;
            window.resize(most, 0);
            filled = match read(reader, window)? {
                Some(0) => return Err(SourceError::Ended { missing: self.left }),
                Some(n) => n,
                None => return Ok(None),
            };
        }
        if filled as u64 >= self.left {
            let is_over = filled as u64 == self.left;
            if !is_over || matches!(read(reader, &mut [0])?, Some(1..)) {
                return Err(SourceError::TooLong);
            }
        }
        let bytes = &window[..filled];
        let is_last = filled as u64 == self.left;
        let checked = self.framing.check(bytes, is_last);
        checked.map_err(SourceError::Unfit)?;
        Ok(Some(filled))
    }
}

/// Reads once; `None` on `WouldBlock`.
fn read(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<Option<usize>, SourceError> {
    loop {
        match reader.read(buffer) {
            Ok(n) if n <= buffer.len() => return Ok(Some(n)),
            Ok(n) => {
                let message = format!("it returned {n} for a buffer of {} bytes", buffer.len());
                return Err(SourceError::Failed(io::Error::other(message)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(SourceError::Failed(error)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("left", &self.left)
            .field("filled", &self.filled)
            .field("parked", &self.parked)
            .finish_non_exhaustive()
    }
}

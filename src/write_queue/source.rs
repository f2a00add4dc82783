//! A frame whose payload is read when it is its turn to be written.

use std::fmt;
use std::io::{self, Read};

use crate::error::EncodeError;
use crate::frame::Framing;

/// How much is read at a time, in bytes: as much as a socket takes at once, usually.
pub(super) const WINDOW: usize = 64 * 1024;

/// A reader that is to give a known number of bytes.
pub(crate) struct Source {
    /// None while it is asked: one that panics is not asked again.
    reader: Option<Box<dyn Read + Send>>,
    /// Bytes that have not been read.
    left: u64,
    /// Where they are read to; nothing while it is parked.
    window: Vec<u8>,
    /// Bytes of the window that wait to be written.
    filled: usize,
    /// The reader has said that it has nothing now.
    parked: bool,
    /// All was read, and there is nothing behind it.
    complete: bool,
    framing: Framing,
}

/// Why a reader cannot make a frame.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// It ended early.
    Ended {
        missing: u64,
    },
    /// It goes on where the frame ends.
    TooLong,
    /// It gave what the framing cannot carry.
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

    /// What waits to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.window[..self.filled]
    }

    /// Bytes that have not been read.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn is_parked(&self) -> bool {
        self.parked
    }

    /// Lets it be asked again. Returns whether that makes a difference.
    pub(super) fn wake(&mut self) -> bool {
        std::mem::take(&mut self.parked)
    }

    /// All that had been read is written.
    pub(super) fn drained(&mut self) {
        self.filled = 0;
    }

    /// Reads the next bytes, and says how many. None: it has nothing now, and is parked, or it is complete. If it fails
    /// nothing has changed.
    pub(super) fn pull(&mut self) -> Result<usize, SourceError> {
        let Some(mut reader) = self.reader.take() else {
            let error = io::Error::other("it panicked when it was asked before");
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

    /// Reads the next bytes into the window, and says how many; `None` if there is nothing now. After the last one there
    /// must be nothing more.
    fn read(
        &self,
        reader: &mut dyn Read,
        window: &mut Vec<u8>,
    ) -> Result<Option<usize>, SourceError> {
        let mut filled = 0;
        if self.left > 0 {
            // One byte more than there should be tells whether there is one.
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
        self.framing.check(bytes).map_err(SourceError::Unfit)?;
        Ok(Some(filled))
    }
}

/// Reads once; `None` if there is nothing now.
fn read(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<Option<usize>, SourceError> {
    loop {
        match reader.read(buffer) {
            Ok(n) if n <= buffer.len() => return Ok(Some(n)),
            Ok(n) => {
                let message = format!("it claims to have read {n} bytes into {}", buffer.len());
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

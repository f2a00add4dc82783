//! What a session has taken and what has become of it, for [`Contract`](crate::sim::Contract).

use super::session::Session;
use crate::socket::Stream;

/// The bytes that have passed through a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passed {
    /// Plaintext that was encrypted.
    pub(crate) plaintext: u64,
    /// The ciphertext, with what the socket had taken before the session.
    pub(crate) ciphertext: u64,
}

impl Passed {
    /// Begins with what the socket has taken.
    pub(super) fn before(stream: &Stream) -> Self {
        let ciphertext = match stream {
            Stream::Sim(stream) => stream.written(),
            _ => 0,
        };
        Self {
            ciphertext,
            plaintext: 0,
        }
    }
}

impl Session {
    /// Returns the bytes of ciphertext that were read from the socket and not decrypted.
    pub(crate) fn unfed(&self) -> usize {
        self.unfed.len()
    }

    /// Returns whether the peer's close_notify was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(crate) fn passed(&self) -> Passed {
        self.passed
    }

    /// Notes what the session has written when it ends: plaintext, and not ciphertext. What counts as unsent was not
    /// written.
    pub(crate) fn settle(&mut self) {
        let (passed, estimate) = (self.passed, self.unsent_frames());
        if let Stream::Sim(stream) = &mut self.stream {
            let unsent = match estimate {
                Some(_) => passed.ciphertext.saturating_sub(stream.written()),
                None => 0,
            };
            let written = passed.plaintext.wrapping_sub(unsent);
            stream.note_plaintext(written, estimate.unwrap_or(0));
        }
    }
}

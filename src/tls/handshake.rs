//! The handshake: from the connected socket to the first byte of plaintext.

use std::io;

use super::session::{Buffers, Session};
use crate::tick::Tick;

/// The most ciphertext that is read at once.
const PIECE: usize = 16 * 1024;

/// How many times a step may read. The rest is read in the next turn.
const MAX_READS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The socket is not connected yet.
    Connecting,
    Handshaking,
    Established,
}

/// The progress of a handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Done,
    /// It waits for bytes from the peer.
    WantsRead,
    /// It waits for room in the socket.
    WantsWrite,
    /// The work of this turn is used up.
    Postponed,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Tls(rustls::Error),
    Socket(io::Error),
}

impl Session {
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Notes that the socket is connected.
    pub(crate) fn begin_handshake(&mut self) {
        self.stage = Stage::Handshaking;
        #[cfg(feature = "sim")]
        {
            // A PROXY header may precede the handshake.
            self.passed = super::Passed::before(&self.stream);
        }
    }

    /// Advances the handshake, as far as the socket allows. A message that this side has to answer takes one from
    /// `left`, because answering means key exchange and signatures. When none is left, nothing is read.
    pub(crate) fn shake(
        &mut self,
        buffers: &mut Buffers,
        left: &mut usize,
        now: Tick,
    ) -> Result<Step, Failure> {
        for _ in 0..MAX_READS {
            if !self.send(now).map_err(Failure::Socket)? {
                return Ok(Step::WantsWrite);
            }
            if !self.tls.is_handshaking() {
                self.stage = Stage::Established;
                return Ok(Step::Done);
            }
            if *left == 0 {
                return Ok(Step::Postponed);
            }
            let read = match self.receive(PIECE, buffers) {
                Ok(Some(read)) => read,
                Ok(None) => {
                    return Err(Failure::Socket(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Step::WantsRead);
                }
                Err(error) => return Err(Failure::Socket(error)),
            };
            self.feed(&buffers.input[..read], &mut []);
            *left -= usize::from(self.tls.wants_write());
            if let Some(error) = self.failure.clone() {
                // Sends the alert to the peer, if the socket has room.
                let _ = self.send(now);
                return Err(Failure::Tls(error));
            }
        }
        Ok(Step::Postponed)
    }
}

//! An inbound link with TLS, before its peer has sent a ClientHello: the stream is still in the link, and there is no
//! session. What has arrived is kept like other bytes that are [ahead](crate::connection) of the stream.

use super::Link;
use crate::connection::{Common, Fill, Origin, Phase};
use crate::reason::DisconnectCause;
use crate::socket::{Readiness, Stream};
use crate::tls::{Stage, alert, has_client_hello};

/// How many times a service may read. The rest is read in the next turn.
const MAX_READS: usize = 16;

impl Link {
    /// Returns whether the ClientHello of an inbound peer is awaited.
    pub(crate) fn awaits_hello(&self) -> bool {
        self.phase == Phase::Connecting
            && self.stream.is_some()
            && matches!(self.origin(), Origin::Listener(_))
    }

    /// Reads the first message of an inbound peer, and creates the session once it is a ClientHello. Returns whether there
    /// is a session. When no handshake is left in this turn, nothing is read.
    pub(crate) fn open_session(&mut self, common: &mut Common) -> Result<bool, DisconnectCause> {
        for _ in 0..MAX_READS {
            if common.handshakes_left == 0 {
                self.readiness |= Readiness::READABLE;
                return Ok(false);
            }
            if self.read_hello(common)? {
                return Ok(true);
            }
            if !self.readiness.has(Readiness::READABLE) {
                break;
            }
        }
        Ok(false)
    }

    /// Reads once. Returns whether there is a session now.
    fn read_hello(&mut self, common: &mut Common) -> Result<bool, DisconnectCause> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let mut hello = self.connection.take_hello(common);
        let room = common.ciphertext.room();
        let read = match self.connection.discard(stream, room, common.now) {
            Fill::Bytes { read, .. } => read,
            Fill::Blocked | Fill::NoMemory(_) => 0,
            Fill::Ended => return Err(DisconnectCause::Truncated),
            Fill::Failed(error) => return Err(DisconnectCause::of_socket(error)),
        };
        // Usually all of it arrives at once.
        let has_hello = match hello.is_empty() {
            true => has_client_hello(&room[..read]),
            false => {
                hello.extend_from_slice(&room[..read]);
                has_client_hello(&hello)
            }
        };
        let has_hello = has_hello.map_err(|error| {
            refuse(stream, &alert(&error));
            DisconnectCause::HandshakeFailed(error)
        })?;
        if hello.is_empty() {
            hello = room[..read].to_vec();
        }
        if has_hello && let Some(begun) = self.security().begin() {
            let tls = begun.map_err(DisconnectCause::HandshakeFailed)?;
            self.secure(tls, Stage::Handshaking, common);
        }
        match self.connection.session_mut() {
            Some(session) => session.put_ahead(hello),
            None => self.connection.keep_hello(hello, common),
        }
        Ok(has_hello)
    }

    /// Drops what was kept of a ClientHello. It was never to be delivered.
    pub(super) fn drop_hello(&mut self, common: &mut Common) {
        if self.awaits_hello() {
            self.connection.take_hello(common);
        }
    }
}

/// Sends the alert to the peer, if the socket has room.
fn refuse(stream: &mut Stream, alert: &[u8]) {
    let _ = stream.write(alert);
    #[cfg(feature = "sim")]
    if let Stream::Sim(stream) = stream {
        stream.note_plaintext(0, 0);
    }
}

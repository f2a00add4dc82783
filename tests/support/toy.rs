//! A custom format with a header, a trailer that is checked, and payloads that it refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use throng::{DecodeError, Decoded, EncodeError, Envelope, FrameFormat};

/// `>`, the length in three bytes (big-endian), the payload, `end`.
#[derive(Debug, Default)]
pub struct Toy {
    /// The number of frames encoded so far.
    pub encoded: Arc<AtomicU64>,
    is_picky: bool,
}

impl Toy {
    /// Bytes around each payload.
    pub const OVERHEAD: usize = 4 + 3;

    /// Refuses empty payloads, by their length, and zeros, by their bytes.
    pub fn picky() -> Self {
        Self {
            is_picky: true,
            ..Self::default()
        }
    }
}

impl FrameFormat for Toy {
    fn decode(&self, input: &[u8], _: usize) -> Result<Decoded, DecodeError> {
        match *input {
            [] => unreachable!("never called without input"),
            [b'>', a, b, c, ..] => Ok(Decoded::Frame {
                header: 4,
                payload: u32::from_be_bytes([0, a, b, c]).into(),
                trailer: 3,
            }),
            [b'>', ..] => Ok(Decoded::Incomplete),
            _ => Err(DecodeError::malformed("'>'", input)),
        }
    }

    fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
        if self.is_picky && payload_len == 0 {
            let expected = "at least one byte";
            return Err(EncodeError::Refused { expected });
        }
        self.encoded.fetch_add(1, Ordering::Relaxed);
        envelope.push_header(b">");
        envelope.push_header(&payload_len.to_be_bytes()[5..]);
        envelope.push_trailer(b"end");
        Ok(())
    }

    fn max_payload_len(&self) -> u64 {
        (1 << 24) - 1
    }

    fn check(&self, payload: &[u8]) -> Result<(), EncodeError> {
        match self.is_picky && payload.contains(&0) {
            true => Err(EncodeError::Refused {
                expected: "no zeroes",
            }),
            false => Ok(()),
        }
    }

    fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
        match trailer {
            b"end" => Ok(()),
            _ => Err(DecodeError::malformed("end", trailer)),
        }
    }
}

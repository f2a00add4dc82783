//! Frames that begin with their length as a varint: LEB128, seven bits per byte, least significant first.
//!
//! Only the shortest form of a number is accepted. An endless `FF FF FF ...` is refused after ten bytes, and each
//! length has exactly one encoding.

use super::format::{Decoded, Envelope};
use crate::error::DecodeError;

/// A 64-bit number takes ten groups of seven bits; the last group has one bit.
pub(super) const MAX_LEN: usize = 10;

pub(super) fn decode(input: &[u8]) -> Result<Decoded, DecodeError> {
    let mut value = 0_u64;
    for (i, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if i == MAX_LEN - 1 && byte > 1 {
            return Err(DecodeError::malformed(
                "a varint length of at most 2^64-1",
                input,
            ));
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            if byte == 0 && i > 0 {
                return Err(DecodeError::malformed(
                    "the shortest form of a varint length",
                    input,
                ));
            }
            return Ok(Decoded::Frame {
                header: i + 1,
                payload: value,
                trailer: 0,
            });
        }
    }
    Ok(Decoded::Incomplete)
}

pub(super) fn encode(mut value: u64, envelope: &mut Envelope) {
    let mut bytes = [0; MAX_LEN];
    let mut len = 0;
    loop {
        bytes[len] = value as u8 & 0x7F;
        value >>= 7;
        if value == 0 {
            break;
        }
        bytes[len] |= 0x80;
        len += 1;
    }
    envelope.push_header(&bytes[..=len]);
}

//! Frames that end with a byte of the user's choice, such as lines.

use super::format::Decoded;
use crate::error::EncodeError;

/// Searches for the end behind the `scanned` bytes that were searched before.
pub(super) fn decode(delimiter: u8, input: &[u8], scanned: usize) -> Decoded {
    match position(delimiter, &input[scanned.min(input.len())..]) {
        Some(at) => Decoded::Frame {
            header: 0,
            payload: (scanned + at) as u64,
            trailer: 1,
        },
        None => Decoded::Incomplete,
    }
}

/// A payload that contains the delimiter would arrive as two.
pub(super) fn check(delimiter: u8, payload: &[u8]) -> Result<(), EncodeError> {
    match position(delimiter, payload) {
        Some(position) => Err(EncodeError::ContainsDelimiter {
            delimiter,
            position,
        }),
        None => Ok(()),
    }
}

/// Compares a block at a time, which the compiler turns into vector instructions; the block with the hit is then
/// searched byte by byte.
pub(super) fn position(needle: u8, haystack: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let mut blocks = haystack.chunks_exact(BLOCK);
    let mut start = 0;
    for block in &mut blocks {
        if block
            .iter()
            .fold(false, |hit, &byte| hit | (byte == needle))
        {
            break;
        }
        start += BLOCK;
    }
    let rest = haystack[start..].iter().position(|&byte| byte == needle)?;
    Some(start + rest)
}

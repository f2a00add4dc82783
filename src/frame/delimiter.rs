//! Frames that end with a configurable byte, such as lines.

use super::format::Decoded;
use crate::error::EncodeError;

/// Searches for the delimiter after the first `scanned` bytes, which were searched before.
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

/// Refuses a payload that contains the delimiter: it would arrive as two frames.
pub(super) fn check(delimiter: u8, payload: &[u8]) -> Result<(), EncodeError> {
    match position(delimiter, payload) {
        Some(position) => Err(EncodeError::ContainsDelimiter {
            delimiter,
            position,
        }),
        None => Ok(()),
    }
}

/// Compares a block at a time, which the compiler vectorizes; the matching block is then searched byte by byte.
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

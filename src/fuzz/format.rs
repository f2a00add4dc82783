//! Formats, each with a second implementation that is slow and obvious.

use super::input::Input;
use crate::{DecodeError, Decoded, EncodeError, Envelope, FrameFormat, Framing};

/// What a format is, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Prefix {
        width: usize,
        big: bool,
        inclusive: bool,
    },
    Varint,
    Delimiter(u8),
    Lines {
        crlf: bool,
        unterminated: bool,
    },
    /// A length of one byte, the payload, and a trailer that is checked.
    Checked,
    /// A custom format whose end is searched for.
    Crlf,
}

/// The outcome of parsing the beginning of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The payload of the first frame, and how many bytes of the stream it takes.
    Frame(Vec<u8>, usize),
    /// The frame is not complete. These bytes certainly belong to its payload.
    Begun(Vec<u8>),
    TooLarge,
    Malformed,
}

const TRAILER: &[u8] = b"ok";

impl Format {
    pub(super) fn any(input: &mut Input<'_>) -> Self {
        match input.below(16) {
            0..7 => Self::Prefix {
                width: input.one_of(&[1, 2, 3, 4, 8]),
                big: input.flag(),
                inclusive: input.flag(),
            },
            7..9 => Self::Varint,
            9 => Self::Delimiter(input.byte()),
            10..13 => Self::Lines {
                crlf: input.flag(),
                unterminated: input.flag(),
            },
            13 => Self::Crlf,
            _ => Self::Checked,
        }
    }

    pub(super) fn framing(self) -> Framing {
        match self {
            Self::Prefix {
                width,
                big,
                inclusive,
            } => {
                let prefix = Framing::length_prefix();
                let prefix = match width {
                    1 => prefix.u8(),
                    2 => prefix.u16(),
                    3 => prefix.u24(),
                    4 => prefix.u32(),
                    _ => prefix.u64(),
                };
                let prefix = if big { prefix.big_endian() } else { prefix };
                let prefix = if inclusive {
                    prefix.inclusive()
                } else {
                    prefix
                };
                prefix.into()
            }
            Self::Varint => Framing::varint(),
            Self::Delimiter(byte) => Framing::delimiter(byte),
            Self::Lines { crlf, unterminated } => {
                let lines = Framing::lines();
                let lines = if crlf { lines.crlf() } else { lines };
                if unterminated {
                    lines.deliver_unterminated().into()
                } else {
                    lines.into()
                }
            }
            Self::Checked => Framing::custom(Checked),
            Self::Crlf => Framing::custom(Crlf),
        }
    }

    /// Parses the first frame of a stream that is not empty. Frames longer than `max` are refused; those of up to
    /// `whole` bytes have to fit into the address space.
    pub(super) fn parse(self, wire: &[u8], max: u64, whole: u64) -> Parsed {
        match self {
            Self::Prefix {
                width,
                big,
                inclusive,
            } => {
                if wire.len() < width {
                    return Parsed::Begun(Vec::new());
                }
                let mut length = 0_u64;
                for at in 0..width {
                    let byte = if big { wire[at] } else { wire[width - 1 - at] };
                    length = length << 8 | u64::from(byte);
                }
                let own = if inclusive { width as u64 } else { 0 };
                if length < own {
                    return Parsed::Malformed;
                }
                declared(wire, width, length - own, b"", max, whole)
            }
            Self::Varint => {
                let mut length = 0_u128;
                for (at, &byte) in wire.iter().enumerate() {
                    length |= u128::from(byte & 0x7F) << (7 * at);
                    if length > u128::from(u64::MAX) || at == 9 && byte & 0x80 != 0 {
                        return Parsed::Malformed;
                    }
                    if byte & 0x80 == 0 {
                        if byte == 0 && at > 0 {
                            return Parsed::Malformed;
                        }
                        return declared(wire, at + 1, length as u64, b"", max, whole);
                    }
                }
                Parsed::Begun(Vec::new())
            }
            Self::Delimiter(byte) => line(wire, byte, false, max),
            Self::Lines { .. } => line(wire, b'\n', true, max),
            Self::Checked => declared(wire, 1, u64::from(wire[0]), TRAILER, max, whole),
            Self::Crlf => match wire.windows(2).position(|two| two == b"\r\n") {
                Some(at) if at as u64 > max => Parsed::TooLarge,
                Some(at) => Parsed::Frame(wire[..at].to_vec(), at + 2),
                // What is around the payload may be this long.
                None if (wire.len() as u64).saturating_sub(32) > max => Parsed::TooLarge,
                None => Parsed::Begun(Vec::new()),
            },
        }
    }

    /// Whether EOF ends a frame that has begun.
    pub(super) fn ends_at_eof(self) -> bool {
        let unterminated = true;
        matches!(self, Self::Lines { unterminated: it, .. } if it == unterminated)
    }
}

/// A frame with a header that declares its length, and a trailer.
fn declared(
    wire: &[u8],
    header: usize,
    length: u64,
    trailer: &[u8],
    max: u64,
    whole: u64,
) -> Parsed {
    if length > max || length <= whole && length > isize::MAX as u64 {
        return Parsed::TooLarge;
    }
    let rest = &wire[header..];
    let Some(rest_of) = usize::try_from(length)
        .ok()
        .filter(|len| *len <= rest.len())
    else {
        return Parsed::Begun(rest.to_vec());
    };
    let (payload, behind) = rest.split_at(rest_of);
    match behind.get(..trailer.len()) {
        None => Parsed::Begun(payload.to_vec()),
        Some(found) if found != trailer => Parsed::Malformed,
        Some(_) => Parsed::Frame(payload.to_vec(), header + rest_of + trailer.len()),
    }
}

/// A frame that ends with a byte.
fn line(wire: &[u8], end: u8, takes_cr: bool, max: u64) -> Parsed {
    let at = wire.iter().position(|&byte| byte == end);
    let mut payload = wire[..at.unwrap_or(wire.len())].to_vec();
    if takes_cr && payload.ends_with(b"\r") {
        payload.pop();
    }
    match at {
        _ if payload.len() as u64 > max => Parsed::TooLarge,
        Some(at) => Parsed::Frame(payload, at + 1),
        None => Parsed::Begun(payload),
    }
}

#[derive(Debug)]
struct Checked;

impl FrameFormat for Checked {
    fn decode(&self, input: &[u8], _: usize) -> Result<Decoded, DecodeError> {
        Ok(Decoded::Frame {
            header: 1,
            payload: u64::from(input[0]),
            trailer: TRAILER.len() as u32,
        })
    }

    fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
        envelope.push_header(&[payload_len as u8]);
        envelope.push_trailer(TRAILER);
        Ok(())
    }

    fn max_payload_len(&self) -> u64 {
        255
    }

    fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
        if trailer == TRAILER {
            return Ok(());
        }
        Err(DecodeError::malformed("ok", trailer))
    }
}

#[derive(Debug)]
struct Crlf;

impl FrameFormat for Crlf {
    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError> {
        let start = scanned.saturating_sub(1);
        let end = input[start..].windows(2).position(|pair| pair == b"\r\n");
        Ok(end.map_or(Decoded::Incomplete, |at| Decoded::Frame {
            header: 0,
            payload: (start + at) as u64,
            trailer: 2,
        }))
    }

    fn encode(&self, _: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
        envelope.push_trailer(b"\r\n");
        Ok(())
    }

    fn max_payload_len(&self) -> u64 {
        u64::MAX
    }

    fn check(&self, payload: &[u8]) -> Result<(), EncodeError> {
        if payload.contains(&b'\n') {
            let expected = "a line without LF";
            return Err(EncodeError::Refused { expected });
        }
        Ok(())
    }
}

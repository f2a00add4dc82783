//! Framing: splits a byte stream into frames, and encodes payloads as frames. Pure: bytes in, frames out.
//!
//! This module does not depend on sockets, queues or clocks. [`FrameDecoder`] and [`FrameEncoder`] can be used alone.

mod chunk;
mod decoder;
mod delimiter;
mod encoder;
mod format;
mod framing;
mod length_prefix;
mod lines;
mod payload;
mod varint;

pub use chunk::Chunk;
#[cfg(any(test, fuzzing))]
pub(crate) use chunk::Extent;
pub use decoder::FrameDecoder;
pub(crate) use decoder::{Cut, Need, WholeFrames};
pub use encoder::{FrameEncoder, FrameWriter};
pub(crate) use encoder::{append, append_at_once, envelope, envelope_of, write_limit};
pub use format::{Decoded, Envelope, FrameFormat};
pub use framing::Framing;
pub use length_prefix::LengthPrefix;
pub use lines::Lines;
pub use payload::Frame;

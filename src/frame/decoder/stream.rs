//! Frames that are not held whole: their payload is passed on as it arrives.

use super::{BOUNDARY, Cut, FrameDecoder, State};
use crate::error::DecodeError;
use crate::frame::chunk::Extent;
use crate::frame::{Framing, delimiter};

impl FrameDecoder {
    /// Does not hold frames with a payload of more than `bytes`: they are cut into chunks.
    pub(crate) fn stream_frames_over(mut self, bytes: u64) -> Self {
        self.whole_max = whole_max(&self.framing, self.max_frame_len, bytes);
        self
    }

    /// Starts on a frame that is too long to be held, whose extent is known.
    #[cold]
    pub(super) fn begin_stream(
        &mut self,
        total: u64,
        trailer: u32,
        input: &[u8],
    ) -> Result<(), DecodeError> {
        if total > self.max_frame_len {
            return Err(self.too_large(total, input));
        }
        self.state = State::Stream {
            at: 0,
            total,
            trailer,
        };
        Ok(())
    }

    /// Starts on a frame that is too long to be held, if it is and its format does not need to see it whole.
    pub(super) fn begin_line(&mut self, seen: usize) -> bool {
        let delimiter = self.framing.as_delimiter();
        match delimiter.filter(|_| seen as u64 > self.whole_max) {
            Some(delimiter) => {
                self.state = State::Line { at: 0, delimiter };
                true
            }
            None => false,
        }
    }

    /// Passes on what was held of a frame before it turned out to be too long for that.
    pub(super) fn cut_held_chunk<'i>(&mut self) -> Option<Cut<'i>> {
        let held = std::mem::take(&mut self.held);
        if let State::Line { at, .. } = &mut self.state {
            *at = held.len() as u64;
        }
        let extent = Extent {
            offset: 0,
            total: None,
            is_last: false,
        };
        Some(Cut::HeldChunk(extent, held))
    }

    /// The same, for a frame whose extent has been found. `whole` is the end of what is held, and lay in the input.
    pub(super) fn stream_held<'i>(
        &mut self,
        header: usize,
        total: u64,
        trailer: u32,
        input: &mut &'i [u8],
        whole: &'i [u8],
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        let mut held = std::mem::take(&mut self.held);
        self.begin_stream(total, trailer, &held)?;
        let first = match usize::try_from(total) {
            Ok(total) => header.saturating_add(total).min(held.len()),
            Err(_) => held.len(),
        };
        // What lies behind the payload is looked at again where it lies in the input: without `whole` there was no frame.
        let behind = (held.len() - first).min(whole.len());
        *input = &whole[whole.len() - behind..];
        held.truncate(first);
        held.drain(..header);
        let at = held.len() as u64;
        let is_last = at == total;
        if held.is_empty() {
            // There was the header, and nothing of the payload yet.
            self.state = State::Stream { at, total, trailer };
            return self.cut_chunk(input);
        }
        self.state = if is_last {
            skip_trailer(input, total, trailer)
        } else {
            State::Stream { at, total, trailer }
        };
        let extent = Extent {
            offset: 0,
            total: Some(total),
            is_last,
        };
        Ok(Some(Cut::HeldChunk(extent, held)))
    }

    /// The next chunk of the frame that is being streamed.
    #[cold]
    #[inline(never)]
    pub(super) fn cut_chunk<'i>(
        &mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        match self.state {
            _ if input.is_empty() => Ok(None),
            State::Stream { at, total, trailer } if at == total => {
                // The last chunk was delivered; its trailer was on its way.
                self.state = skip_trailer(input, total, trailer);
                self.cut_chunk(input)
            }
            State::Stream { at, total, trailer } => {
                Ok(Some(self.cut_counted(input, at, total, trailer)))
            }
            State::Line { at, delimiter } => Ok(Some(self.cut_line(input, at, delimiter))),
            State::Header { .. } | State::Body { .. } => self.cut_borrowed(input),
        }
    }

    fn cut_counted<'i>(
        &mut self,
        input: &mut &'i [u8],
        at: u64,
        total: u64,
        trailer: u32,
    ) -> Cut<'i> {
        let len = usize::try_from(total - at).map_or(input.len(), |left| left.min(input.len()));
        let (bytes, rest) = input.split_at(len);
        *input = rest;
        let end = at + len as u64;
        let is_last = end == total;
        self.state = if is_last {
            skip_trailer(input, total, trailer)
        } else {
            State::Stream {
                at: end,
                total,
                trailer,
            }
        };
        let extent = Extent {
            offset: at,
            total: Some(total),
            is_last,
        };
        Cut::Chunk(extent, bytes)
    }

    fn cut_line<'i>(&mut self, input: &mut &'i [u8], at: u64, delimiter: u8) -> Cut<'i> {
        let (bytes, is_last) = match delimiter::position(delimiter, input) {
            Some(end) => {
                let bytes = &input[..end];
                *input = &input[end + 1..];
                self.state = BOUNDARY;
                (bytes, true)
            }
            None => {
                let bytes = std::mem::take(input);
                let at = at.saturating_add(bytes.len() as u64);
                self.state = State::Line { at, delimiter };
                (bytes, false)
            }
        };
        let extent = Extent {
            offset: at,
            total: is_last.then(|| at.saturating_add(bytes.len() as u64)),
            is_last,
        };
        Cut::Chunk(extent, bytes)
    }
}

/// The longest payload that is held, and cut whole.
pub(super) fn whole_max(framing: &Framing, max_frame_len: u64, stream_over: u64) -> u64 {
    if framing.is_raw() {
        u64::MAX
    } else {
        max_frame_len.min(stream_over)
    }
}

/// Behind the payload of a streamed frame: skips as much of its trailer as has come.
fn skip_trailer(input: &mut &[u8], total: u64, trailer: u32) -> State {
    let skipped = input.len().min(trailer as usize);
    *input = &input[skipped..];
    match trailer - skipped as u32 {
        0 => BOUNDARY,
        trailer => State::Stream {
            at: total,
            total,
            trailer,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::EncodeError;
    use crate::frame::{Decoded, Envelope, FrameEncoder, FrameFormat};

    /// A length, a payload, and three bytes behind it that nobody sees.
    #[derive(Debug)]
    struct Trailing;

    impl FrameFormat for Trailing {
        fn decode(&self, input: &[u8], _: usize) -> Result<Decoded, DecodeError> {
            Ok(Decoded::Frame {
                header: 1,
                payload: u64::from(input[0]),
                trailer: 3,
            })
        }

        fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
            envelope.push_header(&[payload_len as u8]);
            envelope.push_trailer(b"end");
            Ok(())
        }

        fn max_payload_len(&self) -> u64 {
            255
        }
    }

    fn framings() -> Vec<Framing> {
        vec![
            Framing::length_prefix().u8().into(),
            Framing::length_prefix().u64().into(),
            Framing::varint(),
            Framing::delimiter(b'\n'),
            Framing::custom(Trailing),
        ]
    }

    /// What comes out: whole frames, and streamed ones put together again.
    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        frames: Vec<(Vec<u8>, bool)>,
        open: Option<Vec<u8>>,
    }

    impl Seen {
        fn chunk(&mut self, extent: Extent, bytes: &[u8], over: u64) {
            let open = self.open.get_or_insert_default();
            assert_eq!(extent.offset, open.len() as u64, "no gap, no overlap");
            open.extend_from_slice(bytes);
            if let Some(total) = extent.total {
                assert!(total > over && total >= open.len() as u64);
                assert_eq!(extent.is_last, total == open.len() as u64);
            }
            assert!(!bytes.is_empty() || extent.is_last, "a piece of nothing");
            if extent.is_last {
                let frame = self.open.take().expect("it is open");
                self.frames.push((frame, true));
            }
        }

        fn feed(&mut self, decoder: &mut FrameDecoder, mut input: &[u8], over: u64) {
            loop {
                match decoder.cut(&mut input).expect("good frames") {
                    Some(Cut::Borrowed(frame)) => self.frames.push((frame.to_vec(), false)),
                    Some(Cut::Assembled(frame)) => self.frames.push((frame, false)),
                    Some(Cut::Chunk(extent, bytes)) => self.chunk(extent, bytes, over),
                    Some(Cut::HeldChunk(extent, bytes)) => self.chunk(extent, &bytes, over),
                    None => break,
                }
            }
            decoder.hold(input, Vec::new()).expect("memory");
            assert!(
                decoder.held_bytes() as u64 <= over + 16,
                "more is held than has to be"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_longer_comes_in_chunks_and_the_rest_whole(
            which in 0..5_usize,
            lens in prop::collection::vec(0..250_usize, 0..12),
            over in 0..250_u64,
            cuts in prop::collection::vec(1..90_usize, 1..40),
        ) {
            let framing = framings().swap_remove(which);
            let encoder = FrameEncoder::new(framing.clone());
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (number, len) in lens.into_iter().enumerate() {
                let payload: Vec<u8> = (0..len).map(|i| b'a' + ((i + number) % 26) as u8).collect();
                encoder.encode(&payload, &mut wire).expect("it fits");
                expected.push((payload, len as u64 > over));
            }
            let mut decoder = FrameDecoder::new(framing).stream_frames_over(over);
            let mut seen = Seen::default();
            let mut rest = &wire[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                seen.feed(&mut decoder, piece, over);
                rest = after;
            }
            prop_assert!(!decoder.is_inside_frame());
            prop_assert_eq!(seen.open, None);
            // A line that had to be held whole when its end came may have come as one.
            prop_assert_eq!(seen.frames, expected);
        }
    }

    #[test]
    fn a_frame_as_long_as_eight_bytes_can_say_is_counted_and_not_held() {
        let framing = Framing::length_prefix().u64();
        let mut decoder = FrameDecoder::new(framing).stream_frames_over(100);
        let mut input: &[u8] = &[0xff; 1008];
        let mut seen = 0;
        while let Some(cut) = decoder.cut(&mut input).expect("a frame without end") {
            let Cut::Chunk(extent, bytes) = cut else {
                panic!("it is not whole");
            };
            assert_eq!((extent.offset, extent.total), (seen, Some(u64::MAX)));
            seen += bytes.len() as u64;
        }
        assert_eq!(
            (seen, decoder.received(), decoder.held_bytes()),
            (1000, 1000, 0)
        );
        assert!(decoder.is_inside_frame());
    }

    #[test]
    fn a_limit_holds_for_what_is_streamed_too() {
        let framing = Framing::length_prefix();
        let mut decoder = FrameDecoder::new(framing)
            .max_frame_len(1000)
            .stream_frames_over(100);
        let mut input: &[u8] = &1001_u32.to_le_bytes();
        assert!(matches!(
            decoder.cut(&mut input),
            Err(DecodeError::FrameTooLarge {
                declared: 1001,
                max: 1000,
                ..
            })
        ));
    }
}

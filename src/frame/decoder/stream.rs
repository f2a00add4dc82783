//! Frames that are not held whole: their payload is delivered as it arrives.

use super::{BOUNDARY, Cut, FrameDecoder, State};
use crate::error::{DecodeError, FirstBytes};
use crate::frame::Framing;
use crate::frame::chunk::Extent;
use crate::frame::delimiter::Delimiter;

/// The bytes taken from the front of the input in one step.
#[derive(Default)]
struct Piece {
    extent: Extent,
    /// The number of payload bytes to be delivered.
    len: usize,
    /// The number of bytes taken: payload, and trailer after it.
    taken: usize,
}

impl FrameDecoder {
    /// Sets the longest payload that is held, in bytes; longer ones are cut into chunks.
    pub(crate) fn stream_frames_over(mut self, bytes: u64) -> Self {
        self.whole_max = whole_max(&self.framing, self.max_frame_len, bytes);
        self
    }

    /// Starts a frame that is too long to be held and whose extent is known.
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
            checked: self.framing.checks_trailer(trailer as usize),
        };
        Ok(())
    }

    /// Starts a frame of unknown length, if it is too long to be held and its format does not need to see it whole. Its
    /// payload has at least `least` bytes.
    pub(super) fn begin_line(&mut self, least: u64) -> bool {
        let delimiter = self.framing.as_delimiter();
        match delimiter.filter(|_| least > self.whole_max) {
            Some(delimiter) => {
                self.state = State::Line {
                    at: 0,
                    max: self.max_frame_len,
                    delimiter,
                };
                true
            }
            None => false,
        }
    }

    /// Delivers the held part of a frame that turned out to be too long to be held.
    pub(super) fn cut_held_chunk<'i>(&mut self) -> Option<Cut<'i>> {
        let mut held = std::mem::take(&mut self.held);
        if let State::Line { at, delimiter, .. } = &mut self.state {
            let payload = delimiter.payload(&held).len();
            self.held = held.split_off(payload);
            *at = payload as u64;
        }
        let extent = Extent {
            offset: 0,
            total: None,
            is_last: false,
        };
        Some(Cut::HeldChunk(extent, held))
    }

    /// Like [`cut_held_chunk`](Self::cut_held_chunk), for a frame whose extent was found. `whole` is the end of the
    /// held bytes, taken from the input.
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
        let payload_end = usize::try_from(total)
            .map_or(held.len(), |total| header.saturating_add(total))
            .min(held.len());
        let frame_end = payload_end.saturating_add(trailer as usize).min(held.len());
        // Without `whole` the extent was not known, so the frame does not end before that.
        let excess = (held.len() - frame_end).min(whole.len());
        *input = &whole[whole.len() - excess..];
        held.truncate(frame_end);
        held.drain(..header);
        let piece = self.take_piece(&held)?;
        self.held = held.split_off(piece.taken);
        held.truncate(piece.len);
        if held.is_empty() {
            // Only the header has arrived, and no payload that can be delivered yet.
            return Ok(None);
        }
        Ok(Some(Cut::HeldChunk(piece.extent, held)))
    }

    /// Returns the next chunk of the current frame.
    #[cold]
    #[inline(never)]
    pub(super) fn cut_chunk<'i>(
        &mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        match self.state {
            _ if input.is_empty() => Ok(None),
            State::Stream { .. } => {
                let front = *input;
                let piece = self.take_piece(front)?;
                *input = &front[piece.taken..];
                match piece {
                    // Wait for the rest of the trailer.
                    Piece { taken: 0, .. } => Ok(None),
                    // The last chunk was cut before; this was its trailer.
                    Piece { len: 0, .. } => self.cut_chunk(input),
                    Piece { len, extent, .. } => Ok(Some(Cut::Chunk(extent, &front[..len]))),
                }
            }
            State::Line { at, max, delimiter } => self.cut_line(input, at, max, delimiter),
            State::Header { .. } | State::Body { .. } => self.cut_borrowed(input),
        }
    }

    /// Takes the next piece of the current frame from `input`: payload, then trailer. A trailer that has to be checked
    /// is taken together with the last byte of the payload, so the last chunk always belongs to a valid frame.
    fn take_piece(&mut self, input: &[u8]) -> Result<Piece, DecodeError> {
        let State::Stream {
            at,
            total,
            trailer,
            checked,
        } = self.state
        else {
            return Ok(Piece::default());
        };
        let left = usize::try_from(total - at).unwrap_or(usize::MAX);
        let (payload, behind) = input.split_at(left.min(input.len()));
        let mut len = payload.len();
        let mut skipped = 0;
        if at + len as u64 == total {
            match behind.get(..trailer as usize) {
                Some(bytes) if checked => {
                    self.framing.check_trailer(bytes)?;
                    skipped = bytes.len();
                }
                None if checked => len -= 1,
                _ => skipped = behind.len().min(trailer as usize),
            }
        }
        let end = at + len as u64;
        let trailer = trailer - skipped as u32;
        self.state = if end == total && trailer == 0 {
            BOUNDARY
        } else {
            State::Stream {
                at: end,
                total,
                trailer,
                checked,
            }
        };
        Ok(Piece {
            extent: Extent {
                offset: at,
                total: Some(total),
                is_last: end == total,
            },
            len,
            taken: len + skipped,
        })
    }

    fn cut_line<'i>(
        &mut self,
        input: &mut &'i [u8],
        at: u64,
        max: u64,
        delimiter: Delimiter,
    ) -> Result<Option<Cut<'i>>, DecodeError> {
        let front = *input;
        let end = delimiter.cut(input);
        let is_last = end.is_some();
        let bytes = end.unwrap_or_else(|| {
            let bytes = delimiter.payload(input);
            *input = &input[bytes.len()..];
            bytes
        });
        if bytes.is_empty() && !is_last {
            return Ok(None);
        }
        let end = at.saturating_add(bytes.len() as u64);
        if end > max {
            return Err(DecodeError::FrameTooLarge {
                declared: end,
                max,
                first_bytes: FirstBytes::of(front),
            });
        }
        self.state = if is_last {
            BOUNDARY
        } else {
            State::Line {
                at: end,
                max,
                delimiter,
            }
        };
        let extent = Extent {
            offset: at,
            total: is_last.then_some(end),
            is_last,
        };
        Ok(Some(Cut::Chunk(extent, bytes)))
    }

    /// Returns the byte that ends an unfinished line at EOF, if EOF ends it.
    pub(crate) fn end_at_eof(&self) -> Option<u8> {
        match self.state {
            State::Line { delimiter, .. } => delimiter.at_eof(),
            State::Header { .. } if !self.held.is_empty() => {
                self.framing.as_delimiter().and_then(Delimiter::at_eof)
            }
            _ => None,
        }
    }
}

/// Returns the longest payload that is held and cut whole.
pub(super) fn whole_max(framing: &Framing, max_frame_len: u64, stream_over: u64) -> u64 {
    if framing.is_raw() {
        u64::MAX
    } else {
        max_frame_len.min(stream_over)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::EncodeError;
    use crate::frame::{Decoded, Envelope, FrameEncoder, FrameFormat, Need};

    /// A length, a payload, and three bytes after it that are checked.
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

        fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
            match trailer {
                b"end" => Ok(()),
                _ => Err(DecodeError::malformed("end", trailer)),
            }
        }
    }

    /// Ends with two bytes. Its extent is found after the payload; a part of the end may have arrived before.
    #[derive(Debug)]
    struct Crlf {
        checks: bool,
    }

    impl FrameFormat for Crlf {
        fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError> {
            let start = scanned.saturating_sub(1);
            let end = input[start..].windows(2).position(|pair| pair == b"\r\n");
            Ok(match end {
                Some(at) => Decoded::Frame {
                    header: 0,
                    payload: (start + at) as u64,
                    trailer: 2 + 40 * u32::from(!self.checks),
                },
                None => Decoded::Incomplete,
            })
        }

        fn encode(&self, _: u64, _: &mut Envelope) -> Result<(), EncodeError> {
            Ok(())
        }

        fn max_payload_len(&self) -> u64 {
            u64::MAX
        }

        fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
            assert_eq!((self.checks, trailer), (true, &b"\r\n"[..]));
            Ok(())
        }
    }

    fn framings() -> Vec<Framing> {
        vec![
            Framing::length_prefix().u8().into(),
            Framing::length_prefix().u64().into(),
            Framing::varint(),
            Framing::delimiter(b'\n'),
            Framing::custom(Trailing),
            Framing::length_prefix().u24().big_endian().into(),
            Framing::length_prefix().u16().inclusive().into(),
            Framing::lines().into(),
            Framing::lines().crlf().into(),
        ]
    }

    /// The output of a stream: whole frames, and streamed ones reassembled.
    struct Seen {
        decoder: FrameDecoder,
        over: u64,
        /// The size of the read buffer.
        buffer: usize,
        frames: Vec<(Vec<u8>, bool)>,
        open: Option<Vec<u8>>,
    }

    impl Seen {
        fn new(framing: &Framing, over: u64, buffer: usize) -> Self {
            Self {
                decoder: FrameDecoder::new(framing.clone()).stream_frames_over(over),
                over,
                buffer,
                frames: Vec::new(),
                open: None,
            }
        }

        fn chunk(&mut self, extent: Extent, bytes: &[u8]) {
            let open = self.open.get_or_insert_default();
            assert_eq!(extent.offset, open.len() as u64, "no gap, no overlap");
            open.extend_from_slice(bytes);
            if let Some(total) = extent.total {
                assert!(total > self.over && total >= open.len() as u64);
                assert_eq!(extent.is_last, total == open.len() as u64);
            }
            assert!(!bytes.is_empty() || extent.is_last, "a piece of nothing");
            if extent.is_last {
                let frame = self.open.take().expect("it is open");
                self.frames.push((frame, true));
            }
        }

        /// Decodes a piece of the stream.
        fn feed(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
            let mut front = match self.decoder.need(self.buffer) {
                Need::Prepend => self.decoder.take_held(),
                Need::Fresh | Need::Append | Need::Own => Vec::new(),
            };
            front.extend_from_slice(piece);
            let mut input = &front[..];
            loop {
                match self.decoder.cut(&mut input)? {
                    Some(Cut::Borrowed(frame)) => self.frames.push((frame.to_vec(), false)),
                    Some(Cut::Assembled(mut frame, len)) => {
                        frame.truncate(len);
                        self.frames.push((frame, false));
                    }
                    Some(Cut::Chunk(extent, bytes)) => self.chunk(extent, bytes),
                    Some(Cut::HeldChunk(extent, bytes)) => self.chunk(extent, &bytes),
                    None => return self.decoder.hold(input, Vec::new()),
                }
            }
        }

        /// Decodes a whole stream in pieces of these lengths, repeated. At most `most` bytes are held.
        fn feed_all(
            &mut self,
            mut wire: &[u8],
            cuts: &[usize],
            most: u64,
        ) -> Result<(), DecodeError> {
            for cut in cuts.iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                let (piece, rest) = wire.split_at((*cut).min(wire.len()));
                self.feed(piece)?;
                assert!(self.decoder.held_bytes() as u64 <= most);
                wire = rest;
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_is_longer_comes_in_chunks_and_the_rest_whole(
            which in 0..framings().len(),
            lens in prop::collection::vec(0..250_usize, 0..12),
            over in 0..250_u64,
            cuts in prop::collection::vec(1..90_usize, 1..40),
            buffer in prop_oneof![Just(0), 0..1000_usize],
        ) {
            let framing = framings().swap_remove(which);
            let encoder = FrameEncoder::new(framing.clone());
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (number, len) in lens.into_iter().enumerate() {
                let payload: Vec<u8> = (0..len).map(|i| b'a' + ((i + number) % 26) as u8).collect();
                encoder.encode(&payload, &mut wire).expect("it fits");
                expected.push((payload, len as u64 > over));
            }
            let mut seen = Seen::new(&framing, over, buffer);
            seen.feed_all(&wire, &cuts, over + 16).expect("good frames");
            prop_assert!(!seen.decoder.is_inside_frame());
            prop_assert_eq!(seen.open, None);
            // A line that had to be held whole until its end came may be delivered whole.
            prop_assert_eq!(seen.frames, expected);
        }

        /// In a stream of valid frames and one with a wrong trailer, the valid frames are delivered, and the other one
        /// never completely: however the stream is split, and whether frames are held or not.
        #[test]
        fn wrong_trailer_is_an_error_in_every_split(
            lens in prop::collection::vec(0..60_usize, 1..6),
            wrong in 0..3_usize,
            over in 0..60_u64,
            cuts in prop::collection::vec(1..20_usize, 1..40),
            buffer in prop_oneof![Just(0), 0..1000_usize],
        ) {
            let framing = Framing::custom(Trailing);
            let encoder = FrameEncoder::new(framing.clone());
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for len in lens {
                let payload = vec![b'x'; len];
                encoder.encode(&payload, &mut wire).expect("it fits");
                expected.push((payload, len as u64 > over));
            }
            expected.pop();
            let at = wire.len() - 3 + wrong;
            wire[at] ^= 1;
            let mut seen = Seen::new(&framing, over, buffer);
            let error = seen.feed_all(&wire, &cuts, over + 16);
            let expected_error = DecodeError::malformed("end", &wire[wire.len() - 3..]);
            prop_assert_eq!(error, Err(expected_error));
            prop_assert_eq!(seen.frames, expected);
        }

        /// An end of which a part was held when the rest came belongs only to its own frame.
        #[test]
        fn frames_whose_extent_is_found_at_their_end_come_whole_or_in_pieces(
            lens in prop::collection::vec(0..60_usize, 1..6),
            checks: bool,
            over in 0..60_u64,
            cuts in prop::collection::vec(1..20_usize, 1..40),
            buffer in prop_oneof![Just(0), 0..1000_usize],
        ) {
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for len in lens {
                wire.resize(wire.len() + len, b'x');
                wire.extend_from_slice(b"\r\n");
                wire.resize(wire.len() + 40 * usize::from(!checks), b'-');
                expected.push((vec![b'x'; len], len as u64 > over));
            }
            let framing = Framing::custom(Crlf { checks });
            let mut seen = Seen::new(&framing, over, buffer);
            // No limit on held bytes: the format needs the whole frame.
            seen.feed_all(&wire, &cuts, u64::MAX).expect("good frames");
            prop_assert!(!seen.decoder.is_inside_frame());
            prop_assert_eq!(seen.frames, expected);
        }
    }

    /// Every short text, in every split: a CR belongs to the line exactly if no LF follows it, in chunks as well.
    #[test]
    fn lines_come_whole_or_in_chunks_in_every_split() {
        let texts = (1..=5_u32).flat_map(|len| {
            let letter = move |code: u32, at| b"a\r\n"[code as usize / 3_usize.pow(at) % 3];
            (0..3_u32.pow(len)).map(move |code| (0..len).map(|at| letter(code, at)).collect())
        });
        let framing = Framing::from(Framing::lines().deliver_unterminated());
        for text in texts {
            let text: Vec<u8> = text;
            let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
            // Behind the last LF is a line only if something is there.
            lines.pop_if(|line| line.is_empty());
            let lines = lines
                .into_iter()
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec());
            let lines: Vec<_> = lines.collect();
            for (over, buffer) in [(0, 0), (0, 100), (1, 0), (1, 100), (2, 100)] {
                let whole = |line: &Vec<u8>| (line.clone(), line.len() > over);
                let expected: Vec<_> = lines.iter().map(whole).collect();
                for mask in 0..1_u32 << (text.len() - 1) {
                    let mut seen = Seen::new(&framing, over as u64, buffer);
                    let mut start = 0;
                    for end in 1..=text.len() {
                        if end == text.len() || mask & 1 << (end - 1) != 0 {
                            seen.feed(&text[start..end]).expect("no line is too long");
                            assert!(seen.decoder.held_bytes() <= over + 1);
                            start = end;
                        }
                    }
                    if let Some(end) = seen.decoder.end_at_eof() {
                        seen.feed(&[end]).expect("no line is too long");
                    }
                    let context = format!("{:?} in {mask:b} over {over}", text.escape_ascii());
                    assert_eq!(seen.frames, expected, "{context}");
                    assert!(!seen.decoder.is_inside_frame(), "{context}");
                }
            }
        }
    }

    #[test]
    fn trailer_of_a_frame_whose_framing_changed_is_skipped() {
        let framing = Framing::custom(Trailing);
        for pieces in [&[&b"\x03a"[..], b"bce", b"Nd"][..], &[b"\x03ab", b"ceNd"]] {
            let mut seen = Seen::new(&framing, 0, 100);
            for (number, piece) in pieces.iter().enumerate() {
                if number == 1 {
                    let anew = seen.decoder.set_framing(Framing::raw(), u64::MAX, u64::MAX);
                    assert_eq!(anew, Ok(Vec::new()));
                }
                seen.feed(piece).expect("nothing is checked");
            }
            assert_eq!(seen.frames, [(b"abc".to_vec(), true)]);
            assert!(!seen.decoder.is_inside_frame());
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

//! The decoder: any bytes, in any pieces, in any format, read in the way in which a connection reads.

use super::format::{Format, Parsed};
use super::input::Input;
use crate::DecodeError;
use crate::frame::{Cut, Extent, FrameDecoder, Need};

/// Decodes a stream in pieces, and compares the frames after each piece with those of a parser that gets the stream as a
/// whole.
pub fn decoder(data: &[u8]) {
    let mut input = Input(data);
    let format = Format::any(&mut input);
    let (max, over) = (input.limit(), input.limit());
    let buffer = input.one_of(&[512, 64, 65_536]);
    let interrupts = input.byte();
    let cuts = input.below(32);
    let cuts = input.take(cuts);
    let wire = input.0;

    let mut stream = Stream::new(format, max, over, buffer, interrupts);
    let mut start = 0;
    // The last piece is the rest.
    for cut in cuts.iter().map(|&cut| usize::from(cut)).chain([wire.len()]) {
        let end = wire.len().min(start + cut);
        let result = stream.receive(&wire[start..end]);
        start = end;
        if !stream.check(&wire[..end], result) {
            return;
        }
    }
    stream.finish(wire);
}

/// A payload, and whether it came in chunks.
type Received = (Vec<u8>, bool);

/// What a stream consists of.
struct Expected {
    frames: Vec<Received>,
    /// Where the first frame begins that is not complete, and what is known of it.
    end: usize,
    rest: Option<Parsed>,
}

struct Stream {
    format: Format,
    max: u64,
    over: u64,
    decoder: FrameDecoder,
    /// The size of the read buffer.
    buffer: usize,
    /// Bits that say after which of the next eight frames a delivery is interrupted.
    interrupts: u8,
    frames: Vec<Received>,
    /// The part of a frame that came in chunks so far.
    open: Option<Vec<u8>>,
}

impl Stream {
    fn new(format: Format, max: u64, over: u64, buffer: usize, interrupts: u8) -> Self {
        let decoder = FrameDecoder::new(format.framing());
        Self {
            format,
            max: max.min(format.framing().max_payload_len()),
            over,
            decoder: decoder.max_frame_len(max).stream_frames_over(over),
            buffer,
            interrupts,
            frames: Vec::new(),
            open: None,
        }
    }

    /// Parses a stream as a whole.
    fn expected(&self, wire: &[u8]) -> Expected {
        let mut expected = Expected {
            frames: Vec::new(),
            end: 0,
            rest: None,
        };
        while expected.end < wire.len() {
            let whole = self.max.min(self.over);
            match self.format.parse(&wire[expected.end..], self.max, whole) {
                Parsed::Frame(payload, len) => {
                    let is_streamed = payload.len() as u64 > self.over;
                    expected.frames.push((payload, is_streamed));
                    expected.end += len;
                }
                rest => {
                    expected.rest = Some(rest);
                    break;
                }
            }
        }
        expected
    }

    /// Reads bytes as a connection does, as many at a time as there is room for.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut unread = bytes.to_vec();
        while !unread.is_empty() {
            let (front, read) = match self.decoder.need(self.buffer) {
                Need::Fresh | Need::Append => {
                    let read = unread.len().min(self.buffer);
                    (unread[..read].to_vec(), read)
                }
                Need::Prepend => {
                    let mut front = self.decoder.take_held();
                    let read = unread.len().min(self.buffer - front.len());
                    front.extend_from_slice(&unread[..read]);
                    (front, read)
                }
                Need::Own => {
                    let window = self.decoder.window(self.buffer).expect("memory");
                    let own = unread.len().min(window.len());
                    window[..own].copy_from_slice(&unread[..own]);
                    self.decoder.advance(own);
                    let read = unread.len().min(own + self.buffer);
                    (unread[own..read].to_vec(), read)
                }
            };
            assert!(read > 0, "there is no room to read into");
            let undelivered = self.deliver(&front)?;
            unread.splice(..read, undelivered);
        }
        Ok(())
    }

    /// Cuts frames. Returns the rest of an interrupted delivery.
    fn deliver(&mut self, front: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut input = front;
        loop {
            if let Some(whole) = self.decoder.whole_frames()
                && let Some(frame) = whole.cut(&mut input)
            {
                self.frames.push((frame.to_vec(), false));
            } else {
                match self.decoder.cut(&mut input)? {
                    Some(Cut::Borrowed(frame)) => self.frames.push((frame.to_vec(), false)),
                    Some(Cut::Assembled(mut frame, len)) => {
                        frame.truncate(len);
                        self.frames.push((frame, false));
                    }
                    Some(Cut::Chunk(extent, bytes)) => self.chunk(extent, bytes),
                    Some(Cut::HeldChunk(extent, bytes)) => self.chunk(extent, &bytes),
                    None => {
                        self.decoder.hold(input, Vec::new())?;
                        return Ok(Vec::new());
                    }
                }
            }
            self.interrupts = self.interrupts.rotate_left(1);
            if self.interrupts & 1 == 1 && self.decoder.held_bytes() == 0 {
                return Ok(input.to_vec());
            }
        }
    }

    fn chunk(&mut self, extent: Extent, bytes: &[u8]) {
        let open = self.open.get_or_insert_default();
        assert_eq!(extent.offset, open.len() as u64, "a gap or an overlap");
        assert!(!bytes.is_empty() || extent.is_last, "a chunk of nothing");
        open.extend_from_slice(bytes);
        if let Some(total) = extent.total {
            assert!(total > self.over, "a short frame comes whole");
            assert_eq!(extent.is_last, total == open.len() as u64);
        }
        if extent.is_last {
            assert!(extent.total.is_some(), "the length is known at the end");
            let frame = self.open.take().expect("it is open");
            self.frames.push((frame, true));
        }
    }

    /// Compares with the parser. Returns whether the stream goes on.
    fn check(&mut self, wire: &[u8], result: Result<(), DecodeError>) -> bool {
        let expected = self.expected(wire);
        assert_eq!(self.frames, expected.frames);
        match (&result, &expected.rest) {
            (Err(DecodeError::FrameTooLarge { max, .. }), Some(Parsed::TooLarge)) => {
                assert_eq!(*max, self.max.min(isize::MAX as u64));
                return false;
            }
            (Err(DecodeError::Malformed { .. }), Some(Parsed::Malformed)) => return false,
            (Ok(()), None | Some(Parsed::Begun(_))) => {}
            (result, rest) => panic!("{result:?}, and not {rest:?}"),
        }
        let known = match &expected.rest {
            Some(Parsed::Begun(known)) => &known[..],
            _ => b"",
        };
        let open = self.open.as_deref().unwrap_or_default();
        assert!(known.starts_with(open), "the wrong bytes are delivered");
        assert_eq!(self.decoder.is_inside_frame(), expected.rest.is_some());
        let held = self.decoder.held_bytes() as u64;
        // `Crlf` needs the whole frame to find its end.
        let most = self.over.saturating_add(34);
        assert!(held <= most || self.format == Format::Crlf);
        assert!(held <= (wire.len() - expected.end) as u64);
        true
    }

    /// Ends the stream.
    fn finish(mut self, wire: &[u8]) {
        let expected = self.expected(wire);
        let is_ended = self.format.ends_at_eof() && expected.rest.is_some();
        assert_eq!(self.decoder.end_at_eof().is_some(), is_ended);
        if is_ended {
            let with_end = [wire, b"\n"].concat();
            let result = self.receive(b"\n");
            assert!(self.check(&with_end, result), "it was valid so far");
            assert!(!self.decoder.is_inside_frame());
            return;
        }
        // What is not delivered can be decoded again, by another decoder.
        let unread = self.decoder.take_wire().expect("memory");
        match self.open {
            None => assert_eq!(unread, wire[expected.end..]),
            Some(_) => assert!(wire.ends_with(&unread)),
        }
    }
}

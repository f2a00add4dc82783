//! Framing, alone: every way to split a short stream, random splits of long ones, and what must be refused.

mod support;

use proptest::prelude::*;
use support::toy::Toy;
use throng::{
    DecodeError, Decoded, EncodeError, Envelope, FrameDecoder, FrameEncoder, FrameFormat, Framing,
};

/// Lines that end with two bytes, between which a read may end.
#[derive(Debug)]
struct Crlf;

impl FrameFormat for Crlf {
    fn decode(&self, input: &[u8], scanned: usize) -> Result<Decoded, DecodeError> {
        let start = scanned.saturating_sub(1);
        let end = input[start..].windows(2).position(|pair| pair == b"\r\n");
        Ok(match end {
            Some(at) => Decoded::Frame {
                header: 0,
                payload: (start + at) as u64,
                trailer: 2,
            },
            None => Decoded::Incomplete,
        })
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
            return Err(EncodeError::Refused {
                expected: "a line without LF",
            });
        }
        Ok(())
    }
}

fn framings() -> Vec<Framing> {
    let prefix = Framing::length_prefix();
    vec![
        prefix.u8().into(),
        prefix.u16().into(),
        prefix.u32().into(),
        prefix.u64().into(),
        prefix.u16().big_endian().into(),
        prefix.u32().big_endian().into(),
        prefix.u64().big_endian().into(),
        prefix.u24().into(),
        prefix.u24().big_endian().into(),
        prefix.u8().inclusive().into(),
        prefix.u16().big_endian().inclusive().into(),
        prefix.u24().inclusive().into(),
        prefix.u32().big_endian().inclusive().into(),
        prefix.u64().inclusive().into(),
        Framing::varint(),
        Framing::delimiter(b'\n'),
        Framing::lines().into(),
        Framing::lines().crlf().into(),
        Framing::custom(Toy::default()),
        Framing::custom(Crlf),
    ]
}

/// Whether a payload can be sent. Lines that end with LF alone cannot end with CR.
fn can_carry(framing: &Framing, payload: &[u8]) -> bool {
    let expected = "a line that does not end with CR";
    let encoded = FrameEncoder::new(framing.clone()).encode(payload, &mut Vec::new());
    encoded != Err(EncodeError::Refused { expected })
}

fn encode(framing: &Framing, payloads: &[Vec<u8>]) -> Vec<u8> {
    let encoder = FrameEncoder::new(framing.clone());
    let mut wire = Vec::new();
    for payload in payloads {
        encoder.encode(payload, &mut wire).expect("it can be sent");
    }
    wire
}

/// Decodes a stream that arrives in pieces ending at `cuts`.
fn decode(
    framing: &Framing,
    wire: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut decoder = FrameDecoder::new(framing.clone());
    let mut frames = Vec::new();
    let mut start = 0;
    for cut in cuts.into_iter().chain([wire.len()]) {
        let mut piece = &wire[start..cut];
        while let Some(frame) = decoder.decode(&mut piece)? {
            frames.push(frame.to_vec());
        }
        assert!(piece.is_empty(), "after None all input is taken");
        start = cut;
    }
    assert!(!decoder.is_inside_frame(), "the stream ends between frames");
    Ok(frames)
}

#[test]
fn short_stream_decodes_alike_in_every_split() {
    let payloads: [&[&[u8]]; 7] = [
        &[b""],
        &[b"", b"", b"a"],
        &[b"ab", b"", b"c"],
        &[b"hello"],
        &[b"a", b"bc", b""],
        &[b"0123456"],
        &[b"one", b"\r", b"two\r"],
    ];
    for framing in framings() {
        for payloads in payloads {
            let mut payloads: Vec<_> = payloads.iter().map(|payload| payload.to_vec()).collect();
            payloads.retain(|payload| can_carry(&framing, payload));
            let wire = encode(&framing, &payloads);
            if wire.len() > 16 {
                continue;
            }
            for mask in 0..1_u32 << wire.len().saturating_sub(1) {
                let cuts = (1..wire.len()).filter(|cut| mask & 1 << (cut - 1) != 0);
                let frames = decode(&framing, &wire, cuts).expect("a valid stream");
                assert_eq!(frames, payloads, "{framing:?}, split {mask:b}");
            }
        }
    }
}

proptest! {
    #[test]
    fn long_stream_decodes_alike_in_random_splits(
        which in 0..framings().len(),
        payloads in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..250), 0..20
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let framing = &framings()[which];
        let mut payloads = payloads;
        for payload in &mut payloads {
            payload.retain(|&byte| byte != b'\n');
        }
        payloads.retain(|payload| can_carry(framing, payload));
        let wire = encode(framing, &payloads);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode(framing, &wire, cuts), Ok(payloads));
    }

    /// Large frames, which are assembled in a buffer of their own.
    #[test]
    fn large_frames_decode_alike_in_random_splits(
        lens in prop::collection::vec(0..300_000_usize, 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let payloads: Vec<Vec<u8>> =
            lens.iter().map(|&len| (0..len).map(|i| (i % 251) as u8).collect()).collect();
        let framing = Framing::length_prefix().into();
        let wire = encode(&framing, &payloads);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode(&framing, &wire, cuts), Ok(payloads));
    }

    /// Nothing that arrives makes the decoder panic, and how it was split makes no difference to what comes out.
    #[test]
    fn noise_decodes_alike_in_random_splits(
        which in 0..framings().len(),
        max in prop_oneof![Just(u64::MAX), 0..100_u64],
        noise in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let run = |cuts: Vec<usize>| {
            let mut decoder = FrameDecoder::new(framings()[which].clone()).max_frame_len(max);
            let mut frames = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([noise.len()]) {
                let mut piece = &noise[start..cut];
                start = cut;
                loop {
                    match decoder.decode(&mut piece) {
                        Ok(Some(frame)) => frames.push(frame.to_vec()),
                        Ok(None) => break,
                        Err(error) => return (frames, Some(std::mem::discriminant(&error))),
                    }
                }
            }
            (frames, None)
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(noise.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(run(cuts), run(Vec::new()));
    }
}

#[test]
fn raw_framing_passes_bytes_as_they_arrive() {
    let mut decoder = FrameDecoder::new(Framing::raw()).max_frame_len(2);
    for piece in [&b"abc"[..], b"", b"d"] {
        let mut input = piece;
        let frame = decoder.decode(&mut input).expect("no framing, no error");
        assert_eq!(
            frame.as_deref(),
            Some(piece).filter(|piece| !piece.is_empty())
        );
        assert!(input.is_empty());
    }
    assert!(!decoder.is_inside_frame());
}

#[test]
fn frame_over_the_limit_is_rejected_by_its_header() {
    let mut decoder = FrameDecoder::new(Framing::length_prefix()).max_frame_len(1000);
    let mut at_limit: &[u8] = &1000_u32.to_le_bytes();
    assert!(matches!(decoder.decode(&mut at_limit), Ok(None)));

    let mut decoder = FrameDecoder::new(Framing::length_prefix()).max_frame_len(1000);
    let mut above: &[u8] = &1001_u32.to_le_bytes();
    let error = decoder.decode(&mut above).expect_err("one byte too many");
    assert!(
        matches!(
            error,
            DecodeError::FrameTooLarge {
                declared: 1001,
                max: 1000,
                ..
            }
        ),
        "{error:?}"
    );
    let mut decoder = FrameDecoder::new(Framing::length_prefix()).max_frame_len(1 << 20);
    let error = decoder
        .decode(&mut &b"GET / HTTP/1.1\r\n"[..])
        .expect_err("HTTP on the wrong port");
    assert_eq!(
        error.to_string(),
        r#"a frame of 542393671 bytes exceeds the limit of 1048576; it begins with "GET / HT""#
    );
}

#[test]
fn line_over_the_limit_is_rejected_before_it_ends() {
    let mut decoder = FrameDecoder::new(Framing::delimiter(b'\n')).max_frame_len(4);
    let mut input = &b"1234"[..];
    assert!(matches!(decoder.decode(&mut input), Ok(None)));
    let mut input = &b"\n1234\n"[..];
    for _ in 0..2 {
        let frame = decoder.decode(&mut input).expect("at the limit");
        assert_eq!(frame.as_deref(), Some(&b"1234"[..]));
    }
    let error = decoder
        .decode(&mut &b"12345"[..])
        .expect_err("too long already");
    assert!(
        matches!(error, DecodeError::FrameTooLarge { max: 4, .. }),
        "{error:?}"
    );
}

#[test]
fn declared_length_reserves_no_memory() {
    // 2^30 bytes, promised.
    let promises: [(Framing, &[u8]); 2] = [
        (
            Framing::length_prefix().u64().into(),
            &[0, 0, 0, 0x40, 0, 0, 0, 0],
        ),
        (Framing::varint(), &[0x80, 0x80, 0x80, 0x80, 0x04]),
    ];
    for (framing, mut promise) in promises {
        let mut decoder = FrameDecoder::new(framing);
        assert!(matches!(decoder.decode(&mut promise), Ok(None)));
        assert!(matches!(decoder.decode(&mut &[0; 100][..]), Ok(None)));
        assert_eq!(decoder.held_bytes(), 100);
    }
}

#[test]
fn only_canonical_varints_are_lengths() {
    let decode = |mut bytes: &[u8]| {
        FrameDecoder::new(Framing::varint())
            .decode(&mut bytes)
            .map(|frame| frame.map(|frame| frame.to_vec()))
    };
    assert_eq!(decode(&[0]), Ok(Some(vec![])));
    assert_eq!(decode(&[1, 7]), Ok(Some(vec![7])));
    assert!(
        matches!(decode(&[0x80, 0]), Err(DecodeError::Malformed { .. })),
        "zero in two bytes"
    );
    assert!(
        matches!(decode(&[0xFF; 10]), Err(DecodeError::Malformed { .. })),
        "endless"
    );
    assert!(matches!(decode(&[0xFF; 9]), Ok(None)), "may still end");
    let mut above = [0xFF; 10];
    above[9] = 2;
    assert!(
        matches!(decode(&above), Err(DecodeError::Malformed { .. })),
        "2^64 and more"
    );
    above[9] = 1;
    assert!(
        matches!(
            decode(&above),
            Err(DecodeError::FrameTooLarge {
                declared: u64::MAX,
                ..
            })
        ),
        "2^64-1 can be said, but not held"
    );
}

#[test]
fn inclusive_length_counts_its_own_bytes() {
    let prefix = Framing::length_prefix().inclusive();
    let prefixes = [
        prefix.u8(),
        prefix.u16(),
        prefix.u24(),
        prefix.u32(),
        prefix.u64(),
    ];
    for (prefix, width) in prefixes.into_iter().zip([1_usize, 2, 3, 4, 8]) {
        let framing = Framing::from(prefix.big_endian());
        assert_eq!(
            framing.max_payload_len(),
            (u64::MAX >> (64 - 8 * width)) - width as u64
        );
        let mut wire = encode(&framing, &[b"abc".to_vec(), Vec::new()]);
        assert_eq!(
            (wire.len(), usize::from(wire[width - 1])),
            (2 * width + 3, width + 3)
        );
        let frames = decode(&framing, &wire, []).expect("a valid stream");
        assert_eq!(frames, [&b"abc"[..], b""]);

        // One less than an empty payload has.
        wire[width - 1] = width as u8 - 1;
        for cuts in [vec![], vec![1]] {
            let error = decode(&framing, &wire, cuts).expect_err("it does not count itself");
            let expected = "a length that counts its own bytes";
            assert!(matches!(error, DecodeError::Malformed { expected: it, .. } if it == expected));
        }
    }
    let encoder = FrameEncoder::new(prefix.u8());
    let refused = encoder.encode(&[0; 255], &mut Vec::new());
    assert_eq!(
        refused,
        Err(EncodeError::PayloadTooLong { len: 255, max: 254 })
    );
    let mut wire = Vec::new();
    encoder.encode(&[0; 254], &mut wire).expect("it fits");
    assert_eq!((wire.len(), wire[0]), (255, 255));
}

#[test]
fn settings_of_a_prefix_do_not_depend_on_their_order() {
    let prefix = Framing::length_prefix();
    assert_eq!(
        prefix.u24().inclusive().big_endian(),
        prefix.big_endian().inclusive().u24()
    );
    assert_eq!(prefix.big_endian().u64().little_endian().u32(), prefix);
    let debug = "LengthPrefix { width: 3, big_endian: true, inclusive: false }";
    assert_eq!(format!("{:?}", prefix.u24().big_endian()), debug);
}

#[test]
fn encoder_rejects_a_length_beyond_the_prefix_width() {
    let encoder = FrameEncoder::new(Framing::length_prefix().u8());
    let mut wire = vec![1, 2, 3];
    assert_eq!(
        encoder.encode(&[0; 256], &mut wire),
        Err(EncodeError::PayloadTooLong { len: 256, max: 255 })
    );
    assert_eq!(wire, [1, 2, 3], "nothing is written of a refused payload");
    encoder.encode(&[0; 255], &mut wire).expect("it fits");
    assert_eq!(wire.len(), 3 + 1 + 255);

    let encoder = FrameEncoder::new(Framing::length_prefix().u16().big_endian());
    assert!(encoder.encode(&vec![0; 65_536], &mut wire).is_err());
    encoder
        .encode(&vec![0; 65_535], &mut wire)
        .expect("it fits");

    let encoder = FrameEncoder::new(Framing::length_prefix().u24());
    assert!(encoder.encode(&vec![0; 1 << 24], &mut wire).is_err());
    encoder
        .encode(&vec![0; (1 << 24) - 1], &mut wire)
        .expect("it fits");
}

#[test]
fn encoder_rejects_a_payload_that_contains_the_delimiter() {
    let encoder = FrameEncoder::new(Framing::delimiter(b'\n'));
    for position in [0, 5, 31, 32, 33, 63, 64, 99] {
        let mut payload = [b'x'; 100];
        payload[position] = b'\n';
        let mut wire = Vec::new();
        assert_eq!(
            encoder.encode(&payload, &mut wire),
            Err(EncodeError::ContainsDelimiter {
                delimiter: b'\n',
                position
            })
        );
        assert!(wire.is_empty());
    }
}

#[test]
fn search_for_a_delimiter_continues_where_it_stopped() {
    // A mebibyte in pieces of 16: quadratic work would take minutes.
    let mut decoder = FrameDecoder::new(Framing::delimiter(0));
    for _ in 0..65_536 {
        assert!(matches!(decoder.decode(&mut &[b'x'; 16][..]), Ok(None)));
    }
    let frame = decoder.decode(&mut &[0][..]).expect("valid");
    assert_eq!(frame.map(|frame| frame.len()), Some(1 << 20));
}

#[test]
fn inconsistent_custom_format_is_an_error() {
    #[derive(Debug)]
    struct Nonsense(Decoded);
    impl FrameFormat for Nonsense {
        fn decode(&self, _: &[u8], _: usize) -> Result<Decoded, DecodeError> {
            Ok(self.0)
        }
        fn encode(&self, _: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
            envelope.push_header(&[0; 33]);
            Ok(())
        }
        fn max_payload_len(&self) -> u64 {
            u64::MAX
        }
    }
    for (header, payload, trailer) in [(0, 0, 0), (9, 0, 0), (usize::MAX, u64::MAX, u32::MAX)] {
        let format = Nonsense(Decoded::Frame {
            header,
            payload,
            trailer,
        });
        let mut decoder = FrameDecoder::new(Framing::custom(format));
        assert!(decoder.decode(&mut &[1, 2][..]).is_err());
    }
    let format = Nonsense(Decoded::Frame {
        header: 0,
        payload: 1,
        trailer: u32::MAX,
    });
    let mut decoder = FrameDecoder::new(Framing::custom(format));
    assert!(matches!(decoder.decode(&mut &[1, 2][..]), Ok(None)));
    assert!(matches!(decoder.decode(&mut &[1, 2][..]), Ok(None)));

    let encoder = FrameEncoder::new(Framing::custom(Nonsense(Decoded::Incomplete)));
    let mut wire = Vec::new();
    assert!(matches!(
        encoder.encode(b"x", &mut wire),
        Err(EncodeError::Refused { .. })
    ));
    assert!(wire.is_empty(), "a header of 33 bytes has no room");
}

#[test]
fn encoding_to_any_buffer_gives_the_same_bytes() {
    use bytes::{BufMut, BytesMut};

    for framing in framings() {
        let encoder = FrameEncoder::new(framing.clone());
        let wire = encode(&framing, &[b"hello".to_vec(), Vec::new()]);
        let (mut vector, mut shared) = (b"old".to_vec(), BytesMut::from("old"));
        let mut exact = vec![0; wire.len()];
        let mut room = &mut exact[..];
        let (mut first, mut second) = ([0; 3], [0; 300]);
        let mut chain = (&mut first[..]).chain_mut(&mut second[..]);
        let buffers: [&mut dyn BufMut; 4] = [&mut vector, &mut shared, &mut room, &mut chain];
        for buffer in buffers {
            encoder.encode_to(b"hello", buffer).expect("there is room");
            encoder.encode_to(b"", buffer).expect("there is room");
        }
        assert_eq!(vector, [b"old", &wire[..]].concat(), "{framing:?}");
        assert_eq!(shared, vector);
        assert_eq!(room.len(), 0);
        assert_eq!(exact, wire);
        assert_eq!([&first[..], &second[..]].concat()[..wire.len()], wire);
    }
}

#[test]
fn buffer_without_room_for_a_frame_is_unchanged() {
    let encoder = FrameEncoder::new(Framing::custom(Toy::default())).max_frame_len(5);
    for room in 0..Toy::OVERHEAD + 5 {
        let mut buffer = vec![b'-'; room];
        let mut out = &mut buffer[..];
        let needed = Toy::OVERHEAD + 5;
        let expected = Err(EncodeError::NoRoom { needed, left: room });
        assert_eq!(encoder.encode_to(b"hello", &mut out), expected);
        assert_eq!(out.len(), room);
        assert_eq!(buffer, vec![b'-'; room]);
    }
    let mut out = Vec::new();
    let error = encoder.encode_to(b"longer", &mut out).expect_err("it is");
    assert!(matches!(
        error,
        EncodeError::PayloadTooLong { len: 6, max: 5 }
    ));
    assert!(out.is_empty());
}

#[test]
fn frame_with_a_wrong_trailer_is_an_error_in_every_split() {
    let framing = Framing::custom(Toy::default());
    let wire = b">\0\0\x02okend>\0\0\x01xenD";
    for mask in 0..1_u32 << (wire.len() - 1) {
        let mut decoder = FrameDecoder::new(framing.clone());
        let (mut frames, mut result, mut start) = (Vec::new(), Ok(()), 0);
        for cut in (1..=wire.len()).filter(|cut| *cut == wire.len() || mask & 1 << (cut - 1) != 0) {
            let mut piece = &wire[start..cut];
            start = cut;
            loop {
                match decoder.decode(&mut piece) {
                    Ok(Some(frame)) => frames.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
        }
        assert_eq!(frames, [b"ok"], "split {mask:b}");
        assert_eq!(result, Err(DecodeError::malformed("end", b"enD")));
    }
}

#[test]
fn trailer_beyond_the_maximum_is_not_checked() {
    #[derive(Debug)]
    struct Long(u32);
    impl FrameFormat for Long {
        fn decode(&self, _: &[u8], _: usize) -> Result<Decoded, DecodeError> {
            Ok(Decoded::Frame {
                header: 1,
                payload: 1,
                trailer: self.0,
            })
        }
        fn encode(&self, _: u64, _: &mut Envelope) -> Result<(), EncodeError> {
            Ok(())
        }
        fn max_payload_len(&self) -> u64 {
            1
        }
        fn check_trailer(&self, trailer: &[u8]) -> Result<(), DecodeError> {
            Err(DecodeError::malformed("another", trailer))
        }
    }
    for (trailer, passes) in [(0, true), (1, false), (32, false), (33, true)] {
        let mut decoder = FrameDecoder::new(Framing::custom(Long(trailer)));
        let wire = vec![b'x'; 2 + trailer as usize];
        let frame = decoder.decode(&mut &wire[..]).map(|frame| frame.is_some());
        assert_eq!(frame.is_ok_and(|frame| frame), passes, "{trailer} bytes");
    }
}

//! Encoding: each way to encode a payload yields the same bytes, which decode to the same payload.

use std::io::Write;

use bytes::BytesMut;

use super::format::Format;
use super::input::Input;
use crate::frame::{FrameDecoder, FrameEncoder, FrameWriter, write_limit};
use crate::write_queue::{Next, WriteQueue};
use crate::{EncodeError, Framing, SendError};

/// Encodes payloads in several ways, and decodes them in pieces.
pub fn round_trip(data: &[u8]) {
    let mut input = Input(data);
    let framing = Format::any(&mut input).framing();
    let max = input.limit();
    let cut = 1 + input.below(100);
    let encoder = FrameEncoder::new(framing.clone()).max_frame_len(max);
    let limit = write_limit(&framing, max);

    let (mut wire, mut payloads) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let len = input.len();
        let fill = input.byte();
        let mut payload = input.take(len).to_vec();
        payload.resize(len, fill);
        let before = wire.clone();
        let result = encoder.encode(&payload, &mut wire);
        let frame = &wire[before.len()..];
        match &result {
            Ok(()) => payloads.push(payload.clone()),
            Err(_) => assert_eq!(wire, before, "nothing is written of a refused payload"),
        }

        let mut growing = BytesMut::from(&before[..]);
        assert_eq!(encoder.encode_to(&payload, &mut growing), result);
        assert_eq!(growing, wire);

        let mut room = vec![0; payload.len() + input.below(20)];
        let fixed = encoder.encode_to(&payload, &mut &mut room[..]);
        match fixed {
            Err(EncodeError::NoRoom { needed, left }) => {
                assert_eq!((needed, left), (frame.len(), room.len()));
                assert!(result.is_ok() && needed > left);
            }
            fixed => {
                assert_eq!(fixed, result);
                assert!(room.starts_with(frame));
            }
        }

        assert_eq!(
            in_place(&framing, limit, &payload, &before),
            (result.clone(), wire.clone())
        );
        let pieces: Vec<_> = payload.chunks(cut).collect();
        let (queued, bytes) = in_chunks(&framing, limit, payload.len(), &pieces);
        match (&queued, &result) {
            (Ok(()), Ok(())) => assert_eq!(bytes, frame),
            (Err(SendError::Encode(_)), Err(_)) => {}
            other => panic!("whole and in chunks: {other:?}"),
        }
    }
    let mut decoder = FrameDecoder::new(framing).max_frame_len(max);
    let mut decoded = Vec::new();
    for mut piece in wire.chunks(cut) {
        while let Some(frame) = decoder.decode(&mut piece).expect("valid frames") {
            decoded.push(frame.to_vec());
        }
    }
    assert_eq!(decoded, payloads);
    assert!(!decoder.is_inside_frame());
}

/// Writes a payload in two pieces behind `before`, as in `send_with`.
fn in_place(
    framing: &Framing,
    limit: u64,
    payload: &[u8],
    before: &[u8],
) -> (Result<(), EncodeError>, Vec<u8>) {
    let mut out = before.to_vec();
    let mut writer = FrameWriter::begin(framing, &mut out).expect("memory");
    let (first, second) = payload.split_at(payload.len() / 2);
    writer.write_all(first).expect("memory");
    writer.write_all(second).expect("memory");
    let result = writer.finish(framing, limit).map(|_| ());
    (result, out)
}

/// Queues a payload in chunks.
fn in_chunks(
    framing: &Framing,
    limit: u64,
    len: usize,
    pieces: &[&[u8]],
) -> (Result<(), SendError>, Vec<u8>) {
    let mut queue = WriteQueue::default();
    let result = queue
        .begin_frame(framing, limit, len as u64)
        .and_then(|()| {
            for piece in pieces {
                queue.push_chunk(piece)?;
            }
            queue.finish_frame()
        });
    let mut bytes = Vec::new();
    while let Next::Write(slice) = queue.next() {
        let len = slice.len();
        bytes.extend_from_slice(slice);
        let _ = queue.advance(len, drop);
    }
    (result, bytes)
}

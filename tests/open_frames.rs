//! Frames that are sent in pieces.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use support::notes::Notes;
use support::scene::Scene;
use support::toy::Toy;
use support::{PATIENCE, Peer, bytes_queued, listening, pattern, turn_until};
use throng::{
    Chunk, Config, ConnectionId, DisconnectCause, EncodeError, Frame, Framing, Handler,
    ListenOptions, Net, SendError,
};

const KIB: u64 = 1024;
const MIB: usize = 1024 * 1024;

#[test]
fn relay_forwards_frames_larger_than_its_memory() {
    /// As in the documentation of `begin_frame`.
    #[derive(Default)]
    struct Relay {
        ends: Vec<ConnectionId>,
        pauses: u32,
        most: (u64, u64),
    }
    impl Relay {
        fn pass_on(&self, net: &mut Net, chunk: &Chunk<'_>) -> Result<(), SendError> {
            let target = self.ends[1];
            if chunk.is_first() {
                net.begin_frame(target, chunk.total().expect("it is told"))?;
            }
            net.push_chunk(target, chunk)?;
            if chunk.is_last() {
                net.finish_frame(target)?;
            }
            Ok(())
        }
    }
    impl Handler for Relay {
        fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
            self.ends.push(id);
        }
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            net.send_frame(self.ends[1], frame).expect("there is room");
        }
        fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
            self.pass_on(net, &chunk).expect("there is room");
            let (queued, held) = (bytes_queued(net, self.ends[1]), net.stats().memory_bytes);
            self.most = (self.most.0.max(queued), self.most.1.max(held));
            if net
                .connection(self.ends[1])
                .is_some_and(|it| it.is_congested())
            {
                self.pauses += 1;
                net.pause(id);
            }
        }
        fn on_drain(&mut self, net: &mut Net, _: ConnectionId) {
            net.resume(self.ends[0]);
        }
    }
    let options = ListenOptions::default().stream_frames_over(10_000);
    let (mut event_loop, addr) = listening(options.high_watermark(128 * KIB));
    let mut relay = Relay::default();
    let mut peers = Vec::new();
    for expected in 1..=2 {
        peers.push(Peer::connect(addr));
        turn_until(&mut event_loop, &mut relay, |relay, _| {
            relay.ends.len() == expected
        });
    }
    let lens = [10, 32 * MIB, 10_000, 10_001, 0];
    let [mut source, mut target] = <[Peer; 2]>::try_from(peers).ok().expect("two");
    let writing = std::thread::spawn(move || {
        for len in lens {
            source.send(&pattern(len));
        }
        source
    });
    // The target does not read before the source has been paused, and then slowly.
    let (go, gone) = channel();
    let reading = std::thread::spawn(move || {
        gone.recv_timeout(PATIENCE).expect("the source is paused");
        for len in lens {
            let mut header = [0; 4];
            target.0.read_exact(&mut header).expect("a header");
            assert_eq!(u32::from_le_bytes(header) as usize, len);
            let expected = pattern(len);
            let mut piece = [0; 20_000];
            for expected in expected.chunks(piece.len()) {
                let piece = &mut piece[..expected.len()];
                target.0.read_exact(piece).expect("more of it");
                assert!(piece == expected);
                std::thread::yield_now();
            }
        }
        target
    });
    turn_until(&mut event_loop, &mut relay, |relay, _| relay.pauses > 0);
    go.send(()).expect("it waits");
    turn_until(&mut event_loop, &mut relay, |_, net| {
        net.stats().frames_sent == lens.len() as u64
    });
    let _peers = (writing.join().expect("all was taken"), reading.join());
    let most = relay.most;
    // The watermark, and what one read brings.
    assert!(most.0 <= 400 * KIB && most.1 <= 400 * KIB, "{most:?}");
    assert_eq!(event_loop.net().stats().memory_bytes, 0);
}

#[test]
fn frames_sent_during_an_open_frame_follow_it_in_order() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    let net = scene.net();
    net.send(id, b"before").expect("there is room");
    net.begin_frame(id, 10).expect("none is open");
    net.send(id, b"one").expect("there is room");
    net.push_chunk(id, b"0123").expect("it belongs there");
    scene.turns();
    assert_eq!(peer.receive(), b"before");
    let mut begun = [0; 8];
    peer.0.read_exact(&mut begun).expect("what there is of it");
    assert_eq!(begun, *b"\x0a\0\0\x000123");
    assert!(scene.looped.is_at_rest());

    let net = scene.net();
    net.send_bytes(id, Bytes::from(pattern(5000)))
        .expect("there is room");
    net.send_reader(id, 5, &b"three"[..]).expect("room");
    net.push_chunk(id, b"").expect("it belongs there");
    net.push_chunk(id, b"456789").expect("it belongs there");
    net.send_with(id, |out| out.write_all(b"four"))
        .expect("there is room");
    scene.turns();
    let waiting = [3, 5000, 4].map(|len| 4 + len).iter().sum::<u64>() + 4;
    assert_eq!(bytes_queued(scene.net(), id), waiting);
    assert_eq!(scene.net().stats().memory_bytes, waiting);
    let net = scene.net();
    net.finish_frame(id).expect("it is complete");
    net.send(id, b"five").expect("there is room");
    scene.until(|_, net| net.stats().frames_sent == 7);
    let mut rest = [0; 6];
    peer.0.read_exact(&mut rest).expect("the rest of it");
    assert_eq!(rest, *b"456789");
    let frames = [(); 5].map(|()| peer.receive());
    assert_eq!(
        frames,
        [&b"one"[..], &pattern(5000), b"three", b"four", b"five"]
    );
    scene.expect_nothing_held();
}

#[test]
fn invalid_chunk_calls_are_rejected_and_change_nothing() {
    let options = ListenOptions::default().max_frame_len(1000);
    let (mut scene, mut peer, id) = Scene::joined(options);
    let net = scene.net();
    let none = [net.push_chunk(id, b"x"), net.finish_frame(id)];
    assert!(
        none.iter()
            .all(|none| matches!(none, Err(SendError::NoFrameOpen)))
    );
    assert!(matches!(
        net.begin_frame(id, 1001),
        Err(SendError::Encode(EncodeError::PayloadTooLong {
            len: 1001,
            max: 1000
        }))
    ));
    assert!(matches!(net.finish_frame(id), Err(SendError::NoFrameOpen)));
    for (piece, missing) in [(&b""[..], 10), (b"0123", 6), (b"456789", 0)] {
        if missing == 10 {
            net.begin_frame(id, 10).expect("none is open");
        }
        net.push_chunk(id, piece).expect("it belongs there");
        let longer = vec![b'x'; missing as usize + 1];
        assert!(matches!(
            net.push_chunk(id, &longer),
            Err(SendError::ChunkTooLong { len, left }) if left == missing && len == longer.len()
        ));
        assert!(matches!(
            net.begin_frame(id, 3),
            Err(SendError::FrameOpen { missing: left }) if left == missing
        ));
        if missing > 0 {
            assert!(matches!(
                net.finish_frame(id),
                Err(SendError::FrameOpen { missing: left }) if left == missing
            ));
        }
    }
    net.finish_frame(id).expect("it is complete");
    assert!(matches!(net.finish_frame(id), Err(SendError::NoFrameOpen)));
    net.begin_frame(id, 0).expect("none is open");
    net.finish_frame(id).expect("an empty frame is a frame");
    net.send(id, b"after").expect("there is room");
    scene.turns();
    let frames = [(); 3].map(|()| peer.receive());
    assert_eq!(frames, [&b"0123456789"[..], b"", b"after"]);
    scene.expect_nothing_held();
    let net = scene.net();
    net.abort(id);
    let gone = [net.begin_frame(id, 1), net.push_chunk(id, b"x")];
    assert!(
        gone.iter()
            .all(|gone| matches!(gone, Err(SendError::Disconnected)))
    );
}

#[test]
fn push_chunk_with_a_delimiter_is_rejected_and_the_frame_continues() {
    let options = ListenOptions::default().framing(Framing::delimiter(b'\n'));
    let (mut scene, mut peer, id) = Scene::joined(options);
    let net = scene.net();
    net.begin_frame(id, 6).expect("none is open");
    net.push_chunk(id, b"abc").expect("it belongs there");
    assert!(matches!(
        net.push_chunk(id, b"d\nf"),
        Err(SendError::Encode(EncodeError::ContainsDelimiter {
            delimiter: b'\n',
            position: 1
        }))
    ));
    net.push_chunk(id, b"def").expect("it is as it was");
    net.finish_frame(id).expect("it is complete");
    net.disconnect(id);
    scene.turns();
    let mut received = String::new();
    peer.0.read_to_string(&mut received).expect("a clean end");
    assert_eq!(received, "abcdef\n");
    drop(peer);
    assert_eq!(scene.end().unsent_frames, 0);
}

#[test]
fn open_frame_does_not_delay_the_end() {
    #[derive(Debug, PartialEq)]
    enum End {
        Disconnect,
        PeerCloses,
        Abort,
    }
    for pushed in [0, 4, 300_000] {
        for end in [End::Disconnect, End::PeerCloses, End::Abort] {
            // No deadline makes it end in time.
            let options = ListenOptions::default().disconnect_timeout(PATIENCE * 10);
            let (mut scene, mut peer, id) = Scene::joined(options);
            let net = scene.net();
            net.begin_frame(id, 9 * MIB as u64).expect("none is open");
            net.push_chunk(id, &pattern(pushed)).expect("it fits");
            let behind = Bytes::from(pattern(5000));
            net.send_bytes(id, behind).expect("there is room");
            if pushed < 1000 {
                scene.turns();
            }
            match end {
                End::Disconnect => assert!(scene.net().disconnect(id)),
                End::PeerCloses => peer.half_close(),
                End::Abort => assert!(scene.net().abort(id)),
            }
            let reading = std::thread::spawn(move || {
                let mut received = Vec::new();
                let result = peer.0.read_to_end(&mut received);
                result.map(|_| received)
            });
            let reason = scene.end();
            let received = reading.join().expect("no panic");
            let cause = &reason.cause;
            match end {
                End::Disconnect => {
                    assert!(matches!(cause, DisconnectCause::ClosedLocally), "{cause}")
                }
                End::PeerCloses => {
                    assert!(matches!(cause, DisconnectCause::PeerClosed), "{cause}");
                }
                End::Abort => assert!(matches!(cause, DisconnectCause::Aborted), "{cause}"),
            }
            assert_eq!(reason.unsent_frames, 2);
            if end == End::Abort {
                let error = received.expect_err("a reset");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                let all = (4 + pushed + 5004) as u64;
                let expected = if pushed < 1000 { 5004 } else { all };
                assert_eq!(reason.unsent_bytes, expected);
            } else {
                let received = received.expect("a clean end");
                assert!(received[..4] == (9 * MIB as u32).to_le_bytes());
                assert!(received[4..] == pattern(pushed));
                assert_eq!(reason.unsent_bytes, 5004);
            }
        }
    }
}

#[test]
fn open_frame_at_the_end_of_the_budget_does_not_delay_the_end() {
    let config = Config::default().write_budget(1);
    let options = ListenOptions::default().disconnect_timeout(Duration::from_millis(200));
    let (mut scene, mut peer) = Scene::<Notes>::new(config, options).apart();
    let id = scene.id;
    let net = scene.net();
    // The header of the reader's frame is one write, what it gives and the piece behind it another.
    net.send_reader(id, 5, &b"hello"[..]).expect("room");
    net.begin_frame(id, 10).expect("none is open");
    net.push_chunk(id, b"0123").expect("it belongs there");
    net.disconnect(id);
    let reading = std::thread::spawn(move || peer.0.read_to_end(&mut Vec::new()));
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    assert_eq!(reason.unsent_frames, 1);
    assert_eq!(reading.join().expect("no panic").ok(), Some(9 + 8));
}

const IDLE: Duration = Duration::from_secs(1000);

/// Makes a connection end.
type EndBy = fn(Scene<Notes, ()>, &Peer);

/// Makes a connection end by `end` while a frame of `framing` is open, of which the peer has received a part. Returns
/// what the peer reads then.
fn end_inside_frame(framing: Framing, end: EndBy) -> std::io::Result<usize> {
    let options = ListenOptions::default().framing(framing);
    let options = options.disconnect_timeout(PATIENCE * 10).idle_timeout(IDLE);
    let (mut scene, mut peer, id) = Scene::joined(options);
    let net = scene.net();
    net.begin_frame(id, 10).expect("none is open");
    net.push_chunk(id, b"0123").expect("it belongs there");
    scene.turns();
    let mut part = vec![0; bytes_sent(&mut scene)];
    peer.0.read_exact(&mut part).expect("the part");
    end(scene, &peer);
    peer.0.read_to_end(&mut part)
}

fn bytes_sent(scene: &mut Scene<Notes, ()>) -> usize {
    let sent = scene.net().stats().bytes_sent;
    sent.try_into().expect("a few bytes")
}

const ENDS: [EndBy; 4] = [
    |mut scene, _| {
        let id = scene.id;
        assert!(scene.net().disconnect(id));
        assert_eq!(scene.end().unsent_frames, 1);
    },
    |scene, peer| {
        peer.half_close();
        assert_eq!(scene.end().unsent_frames, 1);
    },
    |mut scene, _| {
        scene.pass(IDLE);
        let reason = scene.end();
        assert_cause!(reason, DisconnectCause::Idle { .. });
    },
    |scene, _| drop(scene),
];

#[test]
fn connection_that_ends_inside_a_frame_without_a_header_is_reset() {
    // The peer might take a part of a line, or of a stream, for the whole.
    for framing in [
        Framing::delimiter(b'\n'),
        Framing::lines().into(),
        Framing::raw(),
    ] {
        for end in ENDS {
            let error = end_inside_frame(framing.clone(), end).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn connection_that_ends_inside_a_frame_of_known_length_is_closed_with_a_fin() {
    for framing in [Framing::length_prefix().into(), Framing::varint()] {
        let more = end_inside_frame(framing, |mut scene, peer| {
            let id = scene.id;
            assert!(scene.net().disconnect(id));
            scene.turns();
            peer.half_close();
            assert_eq!(scene.end().unsent_frames, 1);
        });
        assert_eq!(more.expect("a clean end"), 0);
    }
}

#[test]
fn pieces_of_an_open_frame_have_room_before_queued_frames() {
    let options = ListenOptions::default().max_queued_bytes(1000);
    let (mut scene, mut peer, id) = Scene::joined(options);
    let net = scene.net();
    net.begin_frame(id, 10).expect("none is open");
    net.push_chunk(id, b"01234").expect("it belongs there");
    while net.send(id, &[7; 96]).is_ok() {}
    scene.turns();
    let net = scene.net();
    net.push_chunk(id, b"56789")
        .expect("only this can make room");
    net.finish_frame(id).expect("it is complete");
    scene.turns();
    assert_eq!(peer.receive(), b"0123456789");
    scene.expect_nothing_held();
}

#[test]
fn custom_format_checks_lengths_and_pieces() {
    let options = ListenOptions::default().framing(Framing::custom(Toy::picky()));
    let (mut scene, mut peer, id) = Scene::joined(options);
    let net = scene.net();
    let refused = |error| match error {
        SendError::Encode(EncodeError::Refused { expected }) => expected,
        error => panic!("{error}"),
    };
    let error = net.begin_frame(id, 0).expect_err("it is empty");
    assert_eq!(refused(error), "at least one byte");
    let rejected = net.send_reader(id, 0, &b"given back"[..]);
    let rejected = rejected.expect_err("it is empty");
    assert_eq!(rejected.value, b"given back");
    assert_eq!(refused(rejected.error), "at least one byte");
    net.begin_frame(id, 4).expect("none is open");
    net.push_chunk(id, b"ab").expect("it belongs there");
    let error = net.push_chunk(id, b"c\0").expect_err("a zero");
    assert_eq!(refused(error), "no zeroes");
    net.push_chunk(id, b"cd").expect("it belongs there");
    net.finish_frame(id).expect("it is complete");
    net.send_reader(id, 4, &b"even"[..]).expect("there is room");
    net.send_reader(id, 2, &b"a\0"[..]).expect("there is room");
    let mut received = Vec::new();
    scene.until(|seen, _| !seen.seen.ends().is_empty());
    let error = peer.0.read_to_end(&mut received).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(received, b">\0\0\x04abcdend>\0\0\x04evenend>\0\0\x02");
    let reason = scene.end();
    assert!(
        matches!(&reason.cause, DisconnectCause::ReaderFailed(error) if error.kind() == ErrorKind::InvalidData),
        "{reason}"
    );
}

#[test]
fn accepted_frame_takes_its_first_piece_with_any_queue_limit() {
    for max in [1, 3, 4, 5] {
        let options = ListenOptions::default().max_queued_bytes(max);
        let (mut scene, mut peer, id) = Scene::joined(options);
        let net = scene.net();
        net.begin_frame(id, 10).expect("none is open");
        net.push_chunk(id, b"").expect("nothing is no piece");
        net.push_chunk(id, b"01234")
            .expect("the frame was accepted");
        assert!(
            net.connection(id).is_some_and(|it| it.is_congested()),
            "{max}"
        );
        let refused = net.push_chunk(id, b"56789");
        assert!(matches!(refused, Err(SendError::QueueFull { .. })), "{max}");
        scene.turns();
        assert!(
            !scene
                .net()
                .connection(id)
                .is_some_and(|it| it.is_congested()),
            "{max}"
        );
        scene.net().push_chunk(id, b"56789").expect("there is room");
        scene.net().finish_frame(id).expect("it is complete");
        scene.turns();
        assert_eq!(peer.receive(), b"0123456789");
        scene.expect_nothing_held();
    }
}

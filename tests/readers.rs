//! Frames that are read when it is their turn: in order, in little memory, and whatever the reader does.

mod support;

use std::collections::VecDeque;
use std::io::{self, Cursor, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use support::scene::Scene;
use support::{bytes_queued, framed, letters, pattern};
use throng::{
    ConnectionId, DisconnectCause, EncodeError, FrameEncoder, Framing, ListenOptions, Net,
    Rejected, SendError, Side,
};

const MIB: usize = 1024 * 1024;
/// What a connection holds at most of a frame that a reader gives.
const WINDOW: u64 = 64 * 1024 + 16;

/// A reader made of a function.
struct Reading<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Reading<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer)
    }
}

/// A reader that answers each call with the next of `answers`, and then with its end.
fn script(answers: impl IntoIterator<Item = io::Result<&'static [u8]>>) -> impl Read + Send {
    let mut answers: VecDeque<_> = answers.into_iter().collect();
    Reading(move |buffer: &mut [u8]| {
        let bytes = answers.pop_front().unwrap_or(Ok(b""))?;
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        if len < bytes.len() {
            answers.push_front(Ok(&bytes[len..]));
        }
        Ok(len)
    })
}

/// A reader of what arrives on a channel; and how often it was called.
fn fed(from: Receiver<Vec<u8>>) -> (impl Read + Send, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let reader = Reading(move |buffer: &mut [u8]| {
        count.fetch_add(1, Ordering::Relaxed);
        match from.try_recv() {
            Ok(piece) => {
                buffer[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
            Err(TryRecvError::Empty) => Err(ErrorKind::WouldBlock.into()),
            Err(TryRecvError::Disconnected) => Ok(0),
        }
    });
    (reader, asked)
}

/// The loop no longer waits for input, which a check at the end of the turn confirms.
#[test]
fn send_refused_behind_a_blocked_reader_holds_the_connection_back() {
    for broadcast in [false, true] {
        let options = ListenOptions::default().max_queued_bytes(1000);
        let (mut scene, mut peer, id) = Scene::joined(options);
        let len = 16 << 20;
        let reader = Cursor::new(vec![7; len]);
        scene
            .net()
            .send_reader(id, len as u64, reader)
            .expect("it is open");
        scene.until_blocked();
        match broadcast {
            true => assert_eq!(scene.net().broadcast(|_| true, b"more").refused, [id]),
            false => assert!(matches!(
                scene.net().send(id, b"more"),
                Err(SendError::QueueFull { max: 1000, .. })
            )),
        }
        assert!(
            scene
                .net()
                .connection(id)
                .is_some_and(|it| it.is_congested())
        );
        scene.turns();
        peer.write(&framed(b"unread"));
        scene.turns();
        assert_eq!(scene.seen.arrived, []);
        let reading = std::thread::spawn(move || peer.receive().len());
        scene.until(|seen, _| !seen.arrived.is_empty() && reading.is_finished());
        assert_eq!(reading.join().expect("it reads"), len);
    }
}

#[test]
fn frames_from_readers_keep_their_place_in_the_queue() {
    let framings = [
        Framing::default(),
        Framing::length_prefix().u64().into(),
        Framing::delimiter(b'\n'),
        Framing::raw(),
    ];
    for framing in framings {
        let options = ListenOptions::default().framing(framing.clone());
        let (mut scene, mut peer, id) = Scene::joined(options);
        let lens = [3, 0, 100_000, 10_000, 1, 12, 65_536, 65_535, 5000, 0];
        let encoder = FrameEncoder::new(framing.clone());
        let mut wire = Vec::new();
        for (number, len) in lens.into_iter().enumerate() {
            let payload = letters(len);
            encoder.encode(&payload, &mut wire).expect("it fits");
            let net = scene.net();
            match number % 5 {
                0 => net.send(id, &payload).expect("there is room"),
                3 => net.send_bytes(id, payload.into()).expect("there is room"),
                _ => net
                    .send_reader(id, len as u64, Cursor::new(payload))
                    .expect("there is room"),
            }
        }
        // They are asked when it is their turn, and not before.
        assert!(bytes_queued(scene.net(), id) < 25_000);
        let len = wire.len();
        let reading = std::thread::spawn(move || {
            let mut received = vec![0; len];
            peer.0.read_exact(&mut received).expect("as much as that");
            (peer, received)
        });
        scene.until(|_, net| net.stats().bytes_sent == len as u64);
        let (_peer, received) = reading.join().expect("all arrived");
        assert!(received == wire, "{framing:?}");
        scene.turns();
        assert_eq!(bytes_queued(scene.net(), id), 0);
        scene.expect_nothing_held();
    }
}

#[test]
fn twenty_mebibytes_from_a_reader_are_never_held_whole() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    let len = 20 * MIB + 7;
    let tile = pattern(251 * 400);
    let mut at = 0;
    let reader = Reading(move |buffer: &mut [u8]| {
        let start = at % tile.len();
        let n = buffer.len().min(tile.len() - start).min(len - at);
        buffer[..n].copy_from_slice(&tile[start..start + n]);
        at += n;
        Ok(n)
    });
    let net = scene.net();
    net.send_reader(id, len as u64, reader).expect("room");
    // Until the sockets are full.
    let mut sent = 0;
    scene.until(|_, net| std::mem::replace(&mut sent, net.stats().bytes_sent) == sent && sent > 0);
    assert!(sent < len as u64, "the sockets hold it all");
    assert!(bytes_queued(scene.net(), id) > 0);
    let reading = std::thread::spawn(move || (peer.receive(), peer));
    scene.until(|_, net| {
        let held = (bytes_queued(net, id), net.stats().memory_bytes);
        assert!(held.0 <= WINDOW && held.1 <= WINDOW, "{held:?} are held");
        net.stats().frames_sent == 1
    });
    let (received, _peer) = reading.join().expect("all arrived");
    assert!(received == pattern(len));
    scene.expect_nothing_held();
}

#[test]
fn reader_can_be_interrupted_and_return_single_bytes() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    let (mut calls, mut payload) = (0, Cursor::new(letters(3000)));
    let reader = Reading(move |buffer: &mut [u8]| {
        calls += 1;
        match calls % 3 {
            0 => payload.read(&mut buffer[..1]),
            _ => Err(ErrorKind::Interrupted.into()),
        }
    });
    scene.net().send_reader(id, 3000, reader).expect("room");
    scene.until(|_, net| net.stats().frames_sent == 1);
    assert_eq!(peer.receive(), letters(3000));
    scene.expect_nothing_held();
}

#[test]
fn reader_that_breaks_its_announcement_ends_the_connection() {
    type Answers = Vec<io::Result<&'static [u8]>>;
    let failing = || Err(ErrorKind::PermissionDenied.into());
    // What it answers, how much of the frame arrives, and why that is the end.
    let cases: [(Answers, usize, &str); 8] = [
        (vec![], 0, "ReaderEnded { missing: 10 }"),
        (vec![Ok(b"1234567")], 7, "ReaderEnded { missing: 3 }"),
        (vec![Ok(b"12345678901")], 0, "ReaderTooLong"),
        (vec![Ok(b"1234567"), Ok(b"8901")], 7, "ReaderTooLong"),
        (vec![failing()], 0, "ReaderFailed(Kind(PermissionDenied))"),
        (
            vec![Ok(b"1234567"), failing()],
            7,
            "ReaderFailed(Kind(PermissionDenied))",
        ),
        (
            vec![Ok(b"1\n2")],
            0,
            "ReaderFailed(Custom { kind: InvalidData",
        ),
        (
            vec![Ok(b"1234567"), Ok(b"8\n0")],
            7,
            "ReaderFailed(Custom { kind: InvalidData",
        ),
    ];
    for (answers, arriving, expected) in cases {
        let case = format!("{answers:?}");
        let options = ListenOptions::default().framing(Framing::delimiter(b'\n'));
        let (mut scene, mut peer, id) = Scene::joined(options);
        let net = scene.net();
        net.send(id, b"before").expect("there is room");
        net.send_reader(id, 10, script(answers)).expect("room");
        net.send(id, b"after").expect("there is room");
        scene.until(|seen, _| !seen.seen.ends().is_empty());
        let mut received = Vec::new();
        // The frame that is cut off does not look like one that ends.
        let error = peer.0.read_to_end(&mut received).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(received, &b"before\n1234567"[..7 + arriving]);
        let reason = scene.end();
        let cause = format!("{:?}", reason.cause);
        assert!(cause.starts_with(expected), "{case}: {cause}");
        assert_eq!((reason.side(), reason.unsent_frames), (Side::Us, 2));
        let unsent = 10 - arriving + b"\nafter\n".len();
        assert_eq!(reason.unsent_bytes, unsent as u64, "{case}");
    }
}

#[test]
fn reader_that_is_too_long_ends_the_connection() {
    let (mut scene, _peer, id) = Scene::joined(ListenOptions::default());
    let reader = script([Ok(&b"1234567"[..]), Ok(b"890"), Ok(b"1")]);
    scene.net().send_reader(id, 10, reader).expect("room");
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::ReaderTooLong);
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (1, 3));
}

#[test]
fn empty_reader_without_framing_sends_nothing() {
    let options = ListenOptions::default().framing(Framing::raw());
    let (mut scene, _peer, id) = Scene::joined(options);
    let net = scene.net();
    net.send_reader(id, 0, io::empty()).expect("room");
    scene.turns();
    let net = scene.net();
    net.send(id, b"the only one").expect("there is room");
    net.abort(id);
    assert_eq!(scene.end().unsent_frames, 1);
}

#[test]
fn reader_without_data_is_not_polled_until_woken() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    scene.seen.echo = true;
    let mut others: Vec<_> = (0..200).map(|_| scene.join().0).collect();
    assert!(!scene.net().wake_reader(id), "there is none");

    let (feed, from) = channel();
    let (reader, asked) = fed(from);
    let net = scene.net();
    net.send_reader(id, 20, reader).expect("there is room");
    net.send(id, b"behind").expect("there is room");
    scene.turns();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(scene.looped.is_at_rest());
    for round in 0..3_u64 {
        for other in &mut others {
            other.send(b"and we?");
        }
        let expected = (round + 1) * 200;
        scene.until(|_, net| net.stats().frames_sent == expected);
        for other in &mut others {
            assert_eq!(other.receive(), b"and we?");
        }
    }
    // What its own peer says is heard; the answer waits behind the reader.
    peer.send(b"and I?");
    scene.until(|seen, _| seen.arrived.len() == 601);
    scene.turns();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it was not woken");
    assert!(scene.looped.is_at_rest(), "it keeps the loop busy");

    for piece in ["four", "score", "and seven y"] {
        feed.send(piece.into()).expect("it is there");
        assert!(scene.net().wake_reader(id));
        assert!(!scene.net().wake_reader(id), "it is awake");
        scene.turns();
    }
    assert_eq!(peer.receive(), b"fourscoreand seven y");
    assert_eq!(peer.receive(), b"behind");
    assert_eq!(peer.receive(), b"and I?");
    assert!(!scene.net().wake_reader(id), "it is done");
    scene.net().abort(id);
    assert!(!scene.net().wake_reader(id), "it is gone");
    scene.turns();
    scene.expect_nothing_held();
}

#[test]
fn several_readers_of_one_connection_wait_for_each_other() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    let mut feeds = Vec::new();
    for _ in 0..3 {
        let (feed, from) = channel();
        let (reader, asked) = fed(from);
        scene.net().send_reader(id, 5, reader).expect("room");
        feeds.push((feed, asked));
    }
    let asked = |feeds: &[(_, Arc<AtomicUsize>)]| -> Vec<usize> {
        let counts = feeds.iter().map(|(_, asked)| asked.load(Ordering::Relaxed));
        counts.collect()
    };
    scene.turns();
    assert_eq!(asked(&feeds), [1, 0, 0]);
    // The last is ready first, and has to wait.
    for (number, (feed, _)) in feeds.iter().enumerate().rev() {
        let piece = vec![b'0' + number as u8; 5];
        feed.send(piece).expect("it is there");
    }
    scene.turns();
    assert_eq!(asked(&feeds), [1, 0, 0], "no reader was woken");
    assert!(scene.net().wake_reader(id));
    scene.until(|_, net| net.stats().frames_sent == 3);
    for expected in [b"00000", b"11111", b"22222"] {
        assert_eq!(peer.receive(), expected);
    }
    scene.expect_nothing_held();
}

#[test]
fn disconnect_waits_for_a_reader_that_can_be_woken() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    let (feed, from) = channel();
    scene.net().send_reader(id, 5, fed(from).0).expect("room");
    scene.turns();
    assert!(scene.net().disconnect(id));
    scene.turns();
    assert!(
        scene.seen.seen.ends().is_empty(),
        "its frame is not complete"
    );
    feed.send(b"hello".into()).expect("it is there");
    assert!(scene.net().wake_reader(id));
    scene.turns();
    assert_eq!(peer.receive(), b"hello");
    peer.expect_end();
    drop(peer);
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (0, 0));
}

#[test]
fn rejected_reader_is_given_back() {
    #[track_caller]
    fn expect_refused(net: &mut Net, id: ConnectionId, len: u64, why: fn(SendError) -> bool) {
        let reader = Cursor::new(b"as it was");
        let Err(Rejected {
            error,
            value: payload,
            ..
        }) = net.send_reader(id, len, reader)
        else {
            panic!("it is accepted");
        };
        assert!(why(error));
        assert_eq!((payload.position(), payload.get_ref()), (0, &b"as it was"));
    }
    let options = ListenOptions::default().framing(Framing::length_prefix().u8());
    let options = options.max_frame_len(200).max_queued_bytes(500);
    let (mut scene, mut peer, id) = Scene::joined(options);
    let addr = scene.addr;
    let net = scene.net();
    for len in [201, 256, u64::MAX] {
        expect_refused(net, id, len, |error| {
            matches!(
                error,
                SendError::Encode(EncodeError::PayloadTooLong { max: 200, .. })
            )
        });
    }
    let connecting = net.connect(addr).expect("an attempt");
    expect_refused(net, connecting, 9, |error| {
        matches!(error, SendError::Connecting)
    });
    for _ in 0..3 {
        net.send(id, &[7; 200]).expect("there is room");
    }
    expect_refused(net, id, 9, |error| {
        matches!(error, SendError::QueueFull { max: 500, .. })
    });
    net.abort(connecting);
    expect_refused(net, connecting, 9, |error| {
        matches!(error, SendError::Disconnected)
    });
    // Nothing of all that is in the stream.
    scene.turns();
    let net = scene.net();
    net.send_reader(id, 2, &b"ok"[..]).expect("there is room");
    net.disconnect(id);
    scene.turns();
    let mut received = Vec::new();
    peer.0.read_to_end(&mut received).expect("a clean end");
    assert_eq!(received.len(), 3 * 201 + 3);
    assert!(received.ends_with(b"\x02ok"));
}

#[test]
fn reader_that_panics_fails_and_the_loop_continues() {
    // The last of them is behind its last byte.
    for (at, arriving) in [(1, 0), (2, 3), (3, 3)] {
        let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
        let (mut other, bystander) = scene.join();
        let mut calls = 0;
        let mut payload = Cursor::new(b"hello");
        let reader = Reading(move |buffer: &mut [u8]| {
            calls += 1;
            assert_ne!(calls, at, "the reader panics");
            let most = buffer.len().min(3);
            payload.read(&mut buffer[..most])
        });
        let net = scene.net();
        net.send_reader(id, 5, reader).expect("there is room");
        net.send(id, b"behind").expect("there is room");
        net.send(bystander, b"me too").expect("there is room");
        let turns = (0..5).map(|_| catch_unwind(AssertUnwindSafe(|| scene.turns())));
        let panics = turns.filter(Result::is_err).count();
        assert_eq!(panics, 1, "the panic passes through one turn");
        assert_eq!(other.receive(), b"me too");

        let mut received = Vec::new();
        let error = peer.0.read_to_end(&mut received).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(received, [&[5, 0, 0, 0], &b"hello"[..arriving]].concat());
        let reason = scene.end();
        assert!(reason.to_string().contains("panicked"), "{reason}");
        let unsent = 5 - arriving + 4 + b"behind".len();
        assert_eq!(
            (reason.unsent_frames, reason.unsent_bytes),
            (2, unsent as u64)
        );
    }
}

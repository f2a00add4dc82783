//! Frames that are refused: which error, what it leaves in the queue, and that the payload is given back.

mod support;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use support::scene::Scene;
use support::toy::Toy;
use support::ways::{Way, encoded, framings, join};
use support::{Peer, Recorder, bytes_queued, framed, listening, pattern, turn_until};
use throng::{
    ConnectionId, EncodeError, EventLoop, Frame, Framing, Handler, ListenOptions, Net, Rejected,
    SendError,
};

#[test]
fn failed_closure_leaves_nothing_in_the_queue() {
    for framing in framings() {
        for before in [&[][..], &[&b"before"[..]]] {
            let mut scene = Scene::with_framing(framing.clone());
            for payload in before {
                scene.send(Way::Copied, payload).expect("it is open");
            }
            let queued = scene.queued();
            let net = &mut scene.looped.net();
            let refused = net.send_with(scene.id, |out| {
                out.write_all(b"half a fr")?;
                assert_eq!(out.payload_len(), 9);
                Err(io::Error::other("changed my mind"))
            });
            let error = refused.expect_err("the closure failed");
            assert!(
                matches!(&error, SendError::Writer(why) if why.to_string() == "changed my mind"),
                "{error}"
            );
            assert_eq!(scene.queued(), queued, "{framing:?}");
            scene.send(Way::Encoded, b"after").expect("it is open");
            let sent = before.iter().copied().chain([&b"after"[..]]);
            assert_eq!(
                scene.into_wire(),
                encoded(&framing, sent),
                "{framing:?} {before:?}"
            );
        }
    }
}

#[test]
fn panic_in_a_closure_leaves_nothing_in_the_queue() {
    for framing in framings() {
        let mut scene = Scene::with_framing(framing.clone());
        scene.send(Way::Copied, b"before").expect("it is open");
        let queued = scene.queued();
        panic_in_a_closure(&mut scene);
        assert_eq!(scene.queued(), queued, "{framing:?}");
        scene.send(Way::Copied, b"after").expect("it is open");
        let wire = encoded(&framing, [&b"before"[..], b"after"]);
        assert_eq!(scene.into_wire(), wire, "{framing:?}");
    }
}

#[test]
fn panic_in_a_closure_does_not_end_the_connection() {
    let mut scene = Scene::with_framing(Framing::default());
    panic_in_a_closure(&mut scene);
    assert_eq!(scene.queued(), 0);
    // Something has to happen, for the connection to be looked at.
    scene.peer.send(b"are you there?");
    scene.until(|seen, _| !seen.frames().is_empty());
    assert!(scene.looped.net().is_connected(scene.id));
    scene.send(Way::Copied, b"yes").expect("it is open");
    assert_eq!(scene.into_wire(), framed(b"yes"));
}

fn panic_in_a_closure(scene: &mut Scene) {
    let (net, id) = (&mut scene.looped.net(), scene.id);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        net.send_with(id, |out| {
            out.write_all(b"half a fr")?;
            panic!("as it should");
        })
    }));
    assert!(outcome.is_err(), "the panic is not swallowed");
}

#[test]
fn payload_above_the_limit_is_rejected_and_payload_at_the_limit_arrives() {
    let prefix = Framing::length_prefix();
    let cases: [(Framing, Option<u64>, u64); 9] = [
        // What the prefix can say.
        (prefix.u8().into(), None, 255),
        (prefix.u16().into(), None, 65_535),
        // What the options say.
        (prefix.u8().into(), Some(200), 200),
        (prefix.into(), Some(1000), 1000),
        (prefix.u64().big_endian().into(), Some(5000), 5000),
        (Framing::varint(), Some(127), 127),
        (Framing::varint(), Some(128), 128),
        (Framing::varint(), Some(20_000), 20_000),
        (Framing::delimiter(b'\n'), Some(0), 0),
    ];
    for (framing, limit, expected) in cases {
        let mut options = ListenOptions::default().framing(framing.clone());
        if let Some(limit) = limit {
            options = options.max_frame_len(limit);
        }
        for way in Way::ALL {
            let mut scene = Scene::listening(options.clone());
            let longest = vec![b'x'; expected as usize];
            let longer = vec![b'x'; expected as usize + 1];
            // What these leave is room enough for a frame that is too long.
            for _ in 0..3 {
                scene.send(Way::Copied, &longest).expect("it may be sent");
            }
            scene.flush();
            scene.send(way, &longest).expect("it may be sent");
            let queued = scene.queued();
            let error = scene.send(way, &longer).expect_err("one byte too long");
            let SendError::Encode(EncodeError::PayloadTooLong { len, max }) = error else {
                panic!("{framing:?} {way:?}: {error}");
            };
            assert_eq!((len, max), (expected + 1, expected), "{framing:?} {way:?}");
            assert_eq!(scene.queued(), queued, "{framing:?} {way:?}");
            scene.send(way, &longest).expect("it may be sent");
            assert!(
                scene.into_wire() == encoded(&framing, [&longest[..]; 5]),
                "{framing:?} {way:?}"
            );
        }
    }
}

#[test]
fn payload_that_contains_the_delimiter_is_rejected_with_its_position() {
    let framing = Framing::delimiter(b'\n');
    for (len, position) in [(1, 0), (5, 2), (5, 4), (100, 77), (9000, 8765)] {
        let mut payload = vec![b'x'; len];
        payload[position] = b'\n';
        for way in Way::ALL {
            let mut scene = Scene::with_framing(framing.clone());
            scene.send(way, b"before").expect("no delimiter");
            let queued = scene.queued();
            let error = scene.send(way, &payload).expect_err("it would be two");
            let SendError::Encode(found) = error else {
                panic!("{way:?}: {error}");
            };
            let expected = EncodeError::ContainsDelimiter {
                delimiter: b'\n',
                position,
            };
            assert_eq!(found, expected, "{way:?}");
            assert_eq!(scene.queued(), queued, "{way:?}");
            scene.send(way, b"after").expect("no delimiter");
            assert_eq!(scene.into_wire(), b"before\nafter\n", "{way:?}");
        }
    }
}

#[test]
fn format_without_empty_frames_works_with_send_with() {
    let mut scene = Scene::with_framing(Framing::custom(Toy::picky()));
    scene.send(Way::Encoded, b"one").expect("it is not empty");
    scene.send(Way::Encoded, b"").expect_err("it is empty");
    scene.send(Way::Encoded, b"three").expect("it is not empty");
    assert_eq!(scene.into_wire(), b">\0\0\x03oneend>\0\0\x05threeend");
}

#[test]
fn send_with_makes_room_for_longer_headers() {
    for len in [0, 1, 127, 128, 300, 16_383, 16_384] {
        let mut scene = Scene::with_framing(Framing::varint());
        let payload = pattern(len);
        scene.send(Way::Encoded, b"before").expect("it is open");
        scene.send(Way::Encoded, &payload).expect("it is open");
        let mut header = vec![len as u8 & 0x7F];
        for shift in [7, 14] {
            if len >> shift > 0 {
                *header.last_mut().expect("a byte") |= 0x80;
                header.push((len >> shift) as u8 & 0x7F);
            }
        }
        let queued = scene.queued();
        assert_eq!(queued, (1 + 6 + header.len() + len) as u64);
        scene.send(Way::Encoded, b"after").expect("it is open");
        let wire = [b"\x06before", &header[..], &payload, b"\x05after"].concat();
        assert!(scene.into_wire() == wire, "{len}");
    }
}

/// A loop with an id that is gone, one that is closing, and one that is connecting.
fn three_that_take_nothing() -> (EventLoop, [(ConnectionId, bool); 3], [Peer; 2]) {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let peers = [(); 2].map(|()| join(&mut event_loop, &mut seen, addr));
    let [gone, closing] = seen.connected()[..] else {
        panic!("two connections: {seen:?}");
    };
    assert!(event_loop.net().abort(gone));
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let net = event_loop.net();
    assert!(net.disconnect(closing));
    let connecting = net.connect(addr).expect("started");
    let ids = [(gone, false), (closing, false), (connecting, true)];
    (event_loop, ids, peers)
}

#[track_caller]
fn assert_refused(error: &SendError, is_connecting: bool) {
    match error {
        SendError::Connecting => assert!(is_connecting),
        SendError::Disconnected => assert!(!is_connecting),
        _ => panic!("{error}"),
    }
}

#[test]
fn closed_closing_and_connecting_connections_are_sent_nothing() {
    let (mut event_loop, ids, _peers) = three_that_take_nothing();
    let net = event_loop.net();
    for (id, is_connecting) in ids {
        for way in [
            Way::Copied,
            Way::Encoded,
            Way::Shared,
            Way::Lent,
            Way::Owned,
        ] {
            let error = way.send(net, id, b"hello").expect_err("not connected");
            assert_refused(&error, is_connecting);
        }
        let never = net.send_with(id, |_| panic!("a frame is encoded that cannot be sent"));
        assert_refused(&never.expect_err("not connected"), is_connecting);
        assert_eq!(bytes_queued(net, id), 0);
    }
    let report = net.send_many(ids.map(|(id, _)| id), b"hello");
    assert_eq!((report.queued, report.gone), (0, 3));
    assert!(report.unfit.is_empty() && report.error.is_none());
    let report = net.broadcast(|_| panic!("a connection is asked about"), b"hello");
    assert_eq!((report.queued, report.gone), (0, 0));
}

#[test]
fn rejected_payload_is_given_back_unchanged() {
    let (mut event_loop, ids, _peers) = three_that_take_nothing();
    let net = event_loop.net();
    for (id, is_connecting) in ids {
        for len in [0, 10, 100_000] {
            let payload = Bytes::from(pattern(len));
            let rejected = net.send_bytes(id, payload.clone()).expect_err("refused");
            assert_same(&rejected, &payload, is_connecting);
            let frame = Frame::from(payload.clone());
            let rejected = net.send_frame(id, frame).expect_err("refused");
            assert_same(&rejected, &payload, is_connecting);
            let frame = Frame::from(&payload[..]);
            let rejected = net.send_frame(id, frame).expect_err("refused");
            assert_same(&rejected, &payload, is_connecting);
        }
    }
}

#[test]
fn payload_that_cannot_be_encoded_is_given_back_unchanged() {
    let mut scene = Scene::with_framing(Framing::length_prefix().u8());
    let (net, id) = (&mut scene.looped.net(), scene.id);
    for len in [256, 100_000] {
        let payload = Bytes::from(pattern(len));
        let rejected = net.send_bytes(id, payload.clone()).expect_err("too long");
        assert!(rejected.value.as_ptr() == payload.as_ptr());
        assert_eq!(rejected.value, payload);
        let rejected = net
            .send_frame(id, payload.clone().into())
            .expect_err("too long");
        assert!(rejected.value.as_ptr() == payload.as_ptr());
        assert_eq!(*rejected.value, payload);
    }
}

#[track_caller]
fn assert_same<T: AsRef<[u8]>>(rejected: &Rejected<T>, payload: &Bytes, is_connecting: bool) {
    assert_refused(&rejected.error, is_connecting);
    let back = rejected.value.as_ref();
    assert!(
        back.as_ptr() == payload.as_ptr() && back == payload,
        "another payload came back"
    );
}

#[test]
fn rejected_frame_can_be_sent_to_another_connection() {
    struct Redirect {
        gone: ConnectionId,
    }
    impl Handler for Redirect {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            let at = frame.as_ptr();
            let rejected = net.send_frame(self.gone, frame).expect_err("it is gone");
            assert!(rejected.value.as_ptr() == at, "it was copied");
            net.send_frame(id, rejected.value).expect("it is open");
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    drop(join(&mut event_loop, &mut seen, addr));
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let mut handler = Redirect {
        gone: seen.connected()[0],
    };
    let mut peer = Peer::connect(addr);
    for len in [10, 200_000] {
        let payload = pattern(len);
        let sent = framed(&payload);
        let mut writer = peer.0.try_clone().expect("a live socket");
        let writing = std::thread::spawn(move || writer.write_all(&sent).expect("it is read"));
        let before = event_loop.net().stats().frames_sent;
        turn_until(&mut event_loop, &mut handler, |_, net| {
            net.stats().frames_sent > before
        });
        writing.join().expect("written");
        assert!(peer.receive() == payload);
    }
}

#[test]
fn send_errors_name_the_limit_and_the_value() {
    let mut scene = Scene::listening(
        ListenOptions::default()
            .framing(Framing::delimiter(b'\n'))
            .max_frame_len(77),
    );
    let too_long = scene.send(Way::Copied, &[b'x'; 99]).expect_err("too long");
    let two = scene.send(Way::Copied, b"on\ne").expect_err("a delimiter");
    let writer = scene
        .looped
        .net()
        .send_with(scene.id, |_| Err(io::ErrorKind::StorageFull.into()))
        .expect_err("the closure failed");
    let why = io::Error::from(io::ErrorKind::StorageFull).to_string();
    let cases = [
        (
            too_long,
            "not sent: a payload of 99 bytes exceeds the limit of 77".into(),
            io::ErrorKind::InvalidInput,
        ),
        (
            two,
            r"not sent: the payload contains the delimiter '\n' at byte 2".into(),
            io::ErrorKind::InvalidInput,
        ),
        (
            writer,
            format!("not sent: the encoding closure failed: {why}"),
            io::ErrorKind::StorageFull,
        ),
        (
            SendError::Disconnected,
            "the connection is closed or closing".into(),
            io::ErrorKind::NotConnected,
        ),
        (
            SendError::Connecting,
            "the connection is not established yet".into(),
            io::ErrorKind::NotConnected,
        ),
    ];
    for (error, text, kind) in cases {
        assert_eq!(error.to_string(), text);
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (kind, text));
    }
    let payload = Bytes::from(vec![b'x'; 99]);
    let rejected = scene.looped.net().send_bytes(scene.id, payload);
    let rejected = rejected.expect_err("too long");
    assert!(
        rejected
            .to_string()
            .contains("99 bytes exceeds the limit of 77")
    );
}

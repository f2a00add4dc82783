//! Frames that arrive in chunks.

mod support;

use support::notes::{Arrived, Notes};
use support::scene::Scene;
use support::toy::Toy;
use support::{Peer, Recorder, framed, letters, listening, pattern, turn_until};
use throng::{Config, DecodeError, DisconnectCause, FrameEncoder, Framing, ListenOptions, Side};

const KIB: u64 = 1024;
const MIB: usize = 1024 * 1024;

fn whole_and_header(total: u32) -> Vec<u8> {
    [&framed(b"whole")[..], &total.to_le_bytes()].concat()
}

#[test]
fn frames_over_the_limit_arrive_in_chunks_and_others_whole_in_order() {
    let framings = [
        Framing::length_prefix().into(),
        Framing::length_prefix().u64().into(),
        Framing::delimiter(b'\n'),
        Framing::length_prefix()
            .u24()
            .big_endian()
            .inclusive()
            .into(),
        Framing::lines().crlf().into(),
    ];
    for framing in framings {
        for over in [0, 100, 100_000] {
            let options = ListenOptions::default().framing(framing.clone());
            let (mut scene, mut peer, _) = Scene::joined(options.stream_frames_over(over as u64));
            let lens = [0, over, 300_000, over + 1, 0, 5, MIB, over, over.max(1) - 1];
            let encoder = FrameEncoder::new(framing.clone());
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for len in lens {
                let payload = letters(len);
                encoder.encode(&payload, &mut wire).expect("it fits");
                expected.push(match len > over {
                    true => Arrived::Streamed(payload),
                    false => Arrived::Whole(payload),
                });
            }
            let writing = std::thread::spawn(move || {
                peer.write(&wire);
                peer
            });
            scene.until(|seen, _| seen.arrived.len() >= lens.len());
            assert!(scene.seen.arrived == expected, "{framing:?}, over {over}");
            let held = scene.seen.most_held;
            assert!(held <= over as u64 + 64 * KIB, "{held} bytes were held");
            assert_eq!(scene.net().stats().frames_received, lens.len() as u64);
            scene.expect_nothing_held();
            drop(writing.join().expect("all was taken"));
        }
    }
}

#[test]
fn listener_with_a_lower_limit_than_the_loop_streams_above_has_no_chunks() {
    let config = Config::default().stream_frames_over(100);
    let options = ListenOptions::default().max_frame_len(10);
    let (mut scene, mut peer) = Scene::<Notes>::new(config, options).apart();
    peer.send(&[7; 10]);
    peer.send(&[7; 11]);
    scene.until(|seen, _| !seen.seen.ends().is_empty());
    assert_eq!(scene.seen.arrived, [Arrived::Whole(vec![7; 10])]);
    let reason = scene.end();
    assert_cause!(
        reason,
        DisconnectCause::Decode(DecodeError::FrameTooLarge { .. })
    );
}

#[test]
fn declared_length_of_2_to_the_63_takes_no_memory() {
    let options = ListenOptions::default().framing(Framing::length_prefix().u64());
    let (mut scene, mut peer, _) = Scene::joined(options.stream_frames_over(1000));
    scene.seen.after_chunk = Some(|net, _| assert_eq!(net.stats().memory_bytes, 0));
    let sent = pattern(3 * MIB);
    peer.write(&(1_u64 << 63).to_le_bytes());
    peer.write(&sent[..MIB]);
    scene.until(|seen, _| seen.coming.len() == MIB);
    scene.expect_nothing_held();
    let writing = std::thread::spawn(move || {
        peer.write(&sent[MIB..]);
        sent
    });
    scene.until(|seen, _| seen.coming.len() == 3 * MIB);
    assert!(writing.join().expect("all was taken") == scene.seen.coming);
    let reason = scene.end();
    let expected = 3 * MIB as u64;
    assert_cause!(reason, DisconnectCause::PeerClosedInsideFrame { received } if received == expected);
    assert_eq!(reason.unshown_bytes, 0, "all of it was shown");
}

#[test]
fn handler_without_on_chunk_ends_the_connection_after_earlier_frames() {
    let lines = Framing::delimiter(b'\n');
    let prefixed = whole_and_header(2000);
    let cases = [
        (Framing::default(), &prefixed[..], Some(2000)),
        (lines.clone(), b"whole\nlonger than ten", None),
        (lines, b"whole\nlonger than ten\n", Some(15)),
    ];
    for (framing, wire, expected) in cases {
        let options = ListenOptions::default().framing(framing);
        let (mut event_loop, addr) = listening(options.stream_frames_over(10));
        let mut seen = Recorder::default();
        let mut peer = Peer::connect(addr);
        peer.write(wire);
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            !seen.frames().is_empty()
        });
        if expected == Some(2000) {
            peer.write(&letters(500));
        }
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            !seen.ends().is_empty()
        });
        assert_eq!(seen.frames(), [b"whole"]);
        let (_, reason) = seen.ends()[0];
        assert_cause!(reason, DisconnectCause::ChunkNotHandled { total } if total == expected);
        assert_eq!(reason.side(), Side::Us);
        assert_eq!(event_loop.net().stats().memory_bytes, 0);
    }
}

#[test]
fn pause_after_each_chunk_loses_no_bytes_and_makes_no_turn() {
    for framing in [Framing::default(), Framing::delimiter(b'\n')] {
        let options = ListenOptions::default().framing(framing.clone());
        let (mut scene, mut peer, id) = Scene::joined(options.stream_frames_over(1000));
        scene.seen.after_chunk = Some(|net, id| assert!(net.pause(id)));
        let lens = [10, 4 * MIB, 1000, 1001, 5, 5000];
        let encoder = FrameEncoder::new(framing);
        let mut wire = Vec::new();
        for len in lens {
            encoder.encode(&letters(len), &mut wire).expect("it fits");
        }
        let writing = std::thread::spawn(move || {
            peer.write(&wire);
            peer
        });
        while scene.seen.arrived.len() < lens.len() {
            scene.until(|seen, net| {
                net.connection(id).is_some_and(|it| it.is_paused())
                    || seen.arrived.len() == lens.len()
            });
            let chunks = scene.seen.chunks;
            scene.turns();
            assert_eq!(scene.seen.chunks, chunks, "it is paused");
            assert!(scene.looped.is_at_rest(), "nothing is to be done");
            assert!(scene.net().resume(id));
        }
        let arrived = lens.map(|len| match len > 1000 {
            true => Arrived::Streamed(letters(len)),
            false => Arrived::Whole(letters(len)),
        });
        assert!(scene.seen.arrived == arrived, "every byte once, in order");
        assert!(scene.seen.chunks > 10, "there was little to pause at");
        scene.expect_nothing_held();
        drop(writing.join().expect("all was taken"));
    }
}

#[test]
fn eof_inside_a_frame_is_reported_after_resume() {
    let options = ListenOptions::default().stream_frames_over(1000);
    let (mut scene, mut peer, id) = Scene::joined(options);
    scene.seen.after_chunk = Some(|net, id| assert!(net.pause(id)));
    peer.write(&[&whole_and_header(10_000)[..], &pattern(4000)].concat());
    scene.until(|_, net| net.connection(id).is_some_and(|it| it.is_paused()));
    // What comes during the pause, the end included, waits for its end.
    peer.write(&pattern(5000)[4000..]);
    drop(peer);
    scene.turns();
    assert!(scene.seen.seen.ends().is_empty(), "the pause goes on");
    while scene.seen.coming.len() < 5000 {
        scene.net().resume(id);
        scene.until(|_, net| net.connection(id).is_some_and(|it| it.is_paused()));
    }
    assert!(scene.seen.coming == pattern(5000));
    scene.turns();
    assert!(scene.seen.seen.ends().is_empty(), "the pause goes on");
    scene.net().resume(id);
    let reason = scene.end();
    assert_cause!(
        reason,
        DisconnectCause::PeerClosedInsideFrame { received: 5000 }
    );
}

#[test]
fn no_chunk_is_delivered_after_disconnect_or_abort_in_on_chunk() {
    for abort in [false, true] {
        let options = ListenOptions::default().stream_frames_over(10);
        let (mut scene, mut peer, id) = Scene::joined(options);
        scene.seen.after_chunk = Some(match abort {
            true => |net, id| assert!(net.abort(id)),
            false => |net, id| assert!(net.disconnect(id)),
        });
        let burst = [framed(b"whole"), framed(&pattern(100)), framed(b"after")];
        peer.write(&[&burst.concat()[..], &framed(&pattern(5000))[..100]].concat());
        scene.until(|_, net| !net.is_connected(id));
        match abort {
            true => peer.expect_reset(),
            false => peer.expect_end(),
        }
        drop(peer);
        scene.until(|seen, _| !seen.seen.ends().is_empty());
        assert_eq!(scene.seen.chunks, 1);
        assert_eq!(scene.seen.arrived.len(), 2, "the frames up to there");
        let cause = scene.end().cause;
        match abort {
            true => assert!(matches!(cause, DisconnectCause::Aborted), "{cause}"),
            false => assert!(matches!(cause, DisconnectCause::ClosedLocally), "{cause}"),
        }
    }
}

/// A connection whose frames have a trailer that is checked; what it is sent comes byte by byte.
fn send_slowly(over: u64, wire: &[u8]) -> Scene<Notes, ()> {
    let options = ListenOptions::default().framing(Framing::custom(Toy::default()));
    let (mut scene, mut peer, _) = Scene::joined(options.stream_frames_over(over));
    for (number, byte) in wire.iter().enumerate() {
        peer.write(std::slice::from_ref(byte));
        scene.until(|_, net| net.stats().bytes_received == number as u64 + 1);
        let held = scene.net().stats().memory_bytes;
        assert!(held <= over + 4, "{held} bytes are held");
        if number + 1 < wire.len() {
            assert!(scene.looped.is_at_rest(), "there is nothing to do");
        }
    }
    scene
}

#[test]
fn last_chunk_is_delivered_after_the_trailer_was_checked() {
    for over in [0, 5, 10] {
        let mut scene = send_slowly(over, b">\0\0\x06abcdefe");
        assert!(scene.seen.arrived.is_empty(), "it may still be wrong");
        if over < 6 {
            assert_eq!(scene.seen.coming, b"abcde");
        }
        // The same again, to its end, with another frame behind it.
        scene = send_slowly(over, b">\0\0\x06abcdefend>\0\0\0end");
        let first = match over < 6 {
            true => Arrived::Streamed(b"abcdef".to_vec()),
            false => Arrived::Whole(b"abcdef".to_vec()),
        };
        assert_eq!(scene.seen.arrived, [first, Arrived::Whole(Vec::new())]);
        scene.expect_nothing_held();
    }
}

#[test]
fn wrong_trailer_ends_the_connection_before_its_frame_is_complete() {
    for over in [0, 5, 10] {
        let mut scene = send_slowly(over, b">\0\0\x01xend>\0\0\x06abcdefeND");
        scene.until(|seen, _| !seen.seen.ends().is_empty());
        assert_eq!(scene.seen.arrived.len(), 1, "the frame before it");
        let reason = scene.end();
        assert!(
            matches!(&reason.cause, DisconnectCause::Decode(error) if *error == DecodeError::malformed("end", b"eND")),
            "{reason}"
        );
    }
}

#[test]
fn release_inside_a_trailer_returns_undelivered_bytes() {
    let options = ListenOptions::default().framing(Framing::custom(Toy::default()));
    let (mut scene, mut peer, id) = Scene::joined(options.stream_frames_over(0));
    peer.write(b">\0\0\x03abce");
    scene.until(|_, net| net.stats().bytes_received == 8);
    assert_eq!(scene.seen.coming, b"ab");
    scene.net().release(id).expect("it is open");
    match scene.end().cause {
        DisconnectCause::Released(released) => assert_eq!(released.unread, b"ce"),
        other => panic!("it was released, not {other:?}"),
    }
}

//! Releases: the loop gives a socket back, with every byte that was not delivered.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use support::by_hand::Loop;
use support::scene::Scene;
use support::{Never, Peer, Recorder, framed, listening, pattern, std_stream, turn_until};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Frame, Framing,
    Handler, ListenOptions, Net, Released, SendError, Stage, Timer,
};

/// Releases a connection that sends "upgrade", after a reply; notes the rest.
#[derive(Default)]
struct Lobby {
    frames: Vec<Vec<u8>>,
    released: Vec<Released>,
    ends: Vec<DisconnectReason>,
    reply: usize,
}

impl Handler for Lobby {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.frames.push(frame.to_vec());
        if &*frame == b"upgrade" {
            net.send(id, &pattern(self.reply)).expect("it is open");
            net.set_timer(Timer::after(Duration::ZERO).on(id), 1);
            net.release(id).expect("it is open");
            assert!(matches!(net.release(id), Err(SendError::Disconnected)));
            assert!(!net.is_connected(id));
            assert!(matches!(net.send(id, b"x"), Err(SendError::Disconnected)));
        }
    }

    fn on_timer(&mut self, _: &mut Net, _: throng::Expired) {
        panic!("the timers of a connection end with it");
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, mut reason: DisconnectReason) {
        match reason.cause {
            DisconnectCause::Released(released) => {
                assert_eq!((reason.unsent_frames, reason.unshown_bytes), (0, 0));
                assert_eq!(reason.stage, Stage::Open);
                self.released.push(*released);
            }
            other => {
                reason.cause = other;
                self.ends.push(reason);
            }
        }
    }
}

#[test]
fn release_returns_the_socket_and_all_undelivered_bytes() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    // Larger than the sockets hold, so that it takes several turns to be written.
    let mut lobby = Lobby {
        reply: 12 << 20,
        ..Lobby::default()
    };
    let mut peer = Peer::connect(addr);
    let rest = [framed(b"not for you"), b"GET / HTTP".to_vec()].concat();
    peer.write(&[framed(b"hello"), framed(b"upgrade"), rest.clone()].concat());
    let reader = std::thread::spawn(move || {
        let reply = peer.receive();
        (peer, reply)
    });
    turn_until(&mut event_loop, &mut lobby, |lobby, _| {
        !lobby.released.is_empty()
    });
    assert_eq!(lobby.frames, [&b"hello"[..], b"upgrade"]);
    let released = lobby.released.remove(0);
    assert_eq!(event_loop.net().stats().memory_bytes, 0);
    assert_eq!(event_loop.net().connection_count(), 0);
    let (mut peer, reply) = reader.join().expect("no panic");
    assert!(
        reply == pattern(12 << 20),
        "what was sent before is written"
    );
    // What arrives later belongs to the new owner of the socket.
    peer.write(b"/1.1");
    let mut stream = std_stream(released.stream);
    let mut more = [0; 4];
    stream.read_exact(&mut more).expect("it is open");
    assert_eq!(
        [&released.unread[..], &more].concat(),
        [&rest[..], b"/1.1"].concat()
    );
    stream.write_all(&framed(b"200 OK")).expect("it is open");
    assert_eq!(peer.receive(), b"200 OK");
}

#[test]
fn release_returns_a_partial_frame_with_its_header() {
    let framings = [Framing::from(Framing::length_prefix()), Framing::varint()];
    // Held whole, or to be shown in pieces.
    let ways = framings.iter().flat_map(|one| [(one, u64::MAX), (one, 10)]);
    for (framing, over) in ways {
        let config = Config::default()
            .framing(framing.clone())
            .stream_frames_over(over);
        let mut whole = Vec::new();
        throng::FrameEncoder::new(framing.clone())
            .encode(&pattern(100_000), &mut whole)
            .expect("it can be said");
        let header = whole.len() - 100_000;
        for part in [1, 3, 4, 5, 50_000, 99_999] {
            // What was shown is gone.
            if over < u64::MAX && part > header {
                continue;
            }
            let mut scene = Scene::with(config.clone());
            scene.arrive(&whole[..part]);
            scene.looped.net().release(scene.id).expect("it is open");
            let reason = scene.end();
            let DisconnectCause::Released(released) = reason.cause else {
                panic!("{reason}");
            };
            assert!(released.unread == whole[..part], "{part} bytes");
        }
    }
}

#[test]
fn released_connection_continues_in_another_loop_inside_a_frame() {
    let mut scene = Scene::with(Config::default());
    let whole = framed(&pattern(300_000));
    scene.arrive(&whole[..123_456]);
    scene.looped.net().release(scene.id).expect("it is open");
    let mut peer = Peer(scene.peer.0.try_clone().expect("a live socket"));
    let DisconnectCause::Released(released) = scene.end().cause else {
        panic!("it was released");
    };
    let mut other = Loop::new(Config::default());
    other
        .net()
        .adopt_with(released.stream, ConnectOptions::default(), &released.unread)
        .expect("it is taken");
    peer.write(&whole[123_456..]);
    let mut seen = Recorder::echoing();
    other.settle(&mut seen, |seen, _| !seen.frames().is_empty());
    assert!(seen.frames()[0] == pattern(300_000));
}

/// It could not be finished any more, and what was sent behind it could not be written.
#[test]
fn release_with_an_open_frame_is_an_error() {
    let mut scene = Scene::with(Config::default());
    let (net, id) = (&mut scene.looped.net(), scene.id);
    net.begin_frame(id, 10).expect("it is open");
    net.push_chunk(id, b"abc").expect("it is open");
    net.send(id, b"behind").expect("it is open");
    assert!(matches!(
        net.release(id),
        Err(SendError::FrameOpen { missing: 7 })
    ));
    net.push_chunk(id, b"defghij").expect("it is open still");
    net.finish_frame(id).expect("it is whole");
    net.release(id).expect("it is open");
    let mut peer = Peer(scene.peer.0.try_clone().expect("a live socket"));
    let cause = scene.end().cause;
    assert!(matches!(cause, DisconnectCause::Released(_)), "{cause:?}");
    assert_eq!(peer.receive(), b"abcdefghij");
    assert_eq!(peer.receive(), b"behind");
}

#[test]
fn release_with_a_blocked_queue_times_out() {
    let mut scene = Scene::with(Config::default().disconnect_timeout(Duration::from_secs(5)));
    scene.block();
    scene.looped.net().release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    scene.pass(Duration::from_secs(4));
    assert!(scene.seen.ends().is_empty());
    scene.pass(Duration::from_secs(2));
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::DrainTimedOut { .. });
    assert_eq!(reason.unsent_frames, 1);
}

#[test]
fn pending_release_reports_a_reset() {
    for parked in [false, true] {
        let mut scene = Scene::with(Config::default());
        if parked {
            let sent = scene.looped.net().send_reader(scene.id, 10, Never);
            assert!(sent.is_ok());
        } else {
            scene.block();
        }
        scene.looped.rest(&mut scene.seen);
        scene.looped.net().release(scene.id).expect("it is open");
        scene.looped.rest(&mut scene.seen);
        let (mut scene, peer) = scene.apart();
        peer.reset();
        // No time passes.
        scene.until(|seen, _| !seen.ends().is_empty());
        let (_, reason) = scene.seen.ends()[0];
        assert_cause!(reason, DisconnectCause::Reset(_));
    }
}

#[test]
fn pending_release_can_be_aborted_and_not_disconnected() {
    let mut scene = Scene::with(Config::default());
    scene.block();
    scene.looped.net().release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    assert!(!scene.looped.net().disconnect(scene.id));
    assert!(scene.looped.net().abort(scene.id));
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::Aborted);
    assert_eq!((reason.unsent_frames, reason.stage), (1, Stage::Closing));
}

#[test]
fn pending_release_has_its_own_deadline_and_makes_no_turns() {
    let second = Duration::from_secs(1);
    let config = Config::default()
        .idle_timeout(second)
        .disconnect_timeout(60 * second);
    let mut scene = Scene::with(config);
    scene.block();
    scene.looped.net().release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    for _ in 0..50 {
        scene.pass(second);
        let next = scene.looped.reactor.next_timeout(scene.looped.now);
        assert_ne!(next, Some(Duration::ZERO));
    }
    assert!(scene.seen.ends().is_empty(), "it is not idle");
    scene.pass(11 * second);
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::DrainTimedOut { .. });
}

#[test]
fn frames_behind_a_release_are_not_delivered() {
    struct Leaves(Vec<Vec<u8>>, Option<Released>);
    impl Handler for Leaves {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            self.0.push(frame.to_vec());
            net.release(id).expect("it is open");
        }
        fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
            if let DisconnectCause::Released(released) = reason.cause {
                self.1 = Some(*released);
            }
        }
    }
    let mut scene = Scene::with(Config::default());
    let rest = [framed(b"not for you"), framed(b"nor this")].concat();
    scene.peer.write(&[framed(b"bye"), rest.clone()].concat());
    let mut leaves = Leaves(Vec::new(), None);
    scene
        .looped
        .settle(&mut leaves, |leaves, _| leaves.1.is_some());
    assert_eq!(leaves.0, [b"bye"]);
    assert!(
        leaves
            .1
            .is_some_and(|released| rest.starts_with(&released.unread))
    );
}

/// What has arrived of a frame is cut anew, and was not.
#[test]
fn release_after_a_change_of_framing_returns_the_bytes_as_received() {
    let whole = framed(&pattern(1000));
    for over in [u64::MAX, 10] {
        for part in [2, 4, 500] {
            // What was shown is gone.
            if over == 10 && part > 4 {
                continue;
            }
            let mut scene = Scene::with(Config::default().stream_frames_over(over));
            scene.arrive(&whole[..part]);
            scene.looped.net().pause(scene.id);
            let changed = scene.looped.net().set_framing(scene.id, Framing::raw());
            assert!(changed);
            assert_eq!(scene.looped.net().stats().memory_bytes, part as u64);
            scene.looped.net().release(scene.id).expect("it is open");
            let reason = scene.end();
            let DisconnectCause::Released(released) = reason.cause else {
                panic!("{reason}");
            };
            assert_eq!(released.unread, whole[..part], "{over} {part}");
        }
    }
    let mut scene = Scene::with(Config::default());
    scene.arrive(&whole[..500]);
    assert!(scene.looped.net().set_framing(scene.id, Framing::raw()));
    scene.looped.rest(&mut scene.seen);
    assert_eq!(scene.seen.frames().concat(), whole[..500]);
}

#[cfg(unix)]
#[test]
fn unix_stream_is_adopted_and_released() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let mut looped = Loop::new(Config::default());
    looped
        .net()
        .adopt(ours, ConnectOptions::default())
        .expect("it is taken");
    theirs
        .write_all(&[framed(b"upgrade"), b"rest".to_vec()].concat())
        .expect("it is open");
    let mut lobby = Lobby::default();
    looped.settle(&mut lobby, |lobby, _| !lobby.released.is_empty());
    let released = lobby.released.remove(0);
    assert_eq!(released.unread, b"rest");
    assert!(matches!(released.stream, throng::Stream::Unix(_)));
}

/// The socket is deregistered: what arrives is for its new owner.
#[cfg(unix)]
#[test]
fn bytes_received_after_a_release_make_no_event() {
    for under_backpressure in [false, true] {
        let config = Config::default().read_under_backpressure(under_backpressure);
        let mut poll = mio::Poll::new().expect("a selector");
        let mut events = mio::Events::with_capacity(8);
        let mut now = std::time::Instant::now();
        let mut reactor = throng::Reactor::attach(poll.registry(), config, now).expect("a loop");
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let id = reactor
            .net()
            .adopt(ours, ConnectOptions::default())
            .expect("it is taken");
        let mut seen = Recorder::default();
        let mut turn = |reactor: &mut throng::Reactor| {
            let wait = Some(Duration::from_millis(5));
            poll.poll(&mut events, wait).expect("a poll");
            now += Duration::from_millis(1);
            reactor.begin_turn(now);
            let count = events
                .iter()
                .map(|event| reactor.handle_event(event))
                .count();
            reactor.finish_turn(&mut seen);
            count
        };
        while !reactor.net().is_connected(id) {
            turn(&mut reactor);
        }
        if under_backpressure {
            let large = pattern(4 << 20);
            reactor.net().send(id, &large).expect("it is open");
        } else {
            assert!(reactor.net().send_reader(id, 5, Never).is_ok());
        }
        // Until nothing happens any more.
        while turn(&mut reactor) > 0 {}
        reactor.net().release(id).expect("it is open");
        while turn(&mut reactor) > 0 {}
        theirs.write_all(b"for its new owner").expect("it is open");
        assert_eq!(turn(&mut reactor), 0);
    }
}

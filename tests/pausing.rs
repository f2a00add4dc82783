//! Paused connections: nothing is read, nothing is lost, and no turn is made for them.

mod support;

use std::io::Read;
use std::time::Duration;

use support::notes::joined;
use support::scene::Scene;
use support::{PATIENCE, Peer, Recorder, bytes_queued, framed, listening, pattern, turn_until};
use throng::{ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, ListenOptions, Net};

const KIB: u64 = 1024;

#[test]
fn pause_during_a_burst_loses_no_frames_and_makes_no_turn() {
    for pause_after in [1, 2, 500, 999, 1000] {
        let (mut event_loop, mut notes, mut peer, id) = joined(ListenOptions::default());
        notes.pause_after = Some(pause_after);
        let wire: Vec<u8> = (0..1000_u32)
            .flat_map(|i| framed(&i.to_le_bytes()))
            .collect();
        peer.write(&wire);
        turn_until(&mut event_loop, &mut notes, |notes, _| {
            notes.seen.frames().len() == pause_after
        });
        // More arrives meanwhile, and an unfinished frame.
        peer.send(&1000_u32.to_le_bytes());
        peer.write(&framed(&1001_u32.to_le_bytes())[..5]);
        for _ in 0..3 {
            event_loop
                .turn(&mut notes, Some(Duration::ZERO))
                .expect("a turn");
        }
        assert_eq!(notes.seen.frames().len(), pause_after);
        assert!(
            event_loop
                .net()
                .connection(id)
                .is_some_and(|it| it.is_paused())
        );
        assert!(
            event_loop.next_timeout() != Some(Duration::ZERO),
            "nothing is runnable"
        );
        #[cfg(unix)]
        assert!(
            !support::is_awake(&event_loop),
            "a paused connection wakes the loop"
        );
        // To send is still possible.
        event_loop.net().send(id, b"wait").expect("it is open");
        turn_until(&mut event_loop, &mut notes, |_, net| {
            bytes_queued(net, id) == 0
        });
        assert_eq!(peer.receive(), b"wait");

        assert!(event_loop.net().resume(id));
        peer.write(&framed(&1001_u32.to_le_bytes())[5..]);
        turn_until(&mut event_loop, &mut notes, |notes, _| {
            notes.seen.frames().len() == 1002
        });
        let numbers = notes.seen.frames().into_iter();
        for (number, frame) in numbers.enumerate() {
            assert_eq!(
                frame,
                (number as u32).to_le_bytes(),
                "every frame once, in order"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn paused_connection_reads_nothing_and_resume_needs_no_event() {
    let (mut event_loop, mut notes, mut peer, id) = joined(ListenOptions::default());
    event_loop.net().pause(id);
    event_loop
        .turn(&mut notes, Some(Duration::ZERO))
        .expect("a turn");
    peer.send(b"first");
    assert!(
        !support::is_awake(&event_loop),
        "a paused connection wakes the loop"
    );
    event_loop.net().resume(id);
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        notes.seen.frames().len() == 1
    });

    notes.pause_after = Some(2);
    peer.write(&[framed(b"second"), framed(b"third")].concat());
    turn_until(&mut event_loop, &mut notes, |_, net| {
        net.connection(id).is_some_and(|it| it.is_paused())
    });
    event_loop
        .turn(&mut notes, Some(Duration::ZERO))
        .expect("a turn");
    assert_eq!(event_loop.next_timeout(), None, "it is parked");
    event_loop.net().resume(id);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop
        .turn(&mut notes, Some(Duration::ZERO))
        .expect("a turn");
    assert_eq!(notes.seen.frames(), [&b"first"[..], b"second", b"third"]);
}

#[test]
fn pauses_at_random_places_lose_no_frames() {
    /// Pauses a connection after each frame with certain numbers; the test resumes it.
    struct Stutter(Vec<u32>, Vec<ConnectionId>);
    impl Handler for Stutter {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            assert!(!net.connection(id).is_some_and(|it| it.is_paused()));
            let number = u32::from_le_bytes(frame[..4].try_into().expect("four bytes"));
            self.0.push(number);
            if number % 7 == 3 {
                net.pause(id);
                self.1.push(id);
            }
            if number % 14 == 3 {
                // At once: the burst goes on in this turn or the next.
                net.resume(id);
            }
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    let writing = std::thread::spawn(move || {
        for number in 0..3000_u32 {
            let mut payload = pattern(number as usize * 37 % 9000 + 4);
            payload[..4].copy_from_slice(&number.to_le_bytes());
            peer.send(&payload);
        }
        peer
    });
    let mut handler = Stutter(Vec::new(), Vec::new());
    turn_until(&mut event_loop, &mut handler, |handler, net| {
        for id in handler.1.drain(..) {
            assert!(net.resume(id));
        }
        handler.0.len() == 3000
    });
    assert!(handler.0.iter().copied().eq(0..3000));
    drop(writing.join().expect("all was taken"));
}

/// More arrives at once than is read at once: some of it is left when a delivery is interrupted again.
#[test]
fn deliveries_that_are_interrupted_again_and_again_keep_the_order() {
    let mut scene: Scene = Scene::listening(ListenOptions::default());
    let frames: Vec<_> = (0..200_u32)
        .map(|number| number.to_le_bytes().repeat(250))
        .collect();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    // The sockets buffer all of it.
    scene.peer.write(&wire);
    scene.peer.half_close();
    let mut handler = Pausing::default();
    scene.looped.settle(&mut handler, |handler, net| {
        net.resume(scene.id);
        !handler.0.ends().is_empty()
    });
    assert!(handler.0.frames() == frames);
}

/// Pauses each connection after each frame, when it has become heavy: then a whole budget is read, of which half is taken
/// again in each of the next turns.
#[derive(Default)]
struct Pausing(Recorder);

impl Handler for Pausing {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.0.on_data(net, id, frame);
        let count = self.0.frames().len();
        if count > 40 {
            net.pause(id);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.0.on_disconnect(net, id, reason);
    }
}

#[test]
fn undelivered_frames_come_before_eof() {
    let (mut event_loop, mut notes, mut peer, id) = joined(ListenOptions::default());
    notes.pause_after = Some(1);
    peer.write(&[framed(b"one"), framed(b"two"), framed(b"three")].concat());
    peer.half_close();
    turn_until(&mut event_loop, &mut notes, |_, net| {
        net.connection(id).is_some_and(|it| it.is_paused())
    });
    for _ in 0..5 {
        event_loop
            .turn(&mut notes, Some(Duration::ZERO))
            .expect("a turn");
    }
    assert!(
        notes.seen.ends().is_empty(),
        "the end is told after the frames"
    );
    event_loop.net().resume(id);
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        !notes.seen.ends().is_empty()
    });
    assert_eq!(notes.seen.frames(), [&b"one"[..], b"two", b"three"]);
    let (_, reason) = notes.seen.ends()[0];
    assert_cause!(reason, DisconnectCause::PeerClosed);
    assert_eq!(reason.unshown_bytes, 0);
}

#[test]
fn reset_of_a_paused_connection_is_reported_at_once() {
    let (mut event_loop, mut notes, mut peer, id) = joined(ListenOptions::default());
    notes.pause_after = Some(1);
    peer.write(&[framed(b"one"), framed(b"two"), framed(b"three")].concat());
    turn_until(&mut event_loop, &mut notes, |_, net| {
        net.connection(id).is_some_and(|it| it.is_paused())
    });
    peer.reset();
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        !notes.seen.ends().is_empty()
    });
    let (_, reason) = notes.seen.ends()[0];
    assert_cause!(reason, DisconnectCause::Reset(_));
    assert_eq!(notes.seen.frames(), [b"one"]);
    let unshown = framed(b"two").len() + framed(b"three").len();
    assert_eq!(reason.unshown_bytes, unshown as u64);
}

#[test]
fn paused_connection_can_be_disconnected_and_aborted() {
    for abort in [false, true] {
        let (mut event_loop, mut notes, mut peer, id) = joined(ListenOptions::default());
        notes.pause_after = Some(1);
        peer.write(&[framed(b"one"), framed(b"two")].concat());
        turn_until(&mut event_loop, &mut notes, |_, net| {
            net.connection(id).is_some_and(|it| it.is_paused())
        });
        let net = event_loop.net();
        net.send(id, b"goodbye").expect("it is open");
        if abort {
            net.abort(id);
        } else {
            net.disconnect(id);
            turn_until(&mut event_loop, &mut notes, |_, net| {
                bytes_queued(net, id) == 0
            });
            assert_eq!(peer.receive(), b"goodbye");
            peer.expect_end();
            drop(peer);
        }
        turn_until(&mut event_loop, &mut notes, |notes, _| {
            !notes.seen.ends().is_empty()
        });
        let (_, reason) = notes.seen.ends()[0];
        match abort {
            true => assert!(matches!(reason.cause, DisconnectCause::Aborted), "{reason}"),
            false => assert!(
                matches!(reason.cause, DisconnectCause::ClosedLocally),
                "{reason}"
            ),
        }
        assert_eq!(reason.unshown_bytes, framed(b"two").len() as u64);
        assert_eq!(notes.seen.frames().len(), 1);
        assert!(!event_loop.net().pause(id) && !event_loop.net().resume(id));
    }
}

#[test]
fn pause_holds_before_the_first_byte_and_while_connecting() {
    struct Shy;
    impl Handler for Shy {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            assert!(net.connection(id).is_some_and(|it| it.is_paused()) || net.pause(id));
        }
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {
            panic!("it is paused");
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    let outside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = outside.local_addr().expect("its address");
    let outbound = event_loop.net().connect(there).expect("an attempt");
    assert!(event_loop.net().pause(outbound));
    let (mut accepted, _) = outside.accept().expect("the attempt");
    std::io::Write::write_all(&mut accepted, &framed(b"early")).expect("to write");
    peer.send(b"early");
    turn_until(&mut event_loop, &mut Shy, |_, net| {
        net.connection_count() == 2
    });
    for _ in 0..5 {
        event_loop
            .turn(&mut Shy, Some(Duration::ZERO))
            .expect("a turn");
    }
    let mut seen = Recorder::default();
    for id in event_loop.net().connections() {
        assert!(event_loop.net().resume(id));
    }
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == 2
    });
    assert_eq!(seen.frames(), [b"early", b"early"]);
}

#[test]
fn relay_that_pauses_its_source_holds_little_and_loses_no_frames() {
    #[derive(Default)]
    struct Relay {
        ends: Vec<ConnectionId>,
        most: u64,
        closed: bool,
    }
    impl Handler for Relay {
        fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
            self.ends.push(id);
        }
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            let target = self.ends[1];
            assert_eq!(id, self.ends[0]);
            net.send_frame(target, frame).expect("there is room");
            self.most = self.most.max(bytes_queued(net, target));
            if net.connection(target).is_some_and(|it| it.is_congested()) {
                net.pause(id);
            }
        }
        fn on_drain(&mut self, net: &mut Net, _: ConnectionId) {
            net.resume(self.ends[0]);
        }
        fn on_disconnect(
            &mut self,
            net: &mut Net,
            id: ConnectionId,
            reason: throng::DisconnectReason,
        ) {
            if id == self.ends[0] {
                assert_cause!(reason, DisconnectCause::PeerClosed);
            }
            self.closed |= id == self.ends[0];
            net.disconnect(self.ends[1]);
        }
    }
    let options = ListenOptions::default().high_watermark(100 * KIB);
    let (mut event_loop, addr) = listening(options.disconnect_timeout(PATIENCE));
    let mut relay = Relay::default();
    let mut source = Peer::connect(addr);
    turn_until(&mut event_loop, &mut relay, |relay, _| {
        relay.ends.len() == 1
    });
    let mut target = Peer::connect(addr);
    turn_until(&mut event_loop, &mut relay, |relay, _| {
        relay.ends.len() == 2
    });
    let wire: Vec<u8> = (0..2000)
        .flat_map(|i| framed(&pattern(i * 13 % 20_000)))
        .collect();
    let expected = wire.clone();
    let writing = std::thread::spawn(move || source.write(&wire));
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        target.0.read_to_end(&mut all).expect("a clean end");
        all
    });
    turn_until(&mut event_loop, &mut relay, |relay, net| {
        relay.closed && net.connection_count() == 0
    });
    writing.join().expect("all was taken");
    turn_until(&mut event_loop, &mut relay, |_, net| {
        net.stats().disconnected == 2
    });
    assert!(reading.join().expect("all arrived") == expected);
    assert!(
        relay.most <= 100 * KIB + 20_004,
        "{} bytes waited",
        relay.most
    );
}

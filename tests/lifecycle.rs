//! The life of a connection: which calls come, in which order, with which reason. Whichever way the loop is driven.

mod support;

use std::io::Read;
use std::time::Duration;

use support::drivers::{Driver, listening_by};
use support::{
    Echo, Event, PATIENCE, Peer, Recorder, bytes_queued, framed, listening, pattern, turn_until,
};
use throng::{
    Config, ConnectOptions, ConnectionId, DecodeError, DisconnectCause, DisconnectReason, Frame,
    Framing, Handler, ListenOptions, Net, Origin, SendError, Side, Stage,
};

with_each_driver! {
    callbacks_are_on_connect_on_data_on_disconnect
    frames_of_all_sizes_are_echoed
    frame_of_64_mib_is_echoed
    half_closed_peer_gets_all_echoes
    eof_inside_a_frame_differs_from_a_clean_eof
    reset_is_reported_as_reset
    malformed_frame_ends_the_connection_after_earlier_frames
    disconnect_sends_queued_frames_and_delivers_no_more
    disconnected_peer_that_reads_late_reads_its_last_message
    disconnected_peer_that_never_reads_is_dropped_in_time
    disconnected_peer_that_keeps_sending_is_dropped_in_time
    abort_resets_the_peer
    half_open_connection_lasts_until_disconnect
    reset_of_a_half_open_connection_is_reported
    outbound_connection_reaches_a_listener_of_the_same_loop
    refused_connect_calls_only_on_disconnect
    unanswered_connect_times_out
    connect_can_be_aborted
    stale_id_is_ignored
    callback_can_disconnect_all_connections
    loop_survives_a_panic_of_its_handler
    dropped_loop_closes_sockets_without_callbacks
    handshake_changes_the_framing_between_two_frames
    echo_handler_needs_only_on_data
}

fn callbacks_are_on_connect_on_data_on_disconnect<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut seen = Recorder::default();
    let mut peer = Peer::connect(addr);
    peer.write(&[framed(b"one"), framed(b""), framed(b"three")].concat());
    let peer_addr = peer.0.local_addr().expect("its address");
    drop(peer);
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());

    let [id] = seen.connected()[..] else {
        panic!("one connection: {seen:?}");
    };
    assert_eq!(seen.frames(), [&b"one"[..], b"", b"three"]);
    assert_eq!(seen.events.len(), 5, "{seen:?}");
    let Some(Event::Disconnect(ended, reason)) = seen.events.last() else {
        panic!("the end comes last: {seen:?}");
    };
    assert_eq!(*ended, id);
    assert_cause!(reason, DisconnectCause::PeerClosed);
    assert_eq!((reason.side(), reason.stage), (Side::Peer, Stage::Open));
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (0, 0));
    assert_eq!(
        driver.net().connection(id).and_then(|it| it.peer_addr()),
        None,
        "{peer_addr} is forgotten"
    );
}

fn frames_of_all_sizes_are_echoed<D: Driver>() {
    let server = support::Server::echo_by::<D>();
    let mut peer = Peer::connect(server.addr);
    for len in [
        0,
        1,
        3,
        4,
        1024,
        1025,
        4095,
        4096,
        65_531,
        65_532,
        65_533,
        131_072,
        1 << 20,
    ] {
        let payload = pattern(len);
        let mut writer = Peer(peer.0.try_clone().expect("a live socket"));
        let sent = payload.clone();
        let sender = std::thread::spawn(move || writer.send(&sent));
        assert!(peer.receive() == payload, "{len} bytes came back changed");
        sender.join().expect("it was sent");
    }
}

fn frame_of_64_mib_is_echoed<D: Driver>() {
    let server = support::Server::echo_by::<D>();
    let mut peer = Peer::connect(server.addr);
    let payload = pattern(64 << 20);
    let mut writer = Peer(peer.0.try_clone().expect("a live socket"));
    let sent = payload.clone();
    let sender = std::thread::spawn(move || writer.send(&sent));
    assert!(peer.receive() == payload);
    sender.join().expect("it was sent");
}

fn half_closed_peer_gets_all_echoes<D: Driver>() {
    let server = support::Server::echo_by::<D>();
    let mut peer = Peer::connect(server.addr);
    let frames: Vec<_> = (0..200).map(|i| pattern(i * 7)).collect();
    for frame in &frames {
        peer.send(frame);
    }
    peer.half_close();
    for frame in &frames {
        assert_eq!(&peer.receive(), frame);
    }
    peer.expect_end();
}

fn eof_inside_a_frame_differs_from_a_clean_eof<D: Driver>() {
    for (bytes, received) in [
        (&b"\x05\0"[..], 2),
        (b"\x05\0\0\0", 0),
        (b"\x05\0\0\0hel", 3),
    ] {
        let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
        let mut seen = Recorder::default();
        let mut peer = Peer::connect(addr);
        peer.write(&framed(b"whole"));
        peer.write(bytes);
        drop(peer);
        turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
        assert_eq!(seen.frames(), [b"whole"]);
        let (_, reason) = seen.ends()[0];
        assert_cause!(reason, DisconnectCause::PeerClosedInsideFrame { received: r } if r == received);
    }
}

fn reset_is_reported_as_reset<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut seen = Recorder::default();
    let peer = Peer::connect(addr);
    turn_until(&mut driver, &mut seen, |seen, _| {
        !seen.connected().is_empty()
    });
    peer.reset();
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
    let (_, reason) = seen.ends()[0];
    assert_cause!(reason, DisconnectCause::Reset(_));
    assert_eq!(reason.side(), Side::Network);
}

fn malformed_frame_ends_the_connection_after_earlier_frames<D: Driver>() {
    let options = ListenOptions::default().max_frame_len(1000);
    let (mut driver, addr) = listening_by::<D>(options);
    let mut seen = Recorder::echoing();
    let mut peer = Peer::connect(addr);
    peer.write(&[framed(b"good"), b"GET / HTTP/1.1\r\n".to_vec()].concat());
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
    assert_eq!(seen.frames(), [b"good"]);
    let (_, reason) = seen.ends()[0];
    assert!(reason.to_string().contains(r#""GET / HT""#), "{reason}");
    let DisconnectCause::Decode(DecodeError::FrameTooLarge { declared, max, .. }) = reason.cause
    else {
        panic!("{reason}");
    };
    assert_eq!(
        (declared, max),
        (u64::from(u32::from_le_bytes(*b"GET ")), 1000)
    );
    assert_eq!(reason.side(), Side::Peer);

    let options = ListenOptions::default().framing(Framing::varint());
    let (mut driver, addr) = listening_by::<D>(options);
    let mut seen = Recorder::default();
    let mut peer = Peer::connect(addr);
    peer.write(&[0xFF; 64]);
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
    let (_, reason) = seen.ends()[0];
    assert_cause!(
        reason,
        DisconnectCause::Decode(DecodeError::Malformed { .. })
    );
}

/// Greets, and kicks with a last word when told to.
struct Kicker;

impl Handler for Kicker {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"welcome").expect("it is connected");
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        net.send(id, b"last word").expect("it is connected");
        match &*frame {
            b"kick" => assert!(net.disconnect(id)),
            b"abort" => assert!(net.abort(id)),
            _ => panic!("nothing comes after a kick"),
        }
        assert!(!net.is_connected(id));
        assert!(matches!(
            net.send(id, b"too late"),
            Err(SendError::Disconnected)
        ));
        assert!(!net.disconnect(id), "it is going already");
    }
}

fn disconnect_sends_queued_frames_and_delivers_no_more<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    peer.write(&[framed(b"kick"), framed(b"ignored")].concat());
    let reader = std::thread::spawn(move || {
        assert_eq!(peer.receive(), b"welcome");
        assert_eq!(peer.receive(), b"last word");
        peer.expect_end();
    });
    let mut ended = Ending::of(Kicker);
    turn_until(&mut driver, &mut ended, |ended, _| ended.reason.is_some());
    reader.join().expect("all arrived");
    let reason = ended.reason.expect("it ended");
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    assert_eq!((reason.side(), reason.unsent_frames), (Side::Us, 0));
}

fn disconnected_peer_that_reads_late_reads_its_last_message<D: Driver>() {
    // More than the sockets hold: at the time of the kick they are full.
    struct Flood;
    impl Handler for Flood {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
            for i in 0..64_u8 {
                net.send(id, &vec![i; 256 * 1024]).expect("it is connected");
            }
            net.send(id, b"goodbye").expect("it is connected");
            net.disconnect(id);
        }
    }
    let options = ListenOptions::default()
        .disconnect_timeout(PATIENCE)
        .max_queued_bytes(64 << 20);
    let (mut driver, addr) = listening_by::<D>(options);
    let mut peer = Peer::connect(addr);
    peer.send(b"go");
    let mut ended = Ending::of(Flood);
    // It is kicked while the peer does not read.
    turn_until(&mut driver, &mut ended, |_, net| {
        net.stats().frames_sent > 0 && net.connection_count() == 0
    });
    assert!(ended.reason.is_none());
    let reader = std::thread::spawn(move || {
        for i in 0..64_u8 {
            assert!(peer.receive() == vec![i; 256 * 1024]);
        }
        assert_eq!(peer.receive(), b"goodbye");
        peer.expect_end();
    });
    turn_until(&mut driver, &mut ended, |ended, _| ended.reason.is_some());
    reader.join().expect("all arrived");
    let reason = ended.reason.expect("it ended");
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    assert_eq!(reason.unsent_bytes, 0);
}

fn disconnected_peer_that_never_reads_is_dropped_in_time<D: Driver>() {
    struct Flood(u64);
    impl Handler for Flood {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
            for _ in 0..64 {
                net.send(id, &[0; 256 * 1024]).expect("it is connected");
                self.0 += 256 * 1024 + 4;
            }
            net.disconnect(id);
        }
    }
    let after = Duration::from_millis(50);
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default().disconnect_timeout(after));
    let mut peer = Peer::connect(addr);
    peer.send(b"go");
    let mut ended = Ending::of(Flood(0));
    turn_until(&mut driver, &mut ended, |ended, _| ended.reason.is_some());
    let reason = ended.reason.expect("it ended");
    assert_cause!(reason, DisconnectCause::DrainTimedOut { after: a } if a == after);
    let stats = driver.net().stats();
    assert_eq!(stats.frames_sent + reason.unsent_frames, 64);
    assert_eq!(stats.bytes_sent + reason.unsent_bytes, ended.handler.0);
    assert!(reason.unsent_frames > 0, "{reason}");
}

fn disconnected_peer_that_keeps_sending_is_dropped_in_time<D: Driver>() {
    let after = Duration::from_millis(50);
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default().disconnect_timeout(after));
    let mut peer = Peer::connect(addr);
    peer.send(b"kick");
    let talker = std::thread::spawn(move || {
        use std::io::Write;
        while peer.0.write_all(&framed(b"and another thing")).is_ok() {}
    });
    let mut ended = Ending::of(Kicker);
    turn_until(&mut driver, &mut ended, |ended, _| ended.reason.is_some());
    talker.join().expect("it noticed");
    let reason = ended.reason.expect("it ended");
    assert_cause!(reason, DisconnectCause::DrainTimedOut { .. });
}

fn abort_resets_the_peer<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    let mut ended = Ending::of(Kicker);
    turn_until(&mut driver, &mut ended, |_, net| {
        net.connection_count() == 1
    });
    peer.send(b"abort");
    turn_until(&mut driver, &mut ended, |ended, _| ended.reason.is_some());
    peer.expect_reset();
    let reason = ended.reason.expect("it ended");
    assert_cause!(reason, DisconnectCause::Aborted);
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (1, 4 + 9));
    assert_eq!(
        reason.to_string(),
        "aborted by this side; 1 frames (13 bytes) were not sent"
    );
}

/// Passes all on and keeps the last reason.
struct Ending<H> {
    handler: H,
    reason: Option<DisconnectReason>,
}

impl<H> Ending<H> {
    fn of(handler: H) -> Self {
        Self {
            handler,
            reason: None,
        }
    }
}

impl<H: Handler> Handler for Ending<H> {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.handler.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.handler.on_data(net, id, frame);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        assert!(
            net.connection(id).and_then(|it| it.peer_addr()).is_some(),
            "the address still answers"
        );
        assert!(net.connection(id).map(|it| it.origin()).is_some());
        assert!(matches!(net.send(id, b"x"), Err(SendError::Disconnected)));
        assert!(self.reason.replace(reason).is_none(), "it ends once");
    }
}

fn half_open_connection_lasts_until_disconnect<D: Driver>() {
    struct Late(Option<ConnectionId>);
    impl Handler for Late {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
        fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
            assert!(self.0.replace(id).is_none(), "once");
            assert!(net.is_connected(id));
        }
    }
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default().allow_half_open(true));
    let mut peer = Peer::connect(addr);
    peer.send(b"question");
    peer.half_close();
    let mut ended = Ending::of(Late(None));
    // `Ending` does not pass `on_half_close` on, so the late handler is driven alone first.
    turn_until(&mut driver, &mut ended.handler, |late, _| late.0.is_some());
    let id = ended.handler.0.expect("it half-closed");
    driver.net().send(id, b"late reply").expect("half open");
    turn_until(&mut driver, &mut ended, |_, net| bytes_queued(net, id) == 0);
    assert_eq!(peer.receive(), b"late reply");
    assert!(driver.net().disconnect(id));
    turn_until(&mut driver, &mut ended, |ended, _| ended.reason.is_some());
    peer.expect_end();
}

fn reset_of_a_half_open_connection_is_reported<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default().allow_half_open(true));
    let peer = Peer::connect(addr);
    peer.half_close();
    let mut seen = Recorder::default();
    turn_until(&mut driver, &mut seen, |seen, _| {
        matches!(seen.events.last(), Some(Event::HalfClose(_)))
    });
    peer.reset();
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
    let (_, reason) = seen.ends()[0];
    assert_cause!(reason, DisconnectCause::Reset(_));
}

fn outbound_connection_reaches_a_listener_of_the_same_loop<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut seen = Recorder::echoing();
    let id = driver.net().connect(addr).expect("started");
    assert!(matches!(
        driver.net().send(id, b"early"),
        Err(SendError::Connecting)
    ));
    assert_eq!(
        driver.net().connection(id).map(|it| it.origin()),
        Some(Origin::Outbound)
    );
    turn_until(&mut driver, &mut seen, |seen, _| {
        seen.connected().len() == 2
    });
    assert!(seen.connected().contains(&id));
    driver.net().send(id, b"ball").expect("connected");
    // Both ends echo for ever.
    turn_until(&mut driver, &mut seen, |seen, _| seen.frames().len() > 100);
    assert!(seen.frames().iter().all(|frame| frame == b"ball"));
    assert!(driver.net().disconnect(id));
    turn_until(&mut driver, &mut seen, |seen, _| seen.ends().len() == 2);
    assert_eq!(driver.net().connection_count(), 0);
}

fn refused_connect_calls_only_on_disconnect<D: Driver>() {
    let (_refusing, addr) = support::refusing();
    let mut driver = D::new(Config::default());
    let mut seen = Recorder::default();
    let id = driver.net().connect(addr).expect("started");
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
    assert_eq!(seen.events.len(), 1, "{seen:?}");
    let (ended, reason) = seen.ends()[0];
    assert_eq!(ended, id);
    let DisconnectCause::ConnectFailed(error) = &reason.cause else {
        panic!("{reason}");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(
        (reason.side(), reason.stage),
        (Side::Network, Stage::Connecting)
    );
}

fn unanswered_connect_times_out<D: Driver>() {
    // A listener whose queue is full answers no more.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("a port");
    listener.listen(0).expect("a listener");
    let addr = listener
        .local_addr()
        .expect("its address")
        .as_socket()
        .expect("IPv4");
    let mut driver = D::new(Config::default());
    let mut seen = Recorder::default();
    let after = Duration::from_millis(100);
    for _ in 0..8 {
        let options = ConnectOptions::default().timeout(after);
        driver.net().connect_with(addr, options).expect("started");
    }
    let timed_out = |seen: &Recorder| {
        seen.ends().iter().any(|(_, reason)| {
            matches!(reason.cause, DisconnectCause::ConnectTimedOut { after: a } if a == after)
        })
    };
    turn_until(&mut driver, &mut seen, |seen, _| timed_out(seen));
}

fn connect_can_be_aborted<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    for abort in [false, true] {
        let mut seen = Recorder::default();
        let net = driver.net();
        let id = net.connect(addr).expect("started");
        assert!(if abort {
            net.abort(id)
        } else {
            net.disconnect(id)
        });
        turn_until(&mut driver, &mut seen, |seen, _| {
            seen.ends().iter().any(|(ended, _)| *ended == id)
        });
        assert!(!seen.connected().contains(&id));
        let ends = seen.ends();
        let (_, reason) = ends
            .iter()
            .find(|(ended, _)| *ended == id)
            .expect("its end");
        assert_eq!(
            (reason.side(), reason.stage),
            (Side::Us, Stage::Connecting),
            "{reason}"
        );
    }
}

fn stale_id_is_ignored<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut seen = Recorder::default();
    drop(Peer::connect(addr));
    turn_until(&mut driver, &mut seen, |seen, _| !seen.ends().is_empty());
    let old = seen.connected()[0];
    let mut peer = Peer::connect(addr);
    turn_until(&mut driver, &mut seen, |seen, _| {
        seen.connected().len() == 2
    });
    let new = seen.connected()[1];
    assert_eq!((old.index(), new.index()), (0, 0), "the slot is used again");
    assert_ne!(old, new);
    let net = driver.net();
    assert!(matches!(
        net.send(old, b"for another"),
        Err(SendError::Disconnected)
    ));
    assert!(!net.disconnect(old));
    assert!(!net.abort(old));
    assert!(!net.set_framing(old, Framing::varint()));
    assert_eq!(net.send_many([old], b"for another").gone, 1);
    assert_eq!(net.connection(old).and_then(|it| it.peer_addr()), None);
    net.send(new, b"for you").expect("connected");
    turn_until(&mut driver, &mut seen, |_, net| bytes_queued(net, new) == 0);
    assert_eq!(peer.receive(), b"for you");
}

fn callback_can_disconnect_all_connections<D: Driver>() {
    struct Massacre;
    impl Handler for Massacre {
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            for (i, id) in net.connections().into_iter().enumerate() {
                net.send(id, &frame).expect("it is connected");
                assert!(if i % 2 == 0 {
                    net.disconnect(id)
                } else {
                    net.abort(id)
                });
            }
            assert_eq!(net.connection_count(), 0);
        }
    }
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut handler = Massacre;
    let mut peers: Vec<_> = (0..20).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut driver, &mut handler, |_, net| {
        net.connection_count() == 20
    });
    peers[7].write(&framed(b"die").repeat(10));
    turn_until(&mut driver, &mut handler, |_, net| {
        net.stats().disconnected >= 10
    });
    drop(peers);
    turn_until(&mut driver, &mut handler, |_, net| {
        net.stats().disconnected == 20
    });
}

fn loop_survives_a_panic_of_its_handler<D: Driver>() {
    struct Clumsy(Recorder);
    impl Handler for Clumsy {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            assert_ne!(&*frame, b"trip", "as it should");
            self.0.on_data(net, id, frame);
        }
    }
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut handler = Clumsy(Recorder::echoing());
    let mut other = Peer::connect(addr);
    let mut peer = Peer::connect(addr);
    other.send(b"me too");
    // A large frame, and then small ones before and after the one that trips.
    let large = pattern(200_000);
    peer.write(
        &[
            framed(b"one"),
            framed(b"trip"),
            framed(b"two"),
            framed(b"trip"),
        ]
        .concat(),
    );
    peer.write(&framed(&large));
    peer.write(&[framed(b"trip"), framed(b"three")].concat());
    let mut panics = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    while handler.0.frames().len() < 5 {
        assert!(
            std::time::Instant::now() < deadline,
            "{panics} {:?}",
            handler.0.frames().len()
        );
        let turn = std::panic::AssertUnwindSafe(|| {
            driver.turn(&mut handler);
        });
        if std::panic::catch_unwind(turn).is_err() {
            panics += 1;
        }
    }
    assert_eq!(panics, 3);
    assert_eq!(other.receive(), b"me too");
    for expected in [&b"one"[..], b"two", &large, b"three"] {
        // Replies that were queued when it tripped are written by a later turn.
        turn_until(&mut driver, &mut handler, |_, net| {
            net.connections()
                .iter()
                .all(|&id| bytes_queued(net, id) == 0)
        });
        assert!(peer.receive() == expected);
    }
}

#[test]
fn run_continues_after_stop() {
    struct Once;
    impl Handler for Once {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            net.send(id, &frame).expect("it is connected");
            net.stop();
        }
    }
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    for payload in [b"one", b"two"] {
        peer.send(payload);
        event_loop.run(&mut Once).expect("it runs");
        assert_eq!(peer.receive(), payload, "the turn was finished");
    }
    event_loop.net().stop();
    event_loop.run(&mut Once).expect("it does not wait");
}

fn dropped_loop_closes_sockets_without_callbacks<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut seen = Recorder::default();
    let mut peer = Peer::connect(addr);
    turn_until(&mut driver, &mut seen, |seen, _| {
        !seen.connected().is_empty()
    });
    drop(driver);
    assert_eq!(seen.events.len(), 1);
    peer.expect_end();
    assert!(
        std::net::TcpStream::connect(addr).is_err(),
        "the listener is open"
    );
}

fn handshake_changes_the_framing_between_two_frames<D: Driver>() {
    struct Negotiating(Vec<Vec<u8>>);
    impl Handler for Negotiating {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            if &*frame == b"lines" {
                net.send(id, b"ok").expect("it is connected");
                assert!(net.set_framing(id, Framing::delimiter(b'\n')));
            } else {
                net.send(id, &frame).expect("it is connected");
            }
            self.0.push(frame.to_vec());
        }
    }
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut handler = Negotiating(Vec::new());
    let mut peer = Peer::connect(addr);
    peer.write(&[framed(b"lines"), b"first\nsec".to_vec()].concat());
    turn_until(&mut driver, &mut handler, |handler, _| handler.0.len() == 2);
    peer.write(b"ond\n");
    turn_until(&mut driver, &mut handler, |handler, _| handler.0.len() == 3);
    let mut answer = [0; 4 + 2 + 6 + 7];
    peer.0.read_exact(&mut answer).expect("the answers");
    assert_eq!(&answer, b"\x02\0\0\0okfirst\nsecond\n");
}

fn echo_handler_needs_only_on_data<D: Driver>() {
    let (mut driver, addr) = listening_by::<D>(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    peer.send(b"hello");
    let handler: &mut dyn Handler = &mut Echo;
    while driver.net().stats().frames_sent == 0 {
        driver.turn(handler);
    }
    assert_eq!(peer.receive(), b"hello");
}

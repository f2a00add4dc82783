//! Queues are limited, and a peer that does not read is not read either.

mod support;

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use support::notes::{Notes, joined};
use support::scene::Scene;
use support::{
    Peer, Recorder, addr_of, bytes_queued, framed, join, listen, listening, pattern, read_frames,
    turn_until,
};
use throng::{
    Config, ConnectionId, DisconnectCause, EventLoop, Frame, Handler, ListenOptions, Net, Overflow,
    SendError, Side,
};

const KIB: u64 = 1024;

// ----- Limits of what waits -----

#[test]
fn frame_is_accepted_while_queued_bytes_are_below_the_limit() {
    let options = ListenOptions::default()
        .framing(throng::Framing::raw())
        .max_queued_bytes(100);
    let (mut event_loop, _, _peer, id) = joined(options);
    let net = event_loop.net();
    for bytes in [60, 39, 1] {
        net.send(id, &vec![7; bytes]).expect("less than 100 wait");
    }
    let error = net.send(id, b"x").expect_err("100 wait");
    assert!(matches!(
        error,
        SendError::QueueFull {
            queued: 100,
            max: 100
        }
    ));
}

#[test]
fn queue_is_congested_at_exactly_the_limit() {
    let options = ListenOptions::default()
        .max_queued_bytes(640)
        .high_watermark(640);
    let (mut event_loop, _, _peer, id) = joined(options);
    let net = event_loop.net();
    while !net.connection(id).is_some_and(|it| it.is_congested()) {
        net.send(id, &[0; 60]).expect("it is not congested");
    }
    assert_eq!(bytes_queued(net, id), 640);
}

#[test]
fn queued_readers_are_limited_and_on_drain_reports_room() {
    let options = ListenOptions::default().max_queued_bytes(10 * 64 * KIB);
    let (mut event_loop, mut notes, mut peer, id) = joined(options);
    let reader = || std::io::repeat(7).take(1000);
    let net = event_loop.net();
    for _ in 0..10 {
        net.send_reader(id, 1000, reader()).expect("there is room");
    }
    let refused = net.send_reader(id, 1000, reader()).expect_err("ten wait");
    assert!(matches!(refused.error, SendError::QueueFull { .. }));
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        !notes.drains.is_empty()
    });
    for _ in 0..10 {
        assert_eq!(peer.receive(), [7; 1000]);
    }
    assert_eq!(notes.drains.len(), 1);
    let net = event_loop.net();
    net.send_reader(id, 1000, reader()).expect("there is room");
}

#[test]
fn on_drain_is_not_called_if_the_queue_is_congested_again() {
    /// Fills the queue of the other whenever one has drained, for a while.
    struct Filling(usize);

    impl Handler for Filling {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

        fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
            assert!(!net.connection(id).is_some_and(|it| it.is_congested()));
            self.0 += 1;
            for other in net.connections() {
                if self.0 < 10 && other != id {
                    net.send(other, &[7; 2000]).expect("there is room");
                }
            }
        }
    }

    let options = ListenOptions::default().high_watermark(1000);
    let (mut event_loop, addr) = listening(options);
    let peers = [Peer::connect(addr), Peer::connect(addr)];
    let mut filling = Filling(0);
    turn_until(&mut event_loop, &mut filling, |_, net| {
        net.connection_count() == 2
    });
    let net = event_loop.net();
    for id in net.connections() {
        net.send(id, &[7; 2000]).expect("there is room");
    }
    turn_until(&mut event_loop, &mut filling, |filling, _| filling.0 >= 10);
    drop(peers);
}

#[test]
fn full_queue_rejects_frames_and_on_drain_reports_room() {
    let options = ListenOptions::default()
        .max_queued_bytes(300 * KIB)
        .high_watermark(200 * KIB)
        .low_watermark(50 * KIB);
    let (mut event_loop, mut notes, peer, id) = joined(options);
    let mut accepted = Vec::new();
    let payload = |number: usize| {
        let mut payload = pattern(10_000);
        payload[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Bytes::from(payload)
    };
    // Until the sockets are full and the queue as well.
    let rejected = loop {
        let number = accepted.len();
        match event_loop.net().send_bytes(id, payload(number)) {
            Ok(()) => accepted.push(payload(number)),
            Err(rejected) if bytes_queued(event_loop.net(), id) > 0 => {
                event_loop
                    .turn(&mut notes, Some(Duration::ZERO))
                    .expect("a turn");
                if bytes_queued(event_loop.net(), id) >= 300 * KIB {
                    break rejected;
                }
            }
            Err(rejected) => panic!("refused with an empty queue: {rejected}"),
        }
    };
    assert_eq!(rejected.value, payload(accepted.len()), "it is given back");
    let queued = bytes_queued(event_loop.net(), id);
    assert!(
        (300 * KIB..300 * KIB + 10_004).contains(&queued),
        "{queued}"
    );
    assert!(matches!(
        rejected.error,
        SendError::QueueFull { queued, max: 307_200 } if queued >= 300 * KIB
    ));
    let text = event_loop
        .net()
        .send(id, b"one more")
        .expect_err("full")
        .to_string();
    assert_eq!(
        text,
        format!("not sent: {queued} bytes are already queued, and the limit is 307200")
    );
    assert!(
        event_loop
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested())
    );
    let drains = notes.drains.len();

    let reading = read_frames(peer, accepted.len());
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        notes.drains.len() > drains
    });
    let (drained, at) = notes.drains[drains];
    assert_eq!(drained, id);
    assert!(at <= 50 * KIB, "{at} bytes still wait");
    turn_until(&mut event_loop, &mut notes, |_, net| {
        bytes_queued(net, id) == 0
    });
    assert_eq!(notes.drains.len(), drains + 1, "once for each time");
    assert!(
        !event_loop
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested())
    );
    event_loop
        .net()
        .send(id, b"room again")
        .expect("there is room");
    event_loop
        .turn(&mut notes, Some(Duration::ZERO))
        .expect("a turn");
    let (mut peer, frames) = reading.join().expect("all that was accepted");
    assert!(frames == accepted, "in order, and nothing else");
    assert_eq!(peer.receive(), b"room again");
}

#[test]
fn queue_below_its_limit_accepts_one_frame_of_any_size() {
    let options = ListenOptions::default().max_queued_bytes(1000);
    let (mut event_loop, mut notes, peer, id) = joined(options);
    let net = event_loop.net();
    net.send(id, &[1; 900]).expect("an empty queue");
    net.send_bytes(id, Bytes::from(vec![2; 50_000_000]))
        .expect("904 bytes are below the limit");
    let error = net.send_with(id, |_| Ok(())).expect_err("50 MB are not");
    assert!(matches!(
        error,
        SendError::QueueFull {
            queued: 50_000_908,
            max: 1000
        }
    ));
    let reading = read_frames(peer, 2);
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        notes.drains.len() == 1
    });
    turn_until(&mut event_loop, &mut notes, |_, net| {
        bytes_queued(net, id) == 0
    });
    let (_, frames) = reading.join().expect("both");
    assert_eq!(frames[1].len(), 50_000_000);
}

#[test]
fn on_drain_is_called_once_per_crossing_of_the_high_watermark() {
    let options = ListenOptions::default()
        .high_watermark(1000)
        .low_watermark(500);
    let (mut event_loop, mut notes, mut peer, id) = joined(options);
    for round in 0..5 {
        // Exactly the watermark is not above it: a frame of 996 bytes has 1000 on the wire.
        event_loop.net().send(id, &[7; 996]).expect("there is room");
        assert!(
            !event_loop
                .net()
                .connection(id)
                .is_some_and(|it| it.is_congested())
        );
        turn_until(&mut event_loop, &mut notes, |_, net| {
            bytes_queued(net, id) == 0
        });
        assert_eq!(notes.drains.len(), round);
        event_loop.net().send(id, &[7; 600]).expect("there is room");
        event_loop.net().send(id, &[7; 600]).expect("there is room");
        assert!(
            event_loop
                .net()
                .connection(id)
                .is_some_and(|it| it.is_congested())
        );
        turn_until(&mut event_loop, &mut notes, |notes, _| {
            notes.drains.len() > round
        });
        assert_eq!(notes.drains.len(), round + 1);
        assert_eq!([996, 600, 600], [(); 3].map(|()| peer.receive().len()));
    }
}

#[test]
fn overflow_policy_disconnect_ends_a_slow_consumer() {
    let options = ListenOptions::default()
        .max_queued_bytes(64 * KIB)
        .overflow(Overflow::Disconnect);
    let (mut event_loop, mut notes, _peer, id) = joined(options);
    let net = event_loop.net();
    let queued = loop {
        match net.send(id, &[7; 1000]) {
            Ok(()) => {}
            Err(SendError::QueueFull { queued, .. }) => break queued,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(!net.is_connected(id));
    let again = net.send(id, b"after").expect_err("it is over");
    assert!(matches!(again, SendError::Disconnected));
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        !notes.seen.ends().is_empty()
    });
    let (_, reason) = notes.seen.ends()[0];
    let DisconnectCause::SlowConsumer { queued: told, max } = reason.cause else {
        panic!("{reason}");
    };
    assert_eq!((told, max, reason.side()), (queued, 64 * KIB, Side::Us));
    assert_eq!(
        (reason.unsent_bytes, reason.unsent_frames),
        (queued, queued.div_ceil(1004))
    );
    assert!(notes.drains.is_empty(), "it ended first");
}

#[test]
fn send_many_reports_full_queues_and_applies_their_overflow_policy() {
    let small = ListenOptions::default().max_queued_bytes(2000);
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let roomy = listen(&mut event_loop, ListenOptions::default());
    let refusing = listen(&mut event_loop, small.clone());
    let ending = listen(&mut event_loop, small.overflow(Overflow::Disconnect));
    let mut notes = Notes::default();
    let (mut peers, mut ids) = (Vec::new(), Vec::new());
    for addr in [roomy, refusing, ending, roomy] {
        let (peer, id) = join(&mut event_loop, addr, &mut notes);
        peers.push(peer);
        ids.push(id);
    }
    let net = event_loop.net();
    // More than is written when a queue is full.
    let first = net.broadcast(|_| true, vec![1; 4 << 20]);
    assert_eq!((first.queued, first.refused.len()), (4, 0));
    let second = net.broadcast(|_| true, &[2; 2500][..]);
    assert_eq!((second.queued, second.gone), (2, 0));
    assert_eq!(second.refused, [ids[1], ids[2]]);
    assert!(second.unfit.is_empty() && second.error.is_none());
    assert!(net.is_connected(ids[1]) && !net.is_connected(ids[2]));
    let third = net.send_many(ids.iter().copied(), &[3; 10]);
    assert_eq!((third.queued, third.gone), (2, 1));
    assert_eq!(third.refused, [ids[1]]);
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        notes.seen.ends().len() == 1
    });
    assert_eq!(notes.seen.ends()[0].0, ids[2]);
}

// ----- Not reading from peers that do not read -----

#[test]
fn echo_to_a_peer_that_does_not_read_is_bounded_and_resumes() {
    let options = ListenOptions::default()
        .high_watermark(256 * KIB)
        .max_queued_bytes(1024 * KIB);
    let (mut event_loop, mut notes, mut peer, id) = joined(options);
    notes.echo = true;
    let frames: Vec<_> = (0..1000_usize).map(|i| pattern(20_000 + i)).collect();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    let mut writer = Peer(peer.0.try_clone().expect("a live socket"));
    let writing = std::thread::spawn(move || writer.write(&wire));
    // It stops by itself: nothing is runnable, and no event comes.
    turn_until(&mut event_loop, &mut notes, |_, net| {
        net.connection(id).is_some_and(|it| it.is_congested())
    });
    let mut quiet = 0;
    while quiet < 20 {
        let before = notes.seen.frames().len();
        let patience = Some(Duration::from_millis(5));
        event_loop.turn(&mut notes, patience).expect("a turn");
        quiet = if notes.seen.frames().len() == before {
            quiet + 1
        } else {
            0
        };
    }
    assert!(notes.seen.frames().len() < 1000, "the sockets held it all");
    let most = notes.most_queued;
    assert!(most <= 256 * KIB + 21_000, "{most} bytes waited");
    #[cfg(unix)]
    assert!(
        !support::is_awake(&event_loop),
        "what it does not read wakes it"
    );

    let reading = std::thread::spawn(move || {
        for frame in &frames {
            assert!(peer.receive() == *frame, "another frame, or another order");
        }
    });
    turn_until(&mut event_loop, &mut notes, |notes, net| {
        notes.seen.frames().len() == 1000 && bytes_queued(net, id) == 0
    });
    writing.join().expect("all was taken");
    reading.join().expect("all came back");
    assert!(notes.most_queued <= 256 * KIB + 21_000);
}

#[test]
fn read_under_backpressure_delivers_frames_of_a_peer_that_does_not_read() {
    let options = ListenOptions::default()
        .high_watermark(1000)
        .max_queued_bytes(u64::MAX)
        .read_under_backpressure(true);
    let (mut event_loop, mut notes, mut peer, id) = joined(options);
    let net = event_loop.net();
    net.send_bytes(id, Bytes::from(vec![7; 32 << 20]))
        .expect("there is room");
    assert!(net.connection(id).is_some_and(|it| it.is_congested()));
    peer.send(b"I do not listen");
    turn_until(&mut event_loop, &mut notes, |notes, _| {
        !notes.seen.frames().is_empty()
    });
    assert!(
        event_loop
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested()),
        "it still does not read"
    );
}

/// The backpressure ends in the middle of a queue that the sockets take without ever being full.
#[test]
fn connection_resumed_under_backpressure_is_read_after_the_queue_drains() {
    for large in [5 << 20, 8 << 20] {
        let mut scene = Scene::with(Config::default());
        scene
            .looped
            .net()
            .send_bytes(scene.id, vec![7; large].into())
            .expect("there is room");
        let net = &mut scene.looped.net();
        assert!(net.connection(scene.id).is_some_and(|it| it.is_congested()));
        assert!(net.resume(scene.id));
        let mut peer = Peer(scene.peer.0.try_clone().expect("a live socket"));
        let reader = std::thread::spawn(move || {
            assert_eq!(peer.receive().len(), large);
            peer.send(b"thank you");
        });
        let Scene { looped, seen, .. } = &mut scene;
        looped.settle(seen, |seen, _| !seen.frames().is_empty());
        reader.join().expect("all of it");
    }
}

// ----- Two peers that both send before they read -----

/// Sends requests without end in sight, and counts what is answered.
struct Asking {
    requests: usize,
    answers: usize,
}

impl Handler for Asking {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        for number in 0..self.requests {
            let request = Bytes::from(vec![number as u8; 64 * 1024]);
            net.send_bytes(id, request).expect("there is room");
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert!(frame.len() == 64 * 1024 && frame.iter().all(|byte| *byte == self.answers as u8));
        self.answers += 1;
        if self.answers == self.requests {
            net.disconnect(id);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: throng::DisconnectReason) {
        assert_eq!(self.answers, self.requests, "{reason}");
        net.stop();
    }
}

/// An echo server, on a thread that ends when its one peer has left.
fn echo_once(
    config: Config,
    listen: impl FnOnce(&mut Net) + Send + 'static,
) -> std::thread::JoinHandle<()> {
    struct Echo;

    impl Handler for Echo {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            net.send_frame(id, frame).expect("there is room");
        }

        fn on_disconnect(
            &mut self,
            net: &mut Net,
            _: ConnectionId,
            reason: throng::DisconnectReason,
        ) {
            assert_cause!(reason, DisconnectCause::PeerClosed);
            net.stop();
        }
    }

    let mut event_loop = EventLoop::new(config).expect("a loop");
    listen(event_loop.net());
    std::thread::spawn(move || event_loop.run(&mut Echo).expect("it runs"))
}

/// Has all requests answered, or fails with patience.
fn ask(requests: usize, connect: impl FnOnce(&mut Net)) {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    connect(event_loop.net());
    let mut asking = Asking {
        requests,
        answers: 0,
    };
    turn_until(&mut event_loop, &mut asking, |_, net| net.is_stopping());
}

#[test]
fn client_and_server_with_default_settings_do_not_deadlock() {
    for config in [Config::default(), Config::hardened()] {
        let (tell, told) = std::sync::mpsc::channel();
        let server = echo_once(config, move |net| {
            let listener = net.listen("127.0.0.1:0").expect("a listener");
            tell.send(addr_of(net, listener)).expect("the test waits");
        });
        let addr = told.recv().expect("it listens");
        ask(200, |net| _ = net.connect(addr).expect("an attempt"));
        server.join().expect("no panic");
    }
}

#[cfg(unix)]
#[test]
fn client_and_server_do_not_deadlock_over_a_unix_socket() {
    use throng::ConnectOptions;

    for config in [Config::default(), Config::hardened()] {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        let server = echo_once(config, |net| {
            let adopted = net.adopt(theirs, ConnectOptions::default());
            adopted.expect("it is connected");
        });
        // The side that connected an adopted stream is unknown, so the client sets the option.
        let asking = ConnectOptions::default().read_under_backpressure(true);
        ask(200, |net| {
            _ = net.adopt(ours, asking).expect("it is connected")
        });
        server.join().expect("no panic");
    }
}

#[test]
fn outbound_connection_stops_reading_under_backpressure_if_configured() {
    for (told, reads) in [(None, true), (Some(true), true), (Some(false), false)] {
        let mut looped = support::by_hand::Loop::new(Config::default());
        let mut seen = Recorder::default();
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = server.local_addr().expect("its address");
        let options = match told {
            Some(read) => throng::ConnectOptions::default().read_under_backpressure(read),
            None => throng::ConnectOptions::default(),
        };
        let id = looped
            .net()
            .connect_with(addr, options)
            .expect("an attempt");
        let mut peer = Peer(server.accept().expect("the attempt").0);
        looped.settle(&mut seen, |_, net| net.is_connected(id));
        let sent = looped.net().send_bytes(id, Bytes::from(vec![7; 12 << 20]));
        sent.expect("there is room");
        looped.rest(&mut seen);
        assert!(
            looped
                .net()
                .connection(id)
                .is_some_and(|it| it.is_congested())
        );
        peer.send(b"an answer");
        if reads {
            looped.settle(&mut seen, |seen, _| !seen.frames().is_empty());
        } else {
            for _ in 0..10 {
                looped.turn(Duration::from_millis(2), &mut seen);
            }
            assert!(seen.frames().is_empty());
        }
    }
}

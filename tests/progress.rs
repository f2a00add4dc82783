//! Deadlines judge by progress, and only after the operation was tried: what events have reported is not all there is.
//!
//! The loop is driven by its public layer, with a clock of the test's own.

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use support::by_hand::Loop;
use support::scene::Scene;
use support::{PATIENCE, Peer, Recorder, framed};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a slow reader takes in a second, in bytes: far less than makes Linux report room in a send buffer.
const A_LITTLE: usize = 100_000;

// ----- Slow readers -----

/// Has the peer read a little in each second, until the connection has ended or all was read. Returns how much it read.
fn read_steadily(scene: &mut Scene, seconds: usize) -> usize {
    let mut read = 0;
    for _ in 0..seconds {
        let mut piece = vec![0; A_LITTLE];
        let mut filled = 0;
        // What the sockets hold comes at once; more comes when the loop has written it.
        while filled < A_LITTLE {
            scene.peer.0.set_nonblocking(true).expect("a live socket");
            match (&scene.peer.0).read(&mut piece[filled..]) {
                Ok(0) => return read,
                Ok(n) => (filled, read) = (filled + n, read + n),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if !scene.seen.ends().is_empty() {
                        // What was written is delivered by the system.
                        scene.peer.0.set_nonblocking(false).expect("a live socket");
                        let rest = (&scene.peer.0).read_to_end(&mut Vec::new());
                        return read + rest.expect("a clean end");
                    }
                    scene.pass(Duration::ZERO);
                }
                Err(error) => panic!("after {read} bytes: {error}"),
            }
        }
        scene.pass(SECOND);
    }
    read
}

#[test]
fn slow_steady_peer_does_not_stall() {
    let config = Config::default().write_stall_timeout(5 * SECOND);
    let mut scene = Scene::with(config);
    scene.block();
    read_steadily(&mut scene, 60);
    assert!(scene.seen.ends().is_empty(), "{}", scene.seen.ends()[0].1);
    // And one that reads nothing any more does.
    for _ in 0..3 {
        scene.pass(5 * SECOND);
    }
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::WriteStalled { .. });
}

#[test]
fn slow_steady_peer_is_not_idle() {
    let config = Config::default()
        .idle_timeout(3 * SECOND)
        // Not read under backpressure it could not be idle.
        .read_under_backpressure(true);
    let mut scene = Scene::with(config);
    scene.block();
    read_steadily(&mut scene, 60);
    assert!(scene.seen.ends().is_empty(), "{}", scene.seen.ends()[0].1);
    for _ in 0..3 {
        scene.pass(3 * SECOND);
    }
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::Idle { .. });
}

/// Queues something small behind full sockets.
fn say_good_bye(scene: &mut Scene) {
    let id = scene.id;
    scene
        .looped
        .net()
        .send(id, b"good bye")
        .expect("there is room");
}

#[test]
fn slow_steady_peer_gets_its_last_message() {
    let mut scene = Scene::with(Config::default().disconnect_timeout(5 * SECOND));
    scene.narrow(128 * 1024);
    // What the sockets hold, and no more than 13 kB besides.
    let mut sent = 0;
    while scene.queued() == 0 {
        let sending = scene.looped.net().send(scene.id, &[7; 13_000]);
        sending.expect("there is room");
        sent += 13_004;
        scene.pass(Duration::ZERO);
    }
    say_good_bye(&mut scene);
    sent += 12;
    scene.looped.net().disconnect(scene.id);
    let read = read_steadily(&mut scene, 60);
    assert_eq!(read, sent);
}

#[test]
fn slow_steady_peer_that_half_closed_gets_the_whole_reply() {
    let config = Config::default()
        .disconnect_timeout(5 * SECOND)
        // Else its end would be seen late.
        .read_under_backpressure(true);
    let mut scene = Scene::with(config);
    scene.narrow(128 * 1024);
    let reply = 5_000_000;
    let sending = scene.looped.net().send(scene.id, &vec![7; reply]);
    sending.expect("there is room");
    scene.peer.half_close();
    scene.pass(Duration::ZERO);
    let read = read_steadily(&mut scene, 60);
    assert_eq!(read, reply + 4);
}

#[test]
fn slow_peer_is_dropped_after_twelve_times_the_disconnect_timeout() {
    let config = Config::default()
        .disconnect_timeout(5 * SECOND)
        .max_queued_bytes(1 << 30);
    let mut scene = Scene::with(config);
    scene.block();
    scene.looped.net().disconnect(scene.id);
    scene.pass(Duration::ZERO);
    let read = read_steadily(&mut scene, 59);
    assert!(scene.seen.ends().is_empty(), "{}", scene.seen.ends()[0].1);
    assert_eq!(read, 59 * A_LITTLE);
    scene.pass(2 * SECOND);
    assert!(matches!(
        scene.end().cause,
        DisconnectCause::DrainTimedOut { .. }
    ));
}

#[test]
fn shutdown_writes_once_more_before_its_deadline() {
    let mut scene = Scene::with(Config::default());
    scene.narrow(128 * 1024);
    while scene.queued() == 0 {
        let sending = scene.looped.net().send(scene.id, &[7; 13_000]);
        sending.expect("there is room");
        scene.pass(Duration::ZERO);
    }
    scene.looped.net().shutdown(5 * SECOND);
    scene.pass(Duration::ZERO);
    read_steadily(&mut scene, 4);
    scene.pass(SECOND);
    let reason = scene.end();
    assert_eq!(reason.unsent_bytes, 0, "{reason}");
}

// ----- Events that have not been read yet -----

/// Lets time pass without looking at an event, as after a wait that a signal ended.
fn pass_blindly(looped: &mut Loop, time: Duration, seen: &mut Recorder) {
    looped.now += time;
    looped.reactor.begin_turn(looped.now);
    looped.reactor.finish_turn(seen);
}

fn ends(seen: &Recorder) -> Vec<&DisconnectReason> {
    seen.ends().into_iter().map(|(_, reason)| reason).collect()
}

#[test]
fn peer_whose_bytes_are_in_the_kernel_is_not_idle() {
    let mut looped = Loop::new(Config::default().idle_timeout(SECOND / 2));
    let mut seen = Recorder::default();
    let (mut peer, _) = looped.join(&mut seen);
    peer.send(b"here");
    pass_blindly(&mut looped, SECOND, &mut seen);
    assert!(ends(&seen).is_empty(), "{:?}", ends(&seen));
    assert_eq!(seen.frames(), [b"here"]);
    pass_blindly(&mut looped, SECOND, &mut seen);
    assert!(matches!(ends(&seen)[0].cause, DisconnectCause::Idle { .. }));
}

#[test]
fn peer_whose_fin_is_in_the_kernel_has_closed_and_is_not_idle() {
    let mut looped = Loop::new(Config::default().idle_timeout(SECOND / 2));
    let mut seen = Recorder::default();
    let (peer, _) = looped.join(&mut seen);
    drop(peer);
    pass_blindly(&mut looped, SECOND, &mut seen);
    pass_blindly(&mut looped, Duration::ZERO, &mut seen);
    assert!(matches!(ends(&seen)[0].cause, DisconnectCause::PeerClosed));
}

#[test]
fn closing_connection_whose_eof_is_far_behind_in_the_kernel_does_not_time_out() {
    for is_shutdown in [false, true] {
        let config = Config::default().receive_buffer(1 << 20);
        let mut looped = Loop::new(config.disconnect_timeout(SECOND));
        let mut seen = Recorder::default();
        let (mut peer, id) = looped.join(&mut seen);
        // More than two turns read of it.
        peer.write(&[7; 180_000]);
        peer.half_close();
        let deadline = Instant::now() + PATIENCE;
        let has_closed = |net: &Net| net.connection(id).is_some_and(|it| it.peer_has_closed());
        while !has_closed(looped.net()) {
            assert!(Instant::now() < deadline, "its end does not arrive");
            std::thread::yield_now();
        }
        if is_shutdown {
            looped.net().shutdown(SECOND);
        } else {
            looped.net().disconnect(id);
        }
        pass_blindly(&mut looped, Duration::ZERO, &mut seen);
        pass_blindly(&mut looped, 13 * SECOND, &mut seen);
        let cause = &ends(&seen)[0].cause;
        let is_right = match cause {
            DisconnectCause::ClosedLocally => !is_shutdown,
            DisconnectCause::ShutDown => is_shutdown,
            _ => false,
        };
        assert!(is_right, "{cause:?}");
        peer.expect_end();
    }
}

#[test]
fn frame_whose_rest_is_in_the_kernel_does_not_stall() {
    let mut looped = Loop::new(Config::default().frame_stall_timeout(SECOND / 2));
    let mut seen = Recorder::default();
    let (mut peer, _) = looped.join(&mut seen);
    let wire = framed(b"in two parts");
    peer.write(&wire[..7]);
    looped.settle(&mut seen, |_, net| net.stats().bytes_received == 7);
    peer.write(&wire[7..]);
    pass_blindly(&mut looped, SECOND, &mut seen);
    assert!(ends(&seen).is_empty(), "{:?}", ends(&seen));
    assert_eq!(seen.frames(), [b"in two parts"]);
}

#[test]
fn attempt_that_the_kernel_has_completed_does_not_time_out() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let options = ConnectOptions::default().timeout(SECOND);
    let addr = server.local_addr().expect("its address");
    let id = looped
        .net()
        .connect_with(addr, options)
        .expect("an attempt");
    let _accepted = server.accept().expect("the attempt");
    pass_blindly(&mut looped, 2 * SECOND, &mut seen);
    assert!(ends(&seen).is_empty(), "{:?}", ends(&seen));
    assert_eq!(seen.connected(), [id]);
    assert!(looped.net().is_connected(id));
}

#[test]
fn peer_that_made_unreported_room_does_not_stall() {
    let mut scene = Scene::with(Config::default().write_stall_timeout(5 * SECOND));
    scene.block();
    let queued = scene.queued();
    let mut taken = vec![0; 1_000_000];
    (&scene.peer.0).read_exact(&mut taken).expect("it is there");
    pass_blindly(&mut scene.looped, 6 * SECOND, &mut scene.seen);
    assert!(ends(&scene.seen).is_empty(), "{:?}", ends(&scene.seen));
    assert!(scene.queued() < queued);
}

#[test]
fn connections_beyond_a_batch_of_events_are_not_idle() {
    // The batch has 64 places.
    const CROWD: usize = 200;
    let mut looped = Loop::new(Config::default().idle_timeout(SECOND / 2));
    let mut seen = Recorder::default();
    let addr = looped.listen();
    let mut peers: Vec<Peer> = (0..CROWD).map(|_| Peer::connect(addr)).collect();
    looped.settle(&mut seen, |_, net| net.connection_count() == CROWD);
    for peer in &mut peers {
        peer.send(b"here");
    }
    looped.pass(SECOND, &mut seen);
    assert!(ends(&seen).is_empty(), "{:?}", ends(&seen));
    assert_eq!(seen.frames().len(), CROWD);
}

#[test]
fn deadlines_of_many_connections_all_fire_over_several_turns() {
    // A turn looks at 1024 of them.
    const CROWD: usize = 1500;
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let (_socket, nowhere) = support::refusing();
    let options = ConnectOptions::default().timeout(SECOND);
    for _ in 0..CROWD {
        // What is refused is not looked at: the deadline comes first, and finds it.
        let started = looped.net().connect_with(nowhere, options.clone());
        started.expect("an attempt");
    }
    pass_blindly(&mut looped, SECOND, &mut seen);
    assert_eq!(ends(&seen).len(), 1024);
    assert_eq!(
        looped.reactor.next_timeout(looped.now),
        Some(Duration::ZERO)
    );
    pass_blindly(&mut looped, Duration::ZERO, &mut seen);
    assert_eq!(ends(&seen).len(), CROWD);
    let refused =
        |reason: &&DisconnectReason| matches!(reason.cause, DisconnectCause::ConnectFailed(_));
    assert!(ends(&seen).iter().all(refused));
}

// ----- More than a turn may read -----

/// A loop that shows one frame in a turn.
fn frugal(config: Config) -> Loop {
    Loop::new(config.frames_per_turn(1))
}

#[test]
fn peer_whose_frames_wait_to_be_shown_is_not_idle() {
    const FRAMES: usize = 20;
    let mut looped = frugal(Config::default().idle_timeout(SECOND / 2));
    let mut seen = Recorder::default();
    let (mut peer, _) = looped.join(&mut seen);
    let wire = framed(b"").repeat(FRAMES);
    peer.write(&wire);
    looped.settle(&mut seen, |_, net| {
        net.stats().bytes_received == wire.len() as u64
    });
    while seen.frames().len() < FRAMES {
        assert!(ends(&seen).is_empty(), "{:?}", ends(&seen));
        pass_blindly(&mut looped, SECOND, &mut seen);
    }
    pass_blindly(&mut looped, SECOND, &mut seen);
    assert!(matches!(ends(&seen)[0].cause, DisconnectCause::Idle { .. }));
}

#[test]
fn frame_of_which_more_waits_in_the_kernel_than_a_turn_reads_does_not_stall() {
    const MIN: usize = 20_000;
    let config = Config::default()
        .frame_stall_timeout(SECOND / 2)
        .frame_stall_bytes(MIN as u64)
        .read_budget(1000);
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let (mut peer, _) = looped.join(&mut seen);
    let wire = framed(&[7; 100_000]);
    peer.write(&wire[..7]);
    looped.settle(&mut seen, |_, net| net.stats().bytes_received == 7);
    peer.write(&wire[7..][..MIN]);
    pass_blindly(&mut looped, SECOND, &mut seen);
    while looped.reactor.next_timeout(looped.now) == Some(Duration::ZERO) {
        pass_blindly(&mut looped, Duration::from_millis(1), &mut seen);
    }
    assert_eq!(looped.net().stats().bytes_received, 7 + MIN as u64);
    assert!(ends(&seen).is_empty(), "{:?}", ends(&seen));
    // Nothing more comes.
    pass_blindly(&mut looped, SECOND, &mut seen);
    pass_blindly(&mut looped, SECOND, &mut seen);
    let cause = &ends(&seen)[0].cause;
    assert!(
        matches!(cause, DisconnectCause::FrameStalled { .. }),
        "{cause:?}"
    );
}

// ----- What continues after a panic, and what waits for a later call -----

#[test]
fn peer_that_was_judged_in_a_turn_that_panicked_is_judged_again() {
    struct Panics;
    impl Handler for Panics {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {
            panic!("as agreed");
        }
    }
    let mut looped = Loop::new(Config::default().idle_timeout(SECOND / 2));
    let mut seen = Recorder::default();
    let (mut peer, _) = looped.join(&mut seen);
    peer.send(b"here");
    looped.now += SECOND;
    looped.reactor.begin_turn(looped.now);
    let turn = || looped.reactor.finish_turn(&mut Panics);
    let turned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn));
    assert!(turned.is_err(), "it is read before it is judged");
    for _ in 0..3 {
        pass_blindly(&mut looped, SECOND, &mut seen);
    }
    assert!(matches!(ends(&seen)[0].cause, DisconnectCause::Idle { .. }));
}

#[test]
fn close_behind_a_reader_that_has_nothing_ends_in_time() {
    struct Nothing;
    impl Read for Nothing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::WouldBlock.into())
        }
    }
    for release in [false, true] {
        let mut scene = Scene::with(Config::default().disconnect_timeout(5 * SECOND));
        let net = scene.looped.net();
        net.send_reader(scene.id, 10, Nothing)
            .expect("there is room");
        scene.pass(Duration::ZERO);
        if release {
            scene.looped.net().release(scene.id).expect("it is open");
        } else {
            assert!(scene.looped.net().disconnect(scene.id));
        }
        scene.looped.rest(&mut scene.seen);
        scene.pass(4 * SECOND);
        assert!(scene.seen.ends().is_empty(), "4 s are not 5");
        scene.pass(2 * SECOND);
        let cause = scene.end().cause;
        assert!(
            matches!(cause, DisconnectCause::DrainTimedOut { .. }),
            "{cause:?}"
        );
    }
}

#[test]
fn connection_that_waits_for_its_peer_costs_no_turns() {
    let acts: [fn(&mut Net, ConnectionId); 5] = [
        |_, _| {},
        |net, id| assert!(net.disconnect(id)),
        |net, id| net.release(id).expect("it is open"),
        |net, id| assert!(net.pause(id)),
        |net, _| net.shutdown(60 * SECOND),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let config = Config::default()
            .disconnect_timeout(60 * SECOND)
            .write_stall_timeout(60 * SECOND);
        let mut scene = Scene::with(config);
        scene.block();
        act(scene.looped.net(), scene.id);
        // What it reads makes room, and that is used up.
        let reading = scene.peer.0.try_clone().expect("a live socket");
        let reading = std::thread::spawn(move || (&reading).read_exact(&mut vec![0; 6 << 20]));
        let all = |_: &mut Recorder, _: &mut Net| reading.is_finished();
        scene.looped.settle(&mut scene.seen, all);
        // Also after a look at the clock, which tries everything.
        for time in [Duration::ZERO, SECOND, 58 * SECOND] {
            scene.pass(time);
            for _ in 0..5 {
                scene.pass(Duration::ZERO);
            }
            assert_ne!(
                scene.looped.reactor.next_timeout(scene.looped.now),
                Some(Duration::ZERO),
                "act {number}"
            );
        }
    }
}

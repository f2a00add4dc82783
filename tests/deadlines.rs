//! Deadlines: each with its own reason, each started anew by what refutes it, none of them by what does not.
//!
//! The loop is driven by its public layer, with a clock of the test's own: no test waits for a deadline.

mod support;

use std::time::Duration;

use support::by_hand::Loop;
use support::{Peer, Recorder, addr_of, bytes_queued, framed};
use throng::{
    Config, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, ListenOptions, OpenError,
    OptionsError, Side,
};

const SECOND: Duration = Duration::from_secs(1);

fn joined(config: Config) -> (Loop, Recorder, Peer, ConnectionId) {
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let (peer, id) = looped.join(&mut seen);
    (looped, seen, peer, id)
}

#[track_caller]
fn the_end(seen: &Recorder) -> &DisconnectReason {
    assert_eq!(seen.ends().len(), 1, "it ends once");
    assert_eq!(seen.ends()[0].1.side(), Side::Us);
    seen.ends()[0].1
}

// ----- Idle -----

#[test]
fn connection_without_traffic_ends_at_the_idle_timeout() {
    let (mut looped, mut seen, _peer, _) = joined(Config::default().idle_timeout(10 * SECOND));
    for _ in 0..99 {
        looped.pass(SECOND / 10, &mut seen);
    }
    assert!(seen.ends().is_empty(), "9.9 s are not 10");
    assert!(looped.reactor.next_deadline().is_some());
    looped.pass(SECOND / 5, &mut seen);
    let reason = the_end(&seen);
    assert_cause!(reason, DisconnectCause::Idle { after } if after == 10 * SECOND);
    assert_eq!(reason.to_string(), "nothing was sent or received for 10s");
}

#[test]
fn byte_in_either_direction_resets_the_idle_timeout() {
    let (mut looped, mut seen, mut peer, id) = joined(Config::default().idle_timeout(10 * SECOND));
    let wire = framed(b"slow");
    for byte in &wire {
        looped.pass(9 * SECOND, &mut seen);
        peer.write(&[*byte]);
        let read = looped.net().stats().bytes_received;
        looped.settle(&mut seen, |_, net| net.stats().bytes_received > read);
    }
    assert_eq!(seen.frames(), [b"slow"]);
    for _ in 0..5 {
        looped.pass(9 * SECOND, &mut seen);
        looped.net().send(id, b"hello").expect("it is open");
        looped.pass(Duration::ZERO, &mut seen);
    }
    assert!(seen.ends().is_empty());
    looped.pass(10 * SECOND, &mut seen);
    assert!(matches!(the_end(&seen).cause, DisconnectCause::Idle { .. }));
}

#[test]
fn idle_timeout_applies_to_outbound_connections_and_per_listener() {
    let mut looped = Loop::new(Config::default().idle_timeout(10 * SECOND));
    let mut seen = Recorder::default();
    let outside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = outside.local_addr().expect("its address");
    let outbound = looped.net().connect(addr).expect("an attempt");
    let accepted = outside.accept().expect("the attempt");
    looped.settle(&mut seen, |_, net| net.is_connected(outbound));
    let patient = ListenOptions::default().idle_timeout(None);
    let listener = looped
        .net()
        .listen_with("127.0.0.1:0", patient)
        .expect("a listener");
    let addr = addr_of(looped.net(), listener);
    let _peer = Peer::connect(addr);
    looped.settle(&mut seen, |_, net| net.connection_count() == 2);
    looped.pass(10 * SECOND, &mut seen);
    assert_eq!(seen.ends()[0].0, outbound);
    looped.pass(1000 * SECOND, &mut seen);
    assert_eq!(seen.ends().len(), 1);
    drop(accepted);
}

#[test]
fn paused_connection_has_no_read_timeouts() {
    let config = Config::default()
        .idle_timeout(10 * SECOND)
        .frame_stall_timeout(5 * SECOND);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    peer.write(&framed(b"begun")[..6]);
    looped.settle(&mut seen, |_, net| net.stats().bytes_received == 6);
    looped.net().pause(id);
    for _ in 0..100 {
        looped.pass(7 * SECOND, &mut seen);
    }
    assert!(seen.ends().is_empty(), "this side does not read");
    looped.net().resume(id);
    looped.pass(4 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "its time begins anew");
    looped.pass(SECOND, &mut seen);
    assert!(matches!(
        the_end(&seen).cause,
        DisconnectCause::FrameStalled { .. }
    ));
}

// ----- A frame that does not go on -----

#[test]
fn part_of_a_header_or_line_can_stall() {
    let cases: [(throng::Framing, &[u8]); 5] = [
        (throng::Framing::default(), &[9]),
        (
            throng::Framing::length_prefix().u64().into(),
            &[1, 2, 3, 4, 5, 6, 7],
        ),
        (throng::Framing::varint(), &[0x80]),
        (throng::Framing::delimiter(b'\n'), b"abc"),
        (throng::Framing::delimiter(b'\n'), b"whole\nabc"),
    ];
    for (framing, bytes) in cases {
        let config = Config::default()
            .framing(framing)
            .frame_stall_timeout(5 * SECOND);
        let (mut looped, mut seen, mut peer, _) = joined(config);
        peer.write(bytes);
        let all = bytes.len() as u64;
        looped.settle(&mut seen, |_, net| net.stats().bytes_received == all);
        looped.pass(4 * SECOND, &mut seen);
        assert!(seen.ends().is_empty());
        looped.pass(SECOND, &mut seen);
        let DisconnectCause::FrameStalled { .. } = the_end(&seen).cause else {
            panic!("{}", the_end(&seen));
        };
    }
}

#[test]
fn header_that_arrives_in_parts_leaves_no_stall_timeout_behind() {
    let config = Config::default().frame_stall_timeout(5 * SECOND);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    let wire = framed(b"in two parts");
    for part in [&wire[..2], &wire[2..]] {
        peer.write(part);
        let all = looped.net().stats().bytes_received + part.len() as u64;
        looped.settle(&mut seen, |_, net| net.stats().bytes_received == all);
    }
    assert_eq!(seen.frames(), [b"in two parts"]);
    looped.pass(100 * SECOND, &mut seen);
    assert!(looped.net().is_connected(id), "it is between two frames");
}

/// Pauses at each chunk.
struct Pausing(Recorder);

impl throng::Handler for Pausing {
    fn on_connect(&mut self, net: &mut throng::Net, id: ConnectionId) {
        self.0.on_connect(net, id);
    }

    fn on_data(&mut self, _: &mut throng::Net, _: ConnectionId, _: throng::Frame<'_>) {}

    fn on_chunk(&mut self, net: &mut throng::Net, id: ConnectionId, _: throng::Chunk<'_>) {
        net.pause(id);
    }

    fn on_disconnect(&mut self, net: &mut throng::Net, id: ConnectionId, reason: DisconnectReason) {
        self.0.on_disconnect(net, id, reason);
    }
}

#[test]
fn frame_paused_at_its_first_chunk_can_stall_after_resume() {
    let config = Config::default()
        .stream_frames_over(10)
        .frame_stall_timeout(5 * SECOND);
    let mut looped = Loop::new(config);
    let mut pausing = Pausing(Recorder::default());
    let addr = looped.listen();
    let mut peer = Peer::connect(addr);
    looped.settle(&mut pausing, |pausing, _| !pausing.0.connected().is_empty());
    let id = pausing.0.connected()[0];
    peer.write(&framed(&[7; 5000])[..60]);
    looped.settle(&mut pausing, |_, net| {
        net.connection(id).is_some_and(|it| it.is_paused())
    });
    looped.pass(100 * SECOND, &mut pausing);
    looped.net().resume(id);
    looped.pass(4 * SECOND, &mut pausing);
    assert!(pausing.0.ends().is_empty());
    looped.pass(2 * SECOND, &mut pausing);
    let DisconnectCause::FrameStalled { .. } = the_end(&pausing.0).cause else {
        panic!("{}", the_end(&pausing.0));
    };
}

#[test]
fn idle_timeout_starts_again_after_resume() {
    let (mut looped, mut seen, _peer, id) = joined(Config::default().idle_timeout(10 * SECOND));
    looped.net().pause(id);
    for _ in 0..5 {
        looped.pass(9 * SECOND, &mut seen);
    }
    looped.net().resume(id);
    looped.pass(9 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "its time begins anew");
    for _ in 0..2 {
        looped.pass(9 * SECOND, &mut seen);
    }
    assert!(matches!(the_end(&seen).cause, DisconnectCause::Idle { .. }));
}

#[test]
fn frame_begun_before_backpressure_can_stall_after_it() {
    let config = Config::default().frame_stall_timeout(5 * SECOND);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    peer.write(&framed(b"begun")[..6]);
    looped.settle(&mut seen, |_, net| net.stats().bytes_received == 6);
    let large = bytes::Bytes::from(vec![7; 12 << 20]);
    looped.net().send_bytes(id, large).expect("there is room");
    looped.rest(&mut seen);
    assert!(
        looped
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested())
    );
    looped.pass(100 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "this side does not read");
    let reader = std::thread::spawn(move || (peer.receive().len(), peer));
    looped.settle(&mut seen, |_, net| {
        !net.connection(id).is_some_and(|it| it.is_congested()) && bytes_queued(net, id) == 0
    });
    looped.pass(4 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "its time begins anew");
    looped.pass(2 * SECOND, &mut seen);
    let DisconnectCause::FrameStalled { .. } = the_end(&seen).cause else {
        panic!("{}", the_end(&seen));
    };
    let (received, _peer) = reader.join().expect("it reads");
    assert_eq!(received, 12 << 20);
}

#[test]
fn connection_that_waits_for_a_queued_reader_does_not_stall() {
    /// Has nothing to give.
    struct Later;

    impl std::io::Read for Later {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::WouldBlock.into())
        }
    }

    let config = Config::default()
        .write_stall_timeout(SECOND)
        .idle_timeout(3 * SECOND);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    looped
        .net()
        .send_reader(id, 5, Later)
        .expect("there is room");
    for frames in 1..10 {
        looped.pass(SECOND, &mut seen);
        looped.net().wake_reader(id);
        peer.send(b"I am here");
        looped.settle(&mut seen, |seen, _| seen.frames().len() == frames);
    }
    assert!(seen.ends().is_empty());
    assert!(looped.net().is_connected(id));
}

#[test]
fn slowloris_is_disconnected_and_a_slow_upload_is_not() {
    let config = Config::default()
        .frame_stall_timeout(10 * SECOND)
        .frame_stall_bytes(2000);
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let (mut honest, honest_id) = looped.join(&mut seen);
    let (mut loris, loris_id) = looped.join(&mut seen);
    let (mut shy, shy_id) = looped.join(&mut seen);
    let wire = framed(&support::pattern(50_000));
    // One goes on at 1 KiB/s, one with a byte now and then, one sends a header and nothing more.
    loris.write(&wire[..4]);
    shy.write(&wire[..4]);
    let mut sent = 8;
    for part in wire.chunks(1024) {
        honest.write(part);
        sent += part.len() as u64;
        if seen.ends().is_empty() {
            loris.write(b"x");
            sent += 1;
        }
        looped.settle(&mut seen, |_, net| {
            net.stats().bytes_received >= sent.min(50_000)
        });
        looped.pass(SECOND, &mut seen);
    }
    looped.settle(&mut seen, |seen, _| !seen.frames().is_empty());
    assert_eq!(seen.frames()[0].len(), 50_000);
    assert!(looped.net().is_connected(honest_id));
    let ends = seen.ends();
    assert_eq!(ends.len(), 2);
    for (id, reason) in ends {
        let DisconnectCause::FrameStalled {
            received,
            min,
            within,
        } = reason.cause
        else {
            panic!("{reason}");
        };
        assert!(received <= 11, "{received}");
        assert_eq!((min, within), (2000, 10 * SECOND));
        assert!(id == loris_id || id == shy_id);
        assert!(
            reason
                .to_string()
                .contains("bytes of it in 10s, and the minimum is 2000")
        );
    }
    // Between two frames there is no hurry.
    looped.pass(1000 * SECOND, &mut seen);
    assert!(looped.net().is_connected(honest_id));
}

#[test]
fn frame_that_grows_by_frame_stall_bytes_per_period_does_not_stall() {
    for (second, stays) in [(50, true), (49, false)] {
        let config = Config::default()
            .frame_stall_timeout(10 * SECOND)
            .frame_stall_bytes(50);
        let (mut looped, mut seen, mut peer, _) = joined(config);
        let wire = framed(&support::pattern(50_000));
        let mut sent = 0;
        // What arrives in one period does not count in the next.
        for bytes in [4, 1000, second] {
            peer.write(&wire[sent..sent + bytes]);
            sent += bytes;
            looped.settle(&mut seen, |_, net| {
                net.stats().bytes_received == sent as u64
            });
            if bytes != 4 {
                looped.pass(10 * SECOND, &mut seen);
            }
        }
        assert_eq!(seen.ends().is_empty(), stays, "{second} bytes");
    }
}

#[test]
fn small_frames_that_arrive_in_pieces_do_not_stall() {
    let config = Config::default().frame_stall_timeout(10 * SECOND);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    // Each write ends one frame and begins the next: the stream is never between frames.
    let wire = framed(b"tiny").repeat(101);
    let mut sent = 6;
    peer.write(&wire[..6]);
    for part in wire[6..].chunks(8).take(99) {
        looped.pass(6 * SECOND, &mut seen);
        peer.write(part);
        sent += 8;
        looped.settle(&mut seen, |_, net| net.stats().bytes_received == sent);
    }
    assert!(looped.net().is_connected(id));
    assert_eq!(seen.frames().len(), 99);
    looped.pass(10 * SECOND, &mut seen);
    assert!(matches!(
        the_end(&seen).cause,
        DisconnectCause::FrameStalled { received: 0, .. }
    ));
}

// ----- Writes without progress -----

#[test]
fn peer_that_reads_nothing_stalls_and_peer_that_reads_slowly_does_not() {
    let config = Config::default()
        .write_stall_timeout(10 * SECOND)
        .max_queued_bytes(1 << 30);
    let (mut looped, mut seen, peer, id) = joined(config);
    let payload = bytes::Bytes::from(vec![7; 64 << 20]);
    looped.net().send_bytes(id, payload).expect("there is room");
    looped.rest(&mut seen);
    let mut buffer = vec![0; 4 << 20];
    for _ in 0..10 {
        looped.pass(9 * SECOND, &mut seen);
        // It takes enough for the sockets to go on.
        let before = looped.queued(id);
        assert!(before > 0);
        while looped.queued(id) == before {
            std::io::Read::read(&mut (&peer.0), &mut buffer).expect("some of it");
            looped.rest(&mut seen);
        }
        if looped.queued(id) == 0 {
            break;
        }
    }
    assert!(seen.ends().is_empty());
    let queued = looped.queued(id);
    assert!(queued > 0, "the sockets hold more than the test expects");
    looped.pass(9 * SECOND + SECOND / 2, &mut seen);
    assert!(seen.ends().is_empty());
    looped.pass(SECOND, &mut seen);
    let reason = the_end(&seen);
    let DisconnectCause::WriteStalled {
        after,
        queued: told,
    } = reason.cause
    else {
        panic!("{reason}");
    };
    assert_eq!(
        (after, told, reason.unsent_bytes),
        (10 * SECOND, queued, queued)
    );
    assert_eq!(reason.unsent_frames, 1);
}

#[test]
fn empty_queue_never_stalls() {
    let config = Config::default().write_stall_timeout(10 * SECOND);
    let (mut looped, mut seen, mut peer, id) = joined(config);
    looped.net().send(id, b"hello").expect("it is open");
    looped.pass(Duration::ZERO, &mut seen);
    assert_eq!(peer.receive(), b"hello");
    for _ in 0..10 {
        looped.pass(100 * SECOND, &mut seen);
    }
    assert!(seen.ends().is_empty());
}

// ----- All of them -----

#[test]
fn busy_connection_moves_no_timer() {
    let config = Config::default()
        .idle_timeout(10 * SECOND)
        .frame_stall_timeout(10 * SECOND)
        .write_stall_timeout(10 * SECOND);
    let (mut looped, mut seen, mut peer, _) = joined(config);
    seen.echo = true;
    let deadline = looped.reactor.next_deadline();
    for number in 0..100_u64 {
        peer.send(&number.to_le_bytes());
        let frames = number as usize + 1;
        looped.settle(&mut seen, |seen, _| seen.frames().len() == frames);
        assert_eq!(peer.receive(), number.to_le_bytes());
        looped.pass(Duration::from_millis(5), &mut seen);
    }
    // The memory of the pool is given back after a second; nothing else came in front.
    let next = looped.reactor.next_deadline().expect("a deadline");
    assert!(next >= deadline.expect("a deadline").min(looped.now));
    looped.pass(9 * SECOND, &mut seen);
    assert!(seen.ends().is_empty());
}

#[test]
fn closing_connection_has_only_the_disconnect_timeout() {
    let config = Config::default()
        .idle_timeout(2 * SECOND)
        .disconnect_timeout(30 * SECOND);
    let (mut looped, mut seen, peer, id) = joined(config);
    looped.net().disconnect(id);
    looped.pass(Duration::ZERO, &mut seen);
    looped.pass(29 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "its peer has 30 s to close");
    looped.pass(2 * SECOND, &mut seen);
    assert!(matches!(
        the_end(&seen).cause,
        DisconnectCause::DrainTimedOut { .. }
    ));
    drop(peer);
}

#[test]
fn timeout_of_zero_is_an_error() {
    let settings = [
        (
            Config::default().idle_timeout(Duration::ZERO),
            "idle_timeout",
        ),
        (
            Config::default().frame_stall_timeout(Duration::ZERO),
            "frame_stall_timeout",
        ),
        (
            Config::default().write_stall_timeout(Duration::ZERO),
            "write_stall_timeout",
        ),
        (Config::default().keepalive(Duration::ZERO), "keepalive"),
        (
            Config::default().user_timeout(Duration::ZERO),
            "user_timeout",
        ),
    ];
    for (config, setting) in settings {
        let error = <EventLoop>::new(config).expect_err("nothing lives for no time");
        assert_eq!(
            error.to_string(),
            OptionsError::ZeroTimeout { setting }.to_string()
        );
    }
}

#[test]
fn timeout_beyond_the_limit_of_the_kernel_is_an_error() {
    type Set = fn(ListenOptions, Duration) -> ListenOptions;
    let settings: [(&str, Duration, Set); 2] = [
        ("keepalive", 32_767 * SECOND, |options, after| {
            options.keepalive(after)
        }),
        (
            "user_timeout",
            Duration::from_millis(2_147_483_647),
            |options, after| options.user_timeout(after),
        ),
    ];
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    for (setting, max, set) in settings {
        for timeout in [max + Duration::from_nanos(1), Duration::MAX] {
            let options = set(ListenOptions::default(), timeout);
            let error = event_loop.net().listen_with("127.0.0.1:0", options);
            let error = error.expect_err("it is too long");
            let expected = OptionsError::TimeoutTooLong {
                setting,
                timeout,
                max,
            };
            assert!(matches!(&error, OpenError::Options(error) if *error == expected));
            let said = error.to_string();
            assert!(said.contains(setting) && said.contains(&format!("{max:?}")));
            assert!(said.contains(&format!("{timeout:?}")), "{said}");
        }
        if cfg!(target_os = "linux") {
            let options = set(ListenOptions::default(), max);
            let listener = event_loop.net().listen_with("127.0.0.1:0", options);
            listener.unwrap_or_else(|error| panic!("{setting}: {error}"));
        }
    }
}

#[test]
fn timeout_beyond_the_clock_never_fires() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for after in [49 * DAY + Duration::from_nanos(1), 60 * DAY, Duration::MAX] {
        let config = Config::default()
            .idle_timeout(after)
            .frame_stall_timeout(after);
        let (mut looped, mut seen, mut peer, id) = joined(config);
        peer.write(&[9]);
        looped.settle(&mut seen, |_, net| net.stats().bytes_received == 1);
        for _ in 0..20 {
            looped.pass(10 * DAY, &mut seen);
        }
        assert!(looped.net().is_connected(id), "{after:?}");
    }
}

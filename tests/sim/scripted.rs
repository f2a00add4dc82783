//! Scripted peers, and the behaviour of a simulated network.

use std::time::Duration;

use throng::sim::{End, Faults, Host, Link, World, check};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net,
    Stage,
};

const ADDR: &str = "127.0.0.1:5000";
const SECOND: Duration = Duration::from_secs(1);

/// Echoes frames, and notes the ends of connections.
#[derive(Default)]
struct Echo {
    connected: usize,
    ends: Vec<DisconnectReason>,
}

impl Handler for Echo {
    fn on_connect(&mut self, _: &mut Net, _: ConnectionId) {
        self.connected += 1;
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let _ = net.send_frame(id, frame);
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.ends.push(reason);
    }
}

fn echo(world: &World, config: Config) -> Host<Echo> {
    let host = world.host(config, Echo::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    host
}

#[test]
fn scripted_peer_gets_its_echo() {
    let world = World::new(1);
    echo(&world, Config::default());
    let peer = world.connect(ADDR);
    peer.send("hello").send("").send(vec![7; 100_000]);
    peer.expect("hello").expect("").expect(vec![7; 100_000]);
    peer.half_close();
    assert_eq!(peer.expect_end(), End::Closed);
}

#[test]
fn peer_without_listener_is_refused() {
    let world = World::new(1);
    assert_eq!(world.connect(ADDR).expect_end(), End::Refused);
}

#[test]
fn reset_is_reported_with_what_was_not_sent() {
    let world = World::new(1);
    let host = echo(&world, Config::default());
    let peer = world.connect(ADDR);
    peer.stall().send(vec![7; 300_000]);
    world.run_for(SECOND);
    peer.reset();
    world.run_for(SECOND);
    let echo = host.handler();
    assert_eq!(echo.ends.len(), 1);
    let reason = &echo.ends[0];
    assert!(
        matches!(reason.cause, DisconnectCause::Reset(_)),
        "{reason}"
    );
    assert_eq!(reason.unsent_frames, 1);
}

#[test]
fn eof_inside_a_frame_is_reported() {
    let world = World::new(1);
    let host = echo(&world, Config::default());
    let peer = world.connect(ADDR);
    peer.send_raw([5, 0, 0, 0, 1, 2]).half_close();
    assert_eq!(peer.expect_end(), End::Closed);
    let echo = host.handler();
    let cause = &echo.ends[0].cause;
    let inside = matches!(
        cause,
        DisconnectCause::PeerClosedInsideFrame { received: 2 }
    );
    assert!(inside, "{cause:?}");
}

#[test]
fn hour_of_silence_takes_no_time_and_ends_an_idle_connection() {
    let world = World::new(1);
    let host = echo(&world, Config::default().idle_timeout(3600 * SECOND));
    let peer = world.connect(ADDR);
    world.run_for(3599 * SECOND);
    assert_eq!(peer.end(), None);
    world.run_for(2 * SECOND);
    assert_eq!(peer.end(), Some(End::Closed));
    assert_eq!(host.handler().ends.len(), 1);
}

/// Connects, greets, and notes the ends.
#[derive(Default)]
struct Client(Vec<DisconnectReason>);

impl Handler for Client {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"hello").expect("it is open");
    }
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        net.disconnect(id);
    }
    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.0.push(reason);
    }
}

#[test]
fn two_loops_talk_to_each_other() {
    let world = World::new(1);
    let server = echo(&world, Config::default());
    let client = world.host(Config::default(), Client::default());
    let addr = ADDR.parse().expect("an address");
    client
        .with(|_, net| net.connect(addr))
        .expect("a descriptor");
    world.run_for(SECOND);
    assert!(matches!(
        server.handler().ends[0].cause,
        DisconnectCause::PeerClosed
    ));
    assert!(matches!(
        client.handler().0[0].cause,
        DisconnectCause::ClosedLocally
    ));
    assert_eq!((server.open_files(), client.open_files()), (0, 0));
}

#[test]
fn scripted_listener_accepts_a_loop() {
    let world = World::new(1);
    let listener = world.listen("127.0.0.1:0");
    let client = world.host(Config::default(), Client::default());
    client
        .with(|_, net| net.connect(listener.addr()))
        .expect("a descriptor");
    let peer = listener.accept();
    peer.expect("hello").send("bye");
    assert_eq!(peer.expect_end(), End::Closed);
}

#[test]
fn partition_delays_frames_and_times_out_connection_attempts() {
    let world = World::new(1);
    let server = echo(&world, Config::default());
    let client = world.host(Config::default(), Client::default());
    let peer = world.connect(ADDR);
    peer.send("one").expect("one");
    world.partition(&server, &peer);
    world.partition_hosts(&server, &client);
    let options = ConnectOptions::default().timeout(SECOND);
    let addr = ADDR.parse().expect("an address");
    client
        .with(|_, net| net.connect_with(addr, options))
        .expect("a descriptor");
    peer.send("two");
    world.run_for(60 * SECOND);
    assert_eq!(peer.take(), None);
    world.heal();
    peer.expect("two");
    let client = client.handler();
    assert_eq!(client.0[0].stage, Stage::Connecting);
    assert!(matches!(
        client.0[0].cause,
        DisconnectCause::ConnectTimedOut { .. }
    ));
}

#[test]
fn loop_without_descriptors_accepts_when_one_is_free() {
    let world = World::new(1);
    let host = echo(&world, Config::default());
    host.limit_files(1);
    let (one, two) = (world.connect(ADDR), world.connect(ADDR));
    two.send("two");
    one.send("one").expect("one");
    world.run_for(60 * SECOND);
    assert_eq!((two.take(), host.stats().accept_failures > 0), (None, true));
    one.close();
    two.expect("two");
}

#[test]
fn killed_host_resets_or_closes_its_connections() {
    let world = World::new(1);
    let host = echo(&world, Config::default());
    let (idle, busy) = (world.connect(ADDR), world.connect(ADDR));
    busy.stall().send(vec![7; 1_000_000]);
    world.run_for(SECOND);
    assert_eq!(host.kill().connected, 2);
    busy.unstall();
    assert_eq!(busy.expect_end(), End::Reset);
    assert_eq!(idle.expect_end(), End::Closed);
    assert_eq!(world.connect(ADDR).expect_end(), End::Refused);
}

#[test]
fn bandwidth_and_latency_are_those_of_the_link() {
    let mut link = Link::default();
    link.latency = Duration::from_millis(100);
    link.bandwidth = 1_000_000;
    let world = World::new(1).link(link);
    echo(&world, Config::default());
    let peer = world.connect(ADDR);
    peer.send(vec![7; 1_000_000]).receive();
    let elapsed = world.elapsed();
    assert!((2 * SECOND..5 * SECOND).contains(&elapsed), "{elapsed:?}");
}

/// Random peers against an echo server. Returns the digest of the world.
fn crowd(world: &World) -> u64 {
    let mut faults = Faults::all();
    faults.resets = 100;
    world.set_faults(faults);
    let config = Config::default()
        .idle_timeout(60 * SECOND)
        .max_queued_bytes(10_000);
    let host = echo(world, config);
    let peers: Vec<_> = (0..10).map(|_| world.connect(ADDR)).collect();
    for _ in 0..100 {
        let peer = &peers[world.random().below(10)];
        let len = world.random().length(2000);
        match world.random().below(8) {
            0 => peer.stall(),
            1 => peer.half_close(),
            2 => peer.reset(),
            3 => peer.unstall(),
            _ => peer.send(vec![7; len]),
        };
        let time = world.random().duration(SECOND);
        world.run_for(time);
    }
    let ends: Vec<_> = host
        .handler()
        .ends
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(!ends.is_empty());
    world.digest()
}

#[test]
fn same_seed_gives_the_same_run_to_the_byte() {
    let digests: Vec<_> = (0..20).map(|seed| crowd(&World::new(seed))).collect();
    let again: Vec<_> = (0..20).map(|seed| crowd(&World::new(seed))).collect();
    assert_eq!(digests, again);
    let mut distinct = digests.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), digests.len(), "seeds differ");
}

/// Fails unless the scenario is small.
#[test]
fn failing_scenario_is_shrunk() {
    let sizes = std::cell::RefCell::new(Vec::new());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check(1, |world| {
            let steps: usize = (0..50).map(|_| world.up_to(1000)).max().unwrap_or(0);
            sizes.borrow_mut().push(steps);
            assert!(steps < 200, "too many steps");
        });
    }));
    assert!(result.is_err());
    let sizes = sizes.into_inner();
    assert!(sizes[0] > 500 && sizes.last() < Some(&400), "{sizes:?}");
}

#[test]
fn stream_of_another_world_is_not_adopted() {
    let (one, other) = (World::new(1), World::new(1));
    let host = one.host(Config::default(), Releases::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let elsewhere = other.host(Config::default(), Echo::default());
    let peer = one.connect(ADDR);
    peer.send("release me");
    one.run_for(SECOND);
    let stream = host.with(|handler, _| handler.0.pop()).expect("a stream");
    let refused = elsewhere.with(|_, net| net.adopt(stream, ConnectOptions::default()));
    assert!(refused.is_err());
    let real = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let refused = elsewhere.with(|_, net| net.adopt_listener(real, Default::default()));
    assert!(
        refused.is_err(),
        "sockets of the system have no events there"
    );
}

#[derive(Default)]
struct Releases(Vec<throng::Stream>);

impl Handler for Releases {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        net.release(id).expect("it is open");
    }
    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        if let DisconnectCause::Released(released) = reason.cause {
            self.0.push(released.stream);
        }
    }
}

//! A shutdown: each connection has its `on_disconnect`, everything is written, and the rest is reset at the deadline.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::by_hand::Loop;
use support::scene::Scene;
use support::{Event, PATIENCE, Peer, Recorder, Server, framed, listening, pattern, turn_until};
use throng::{
    Admission, Config, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Expired, Frame,
    Handler, ListenOptions, ListenerId, Net, OpenError, Stage,
};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

/// More than the buffers of two sockets hold.
fn large() -> Bytes {
    pattern(12 << 20).into()
}

fn is_shutting_down(reason: &DisconnectReason) -> bool {
    matches!(reason.cause, DisconnectCause::ShutDown)
}

/// Shuts down when it is told to, after a last word to all.
struct Landlord(Recorder);

impl Handler for Landlord {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.0.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert!(!net.is_shutting_down(), "frames are shown no more");
        self.0.events.push(Event::Data(id, frame.to_vec()));
        net.broadcast(|_| true, b"good night");
        net.shutdown(LONG);
        assert!(net.connection_count() == 0 && net.is_shutting_down());
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        assert!(net.send(id, b"too late").is_err());
        self.0.on_disconnect(net, id, reason);
    }
}

#[test]
fn all_peers_read_the_last_message_and_run_returns() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut landlord = Landlord(Recorder::default());
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut event_loop, &mut landlord, |_, net| {
        net.connection_count() == 20
    });
    // The second frame of the same burst is not shown.
    peers[7].write(&[framed(b"shut down"), framed(b"or not")].concat());
    let readers = std::thread::spawn(move || {
        for mut peer in peers {
            assert_eq!(peer.receive(), b"good night");
            peer.expect_end();
        }
    });
    event_loop.run(&mut landlord).expect("a clean end");
    readers.join().expect("all were told");

    let ends = landlord.0.ends();
    assert_eq!(ends.len(), 20);
    for (id, reason) in ends {
        assert!(is_shutting_down(reason), "{id}: {reason}");
        assert_eq!((reason.stage, reason.unsent_frames), (Stage::Open, 0));
    }
    assert!(!event_loop.net().is_shutting_down());
    assert_eq!(event_loop.net().stats().memory_bytes, 0);
    assert!(TcpStream::connect(addr).is_err(), "the listener is open");
}

#[test]
fn slow_peer_gets_everything_with_a_short_disconnect_timeout() {
    let mut looped = Loop::new(Config::default().disconnect_timeout(Duration::from_millis(1)));
    let mut seen = Recorder::default();
    let (mut peer, id) = looped.join(&mut seen);
    looped.net().send_bytes(id, large()).expect("there is room");
    looped.net().shutdown(60 * SECOND);
    for _ in 0..50 {
        looped.pass(SECOND, &mut seen);
    }
    assert!(seen.ends().is_empty(), "it has a minute");
    let reader = std::thread::spawn(move || {
        assert!(peer.receive() == large(), "it is not what was sent");
        peer.expect_end();
    });
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    reader.join().expect("all of it");
    assert!(is_shutting_down(seen.ends()[0].1));
    assert!(looped.net().is_stopping());
}

#[test]
fn peer_that_does_not_read_is_reset_at_the_deadline() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let (mut silent, silent_id) = looped.join(&mut seen);
    let (_stays, stays_id) = looped.join(&mut seen);
    looped
        .net()
        .send_bytes(silent_id, large())
        .expect("there is room");
    looped.net().shutdown(10 * SECOND);
    looped.pass(9 * SECOND, &mut seen);
    assert!(seen.ends().is_empty() && !looped.net().is_stopping());
    looped.pass(SECOND, &mut seen);
    looped.settle(&mut seen, |_, net| net.is_stopping());

    for (id, reason) in seen.ends() {
        assert_cause!(reason, DisconnectCause::DrainTimedOut { after } if after == 10 * SECOND);
        assert_eq!(reason.unsent_frames, u64::from(id == silent_id));
    }
    let mut ids: Vec<_> = seen.ends().iter().map(|(id, _)| *id).collect();
    ids.sort_by_key(|id| id.index());
    assert_eq!(ids, [silent_id, stays_id]);
    // A stream that was cut off does not look like one that ended.
    silent.expect_reset();
    assert_eq!(looped.net().stats().memory_bytes, 0);
}

#[test]
fn shutdown_refuses_new_connections_and_drops_attempts() {
    let (mut event_loop, _) = listening(ListenOptions::default());
    let server = Server::echo();
    let mut seen = Recorder::default();
    event_loop.net().connect(server.addr).expect("it starts");
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 1
    });
    let net = event_loop.net();
    let attempt = net.connect(server.addr).expect("it starts");
    net.shutdown(PATIENCE);
    assert!(matches!(
        net.listen("127.0.0.1:0"),
        Err(OpenError::ShuttingDown)
    ));
    assert!(matches!(
        net.connect(server.addr),
        Err(OpenError::ShuttingDown)
    ));
    event_loop.run(&mut seen).expect("a clean end");
    let ends = seen.ends();
    let (_, reason) = ends.iter().find(|(id, _)| *id == attempt).expect("its end");
    assert!(is_shutting_down(reason));
    assert_eq!(reason.stage, Stage::Connecting);
    assert_eq!(ends.len(), 2);
}

#[test]
fn shutdown_without_connections_ends_at_once_and_the_loop_is_reusable() {
    let (mut event_loop, _) = listening(ListenOptions::default());
    let mut seen = Recorder::echoing();
    event_loop.net().shutdown(LONG);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop.run(&mut seen).expect("a clean end");
    assert!(!event_loop.net().is_stopping());

    let addr = support::listen(&mut event_loop, ListenOptions::default());
    let mut peer = Peer::connect(addr);
    peer.send(b"still there?");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert_eq!(peer.receive(), b"still there?");
    assert!(seen.ends().is_empty());
}

/// Shuts down when a timer fires, and then wants to connect.
struct Regret(SocketAddr, Vec<OpenError>);

impl Handler for Regret {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if expired.key == 0 {
            net.shutdown(LONG);
            assert!(net.is_shutting_down());
        } else {
            self.1.extend(net.connect(self.0).err());
        }
    }
}

/// Its end would never be told.
#[test]
fn shutdown_without_connections_refuses_connect_until_the_turn_ends() {
    let server = Server::echo();
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    for key in 0..2 {
        event_loop.net().set_timer(Duration::ZERO, key);
    }
    let mut regret = Regret(server.addr, Vec::new());
    event_loop.run(&mut regret).expect("a clean end");
    assert!(matches!(regret.1[..], [OpenError::ShuttingDown]));
}

#[test]
fn second_shutdown_can_only_shorten_the_deadline() {
    for (second, after) in [
        (Duration::MAX, 10 * SECOND),
        (Duration::ZERO, Duration::ZERO),
    ] {
        let mut looped = Loop::new(Config::default());
        let mut seen = Recorder::default();
        let (_peer, _) = looped.join(&mut seen);
        looped.net().shutdown(10 * SECOND);
        looped.net().shutdown(second);
        looped.pass(after.saturating_sub(SECOND / 10), &mut seen);
        assert_eq!(looped.net().is_stopping(), after.is_zero());
        looped.pass(SECOND, &mut seen);
        looped.settle(&mut seen, |_, net| net.is_stopping());
        let (_, reason) = seen.ends()[0];
        assert_cause!(reason, DisconnectCause::DrainTimedOut { after: was } if was == after);
    }
}

#[test]
fn closing_connection_keeps_its_deadline_and_cause() {
    let mut looped = Loop::new(Config::default().disconnect_timeout(5 * SECOND));
    let mut seen = Recorder::default();
    let (_kicked, kicked) = looped.join(&mut seen);
    let (_other, other) = looped.join(&mut seen);
    looped.net().disconnect(kicked);
    looped.pass(Duration::ZERO, &mut seen);
    looped.pass(SECOND, &mut seen);
    looped.net().shutdown(60 * SECOND);
    looped.pass(4 * SECOND, &mut seen);
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert_eq!(seen.ends()[0].0, kicked);
    looped.pass(54 * SECOND, &mut seen);
    assert_eq!(seen.ends().len(), 1);
    looped.pass(2 * SECOND, &mut seen);
    looped.settle(&mut seen, |_, net| net.is_stopping());
    assert_eq!(seen.ends()[1].0, other);
}

/// Shuts down while a peer is being admitted.
#[derive(Default)]
struct Doorkeeper(usize);

impl Handler for Doorkeeper {
    fn on_accept(&mut self, net: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        self.0 += 1;
        net.shutdown(LONG);
        Admission::Admit
    }

    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        panic!("{id} came in after the shutdown");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn peer_is_refused_if_on_accept_shuts_down() {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let addr = support::listen(&mut event_loop, ListenOptions::default());
    let peers = [Peer::connect(addr), Peer::connect(addr)];
    let mut doorkeeper = Doorkeeper::default();
    event_loop.run(&mut doorkeeper).expect("a clean end");
    assert_eq!(doorkeeper.0, 1);
    assert_eq!(event_loop.net().stats().accepted, 0);
    drop(peers);
}

/// What becomes of a peer that has connected and sent something, but was not accepted, when its listener is ended.
#[cfg(target_os = "linux")]
#[test]
fn peer_in_the_backlog_is_reset_however_its_listener_ends() {
    type End = fn(EventLoop, throng::ListenerId);
    let ends: [End; 3] = [
        |mut event_loop, listener| {
            assert!(event_loop.net().close_listener(listener));
        },
        |mut event_loop, _| event_loop.net().shutdown(LONG),
        |event_loop, _| drop(event_loop),
    ];
    for end in ends {
        let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        let listener = net.listen("127.0.0.1:0").expect("a port");
        let addr = support::addr_of(net, listener);
        let (mut silent, mut talking) = (Peer::connect(addr), Peer::connect(addr));
        talking.send(b"hello");
        end(event_loop, listener);
        silent.expect_reset();
        talking.expect_reset();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn backlog_outlives_a_listener_with_a_clone() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let clone = socket.try_clone().expect("a descriptor");
    let addr = socket.local_addr().expect("its address");
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let options = ListenOptions::default;
    let listener = net.adopt_listener(socket, options()).expect("it listens");
    let mut peer = Peer::connect(addr);
    peer.send(b"still there");
    assert!(net.close_listener(listener));
    net.adopt_listener(clone, options()).expect("it listens");
    let mut echo = support::Recorder::echoing();
    support::turn_until(&mut event_loop, &mut echo, |echo, _| {
        !echo.frames().is_empty()
    });
    assert_eq!(peer.receive(), b"still there");
}

#[test]
fn panic_in_the_last_on_disconnect_does_not_delay_the_end() {
    struct Panics;
    impl Handler for Panics {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
        fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, _: DisconnectReason) {
            panic!("as agreed");
        }
    }
    let mut looped = Loop::new(Config::default());
    let (peer, _) = looped.join(&mut Recorder::default());
    looped.net().shutdown(LONG);
    looped.rest(&mut Panics);
    drop(peer);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "its end is not told");
        let turn = || looped.turn(SECOND / 100, &mut Panics);
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).is_err() {
            break;
        }
    }
    assert_eq!(
        looped.reactor.next_timeout(looped.now),
        Some(Duration::ZERO)
    );
    looped.pass(Duration::ZERO, &mut Panics);
    assert!(looped.net().is_stopping());
}

/// A reader may be called in the last try, before connections are reset.
#[test]
fn reader_that_panics_at_the_deadline_does_not_put_off_the_end() {
    struct Panics;
    impl std::io::Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("as agreed");
        }
    }
    let mut scene = Scene::with(Config::default());
    let (_deaf, other) = scene.looped.join(&mut scene.seen);
    scene.narrow(128 * 1024);
    while scene.queued() == 0 {
        let sending = scene.looped.net().send(scene.id, &[7; 13_000]);
        sending.expect("there is room");
        scene.pass(Duration::ZERO);
    }
    let net = &mut scene.looped.net();
    net.send_reader(scene.id, 10, Panics)
        .expect("there is room");
    net.send_bytes(other, large()).expect("there is room");
    net.shutdown(10 * SECOND);
    scene.looped.rest(&mut scene.seen);
    assert!(scene.seen.ends().is_empty());
    // It reads all there is, and no event of that is looked at.
    let mut taken = vec![0; scene.looped.net().stats().bytes_sent as usize / 4];
    std::io::Read::read_exact(&mut scene.peer.0, &mut taken).expect("it was written");
    scene.looped.now += 10 * SECOND;
    scene.looped.reactor.begin_turn(scene.looped.now);
    let turn = || scene.looped.reactor.finish_turn(&mut scene.seen);
    let turned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn));
    assert!(turned.is_err(), "the reader is asked");
    for _ in 0..3 {
        scene.pass(SECOND);
    }
    assert_eq!(scene.seen.ends().len(), 2);
    assert!(scene.looped.net().is_stopping());
}

/// Those that are on their way out have the time of the shutdown.
#[test]
fn blocked_release_ends_with_the_shutdown() {
    let mut scene = Scene::with(Config::default().disconnect_timeout(60 * SECOND));
    scene.block();
    scene.looped.net().release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    scene.looped.net().shutdown(10 * SECOND);
    scene.pass(9 * SECOND);
    assert!(scene.seen.ends().is_empty());
    scene.pass(2 * SECOND);
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::DrainTimedOut { .. });
    assert_eq!(reason.stage, Stage::Closing);
}

#[test]
fn peer_of_a_dropped_loop_with_unsent_frames_is_reset() {
    let mut scene = Scene::with(Config::default());
    let (mut other, _) = scene.looped.join(&mut scene.seen);
    scene.block();
    let (scene, mut peer) = scene.apart();
    drop(scene);
    peer.expect_reset();
    // Nothing was to be sent to this one.
    other.expect_end();
}

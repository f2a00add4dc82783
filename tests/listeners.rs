//! Listeners that are paused, resumed and released.

mod support;

use std::net::SocketAddr;

use support::by_hand::Loop;
use support::{Peer, Recorder, addr_of};
use throng::{Admission, Config, ConnectionId, Frame, Handler, ListenOptions, ListenerId, Net};

fn listening(looped: &mut Loop) -> (ListenerId, SocketAddr) {
    let net = looped.net();
    let listener = net.listen("127.0.0.1:0").expect("a free port");
    let addr = addr_of(net, listener);
    (listener, addr)
}

/// Connects peers, each of which sends a frame with its number.
fn numbered(addr: SocketAddr, numbers: std::ops::Range<u8>) -> Vec<Peer> {
    let connect = |number| {
        let mut peer = Peer::connect(addr);
        peer.send(&[number]);
        peer
    };
    numbers.map(connect).collect()
}

#[track_caller]
fn expect_echoes(peers: &mut [Peer]) {
    for (number, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.receive(), [number as u8]);
    }
}

/// Makes turns until all peers are connected and have an answer.
#[track_caller]
fn serve(looped: &mut Loop, seen: &mut Recorder, peers: usize) {
    looped.settle(seen, |seen, _| seen.frames().len() == peers);
    assert_eq!(seen.connected().len(), peers);
}

#[test]
fn paused_listener_accepts_no_peer_and_is_not_woken_by_any() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::echoing();
    let (listener, addr) = listening(&mut looped);
    assert!(looped.net().pause_listener(listener));
    let mut peers = numbered(addr, 0..3);
    for _ in 0..5 {
        assert_eq!(looped.poll_once(), 0, "an event of a paused listener");
        looped.rest(&mut seen);
    }
    assert_eq!(looped.net().stats().accepted, 0);
    assert_eq!(looped.reactor.next_timeout(looped.now), None);

    assert!(looped.net().resume_listener(listener));
    serve(&mut looped, &mut seen, 3);
    expect_echoes(&mut peers);
    // It is registered again: the next peer causes an event.
    looped.rest(&mut seen);
    let (_peer, _) = looped.join_at(addr, &mut seen);
}

#[test]
fn view_of_a_listener_has_its_id_address_and_whether_it_is_paused() {
    let mut looped = Loop::new(Config::default());
    let (listener, addr) = listening(&mut looped);
    let net = looped.net();
    let is_paused = |net: &Net| net.listener(listener).expect("it is open").is_paused();
    assert!(!is_paused(net));
    net.pause_listener(listener);
    assert!(is_paused(net));
    let view = net.listener(listener).expect("it is open");
    assert_eq!((view.id(), view.local_addr()), (listener, Some(addr)));
    let shown = format!("{view:?}");
    assert!(shown.contains(&addr.to_string()), "{shown}");
    assert!(shown.contains("is_paused: true"), "{shown}");
    net.resume_listener(listener);
    assert!(!is_paused(net));
    net.close_listener(listener);
    assert!(net.listener(listener).is_none());
}

#[test]
fn peer_that_was_reported_before_the_pause_waits() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::echoing();
    let (listener, addr) = listening(&mut looped);
    let mut peers = numbered(addr, 0..1);
    looped.turn_with(&mut seen, |reactor, _| {
        assert!(reactor.net().pause_listener(listener));
    });
    looped.rest(&mut seen);
    assert_eq!(looped.net().stats().accepted, 0);
    assert!(looped.net().resume_listener(listener));
    serve(&mut looped, &mut seen, 1);
    expect_echoes(&mut peers);
}

#[test]
fn listener_that_was_never_paused_can_be_resumed() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::echoing();
    let (listener, addr) = listening(&mut looped);
    assert!(looped.net().resume_listener(listener));
    looped.rest(&mut seen);
    let mut peers = numbered(addr, 0..2);
    serve(&mut looped, &mut seen, 2);
    expect_echoes(&mut peers);
}

/// Pauses the listener in `on_accept`, for each peer.
#[derive(Default)]
struct OneAtATime(Recorder);

impl Handler for OneAtATime {
    fn on_accept(&mut self, net: &mut Net, id: ListenerId, _: Option<SocketAddr>) -> Admission {
        assert!(net.pause_listener(id));
        Admission::Admit
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.0.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.0.on_data(net, id, frame);
    }
}

#[test]
fn listener_that_on_accept_pauses_admits_that_peer_and_no_other() {
    let mut looped = Loop::new(Config::default());
    let mut seen = OneAtATime(Recorder::echoing());
    let (listener, addr) = listening(&mut looped);
    let mut peers = numbered(addr, 0..3);
    for admitted in 1..=3 {
        looped.settle(&mut seen, |seen, _| seen.0.frames().len() == admitted);
        looped.rest(&mut seen);
        assert_eq!(seen.0.connected().len(), admitted);
        assert!(looped.net().resume_listener(listener));
    }
    expect_echoes(&mut peers);
}

#[test]
fn released_listener_keeps_its_backlog_for_the_next_loop() {
    let (mut old, mut new) = (Loop::new(Config::default()), Loop::new(Config::default()));
    let (mut seen_by_old, mut seen) = (Recorder::echoing(), Recorder::echoing());
    let (listener, addr) = listening(&mut old);
    let (mut early, _) = old.join_at(addr, &mut seen_by_old);
    let mut peers = numbered(addr, 0..3);
    let socket = old.net().release_listener(listener).expect("it is open");
    assert!(old.net().listener(listener).is_none());
    old.rest(&mut seen_by_old);
    assert_eq!(seen_by_old.connected().len(), 1);

    let adopted = new.net().adopt_listener(socket, ListenOptions::default());
    let adopted = adopted.expect("it listens");
    assert_eq!(addr_of(new.net(), adopted), addr);
    serve(&mut new, &mut seen, 3);
    expect_echoes(&mut peers);
    // The connection that the old loop has accepted stays there.
    early.send(b"still here");
    old.settle(&mut seen_by_old, |seen, _| !seen.frames().is_empty());
    assert_eq!(early.receive(), b"still here");
}

#[test]
fn paused_listener_can_be_released_and_adopted() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::echoing();
    let (listener, addr) = listening(&mut looped);
    assert!(looped.net().pause_listener(listener));
    let mut peers = numbered(addr, 0..2);
    let socket = looped.net().release_listener(listener).expect("it is open");
    let adopted = looped
        .net()
        .adopt_listener(socket, ListenOptions::default());
    adopted.expect("it listens");
    serve(&mut looped, &mut seen, 2);
    expect_echoes(&mut peers);
}

#[test]
fn closed_listener_cannot_be_paused_resumed_or_released() {
    let mut looped = Loop::new(Config::default());
    let (listener, _) = listening(&mut looped);
    assert!(looped.net().close_listener(listener));
    assert!(!looped.net().pause_listener(listener));
    assert!(!looped.net().resume_listener(listener));
    assert!(looped.net().release_listener(listener).is_none());
    let (listener, _) = listening(&mut looped);
    assert!(looped.net().release_listener(listener).is_some());
    assert!(!looped.net().close_listener(listener));
    assert!(looped.net().release_listener(listener).is_none());
}

/// The listener is passed to another process as a descriptor, here only through one.
#[cfg(unix)]
#[test]
fn released_listener_survives_the_way_through_a_descriptor() {
    use std::os::fd::{AsFd, OwnedFd};

    use throng::ListenSocket;

    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::echoing();
    let (listener, addr) = listening(&mut looped);
    let socket = looped.net().release_listener(listener).expect("it is open");
    let copy = socket.as_fd().try_clone_to_owned().expect("a descriptor");
    drop(OwnedFd::from(socket));
    let mut peers = numbered(addr, 0..1);
    let socket = ListenSocket::try_from(copy).expect("it listens");
    let adopted = looped
        .net()
        .adopt_listener(socket, ListenOptions::default());
    adopted.expect("it listens");
    serve(&mut looped, &mut seen, 1);
    expect_echoes(&mut peers);
}

#[cfg(unix)]
#[test]
fn socket_file_stays_when_its_listener_is_released() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use support::framed;

    let place = support::Place::new("released");
    let mut looped = Loop::new(Config::default());
    let listener = looped
        .net()
        .listen_unix(&place.0, ListenOptions::default())
        .expect("a new path");
    let socket = looped.net().release_listener(listener).expect("it is open");
    drop(looped);
    let mut peer = UnixStream::connect(&place.0).expect("it still listens");
    peer.write_all(&framed(b"hello")).expect("to write");

    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::echoing();
    let adopted = looped
        .net()
        .adopt_listener(socket, ListenOptions::default());
    adopted.expect("it listens");
    looped.settle(&mut seen, |seen, _| !seen.frames().is_empty());
    looped.rest(&mut seen);
    let mut echo = vec![0; framed(b"hello").len()];
    peer.read_exact(&mut echo).expect("the echo");
    assert_eq!(echo, framed(b"hello"));
}

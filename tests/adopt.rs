//! Streams and listeners that were opened elsewhere.

mod support;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::by_hand::Loop;
use support::{Peer, Recorder, addr_of, framed, pair, pattern, turn_until, wait_until};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, EventLoop, Frame, Handler,
    ListenOptions, ListenSocket, Net, OpenError, Origin, SendError, Stream,
};

#[test]
fn adopted_stream_becomes_a_connection() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let (ours, mut peer) = pair();
    let addr = ours.peer_addr().expect("it is connected");
    let net = event_loop.net();
    let id = net
        .adopt(ours, ConnectOptions::default())
        .expect("it is taken");
    assert_eq!(
        net.connection(id).map(|it| it.origin()),
        Some(Origin::Adopted)
    );
    assert_eq!(net.connection(id).and_then(|it| it.peer_addr()), Some(addr));
    assert!(matches!(net.send(id, b"x"), Err(SendError::Connecting)));
    peer.send(b"hello");
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert_eq!(seen.connected(), [id]);
    assert_eq!(peer.receive(), b"hello");
}

#[test]
fn duplicate_of_an_adopted_stream_causes_no_events_after_the_end() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let (ours, mut peer) = pair();
    let kept = ours.try_clone().expect("a live socket");
    let adopted = looped.net().adopt(ours, ConnectOptions::default());
    let id = adopted.expect("it is connected");
    looped.settle(&mut seen, |seen, _| seen.connected() == [id]);
    looped.net().abort(id);
    looped.rest(&mut seen);
    assert_eq!(seen.ends().len(), 1);
    peer.send(b"to the duplicate");
    // It is as non-blocking as the stream was.
    wait_until(|| matches!(kept.peek(&mut [0]), Ok(1)));
    assert_eq!(looped.poll_once(), 0, "the loop does not know it any more");
}

/// Pauses at each frame.
struct Pauses(Vec<Vec<u8>>);

impl Handler for Pauses {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.0.push(frame.to_vec());
        net.pause(id);
    }
}

#[test]
fn received_bytes_beyond_one_budget_stay_in_order_when_their_delivery_is_interrupted() {
    let frames: Vec<Vec<u8>> = (0..8).map(|number| vec![number; 15_000]).collect();
    let received: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    let (mut looped, mut handler) = (Loop::new(Config::default()), Pauses(Vec::new()));
    let (ours, _peer) = pair();
    let net = looped.net();
    let adopted = net.adopt_with(ours, ConnectOptions::default(), &received);
    let id = adopted.expect("it is connected");
    for count in 1..=frames.len() {
        looped.settle(&mut handler, |handler, _| handler.0.len() == count);
        assert_eq!(handler.0, frames[..count]);
        looped.net().resume(id);
    }
    assert_eq!(looped.net().stats().memory_bytes, 0);
}

#[test]
fn rejected_socket_is_given_back() {
    let (ours, mut peer) = pair();
    let full = Config::default().max_connections(0);
    let mut event_loop: EventLoop = EventLoop::new(full).expect("a loop");
    let rejected = event_loop
        .net()
        .adopt(ours, ConnectOptions::default())
        .expect_err("it is full");
    assert!(matches!(
        rejected.error,
        OpenError::TooManyConnections { max_connections: 0 }
    ));
    let Stream::Tcp(mut stream) = rejected.value else {
        panic!("it was TCP");
    };
    stream
        .write_all(&framed(b"come later"))
        .expect("it is open");
    assert_eq!(peer.receive(), b"come later");

    // A stream without a peer.
    let unconnected = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let unconnected = TcpStream::from(unconnected.expect("a socket"));
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let rejected = event_loop
        .net()
        .adopt(unconnected, ConnectOptions::default())
        .expect_err("it is not connected");
    assert!(matches!(&rejected.error, OpenError::Adopt(error)
        if error.kind() == std::io::ErrorKind::NotConnected));
    assert_eq!(event_loop.net().connection_count(), 0);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let wrong = ListenOptions::default().idle_timeout(Duration::ZERO);
    let rejected = event_loop
        .net()
        .adopt_listener(listener, wrong)
        .expect_err("the options are wrong");
    assert!(matches!(rejected.error, OpenError::Options(_)));
    let ListenSocket::Tcp(listener) = rejected.value else {
        panic!("it was TCP");
    };
    assert_eq!(listener.local_addr().expect("it is open"), addr);

    // Where the system tells. Else it would be tried again and again.
    if cfg!(target_os = "linux") {
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let rejected = event_loop
            .net()
            .adopt_listener(
                TcpListener::from(bound.expect("a socket")),
                ListenOptions::default(),
            )
            .expect_err("it does not listen");
        assert!(matches!(&rejected.error, OpenError::Adopt(error)
            if error.kind() == std::io::ErrorKind::InvalidInput));
    }
}

#[test]
fn bytes_read_before_adoption_are_delivered_first() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let (ours, mut peer) = pair();
    let frames: Vec<Vec<u8>> = (0..300).map(|i| pattern(i * 9)).collect();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    // More than the read buffer holds, and the end of it inside a frame.
    let (before, after) = wire.split_at(200_001);
    event_loop
        .net()
        .adopt_with(ours, ConnectOptions::default(), before)
        .expect("it is taken");
    peer.write(after);
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == frames.len()
    });
    assert_eq!(seen.frames(), frames);
}

#[test]
fn adopted_listener_accepts_peers_in_its_backlog() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let mut early = Peer::connect(addr);
    early.send(b"early");
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let id = net
        .adopt_listener(listener, ListenOptions::default())
        .expect("it is taken");
    assert_eq!(addr_of(net, id), addr);
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == 1
    });
    assert_eq!(early.receive(), b"early");
    let id = seen.connected()[0];
    assert!(matches!(
        event_loop.net().connection(id).map(|it| it.origin()),
        Some(Origin::Listener(_))
    ));
}

#[test]
fn adopted_ipv4_mapped_peer_has_its_ipv4_address() {
    // Where there is no IPv6 there is no dual stack.
    let Ok(listener) = TcpListener::bind("[::]:0") else {
        return;
    };
    let port = listener.local_addr().expect("its address").port();
    let Ok(peer) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let (ours, _) = listener.accept().expect("it is there");
    let mut looped = Loop::new(Config::default());
    let id = looped.net().adopt(ours, ConnectOptions::default());
    let id = id.expect("it is taken");
    let addr = looped.net().connection(id).and_then(|it| it.peer_addr());
    assert_eq!(addr, Some(peer.local_addr().expect("its address")));
}

#[test]
fn stream_reset_before_adoption_ends_as_reset() {
    let (ours, peer) = pair();
    let mut looped = Loop::new(Config::default());
    let id = looped.net().adopt(ours, ConnectOptions::default());
    let id = id.expect("it is taken");
    peer.reset();
    let mut seen = Recorder::default();
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    let (ended, reason) = seen.ends()[0];
    assert_eq!(ended, id);
    assert_cause!(reason, DisconnectCause::Reset(_));
}

#[test]
fn end_of_an_adopted_connection_frees_no_place_of_its_address() {
    let mut looped = Loop::new(Config::default().max_connections_per_ip(1));
    let mut seen = Recorder::default();
    let addr = looped.listen();
    let _first = Peer::connect(addr);
    looped.settle(&mut seen, |seen, _| seen.connected().len() == 1);
    let (ours, _theirs) = pair();
    let id = looped.net().adopt(ours, ConnectOptions::default());
    assert!(looped.net().abort(id.expect("it is taken")));
    looped.rest(&mut seen);
    let _second = Peer::connect(addr);
    looped.settle(&mut seen, |_, net| net.stats().refused == 1);
}

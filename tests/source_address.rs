//! Outbound connections with a source address, and the stream and addresses that the view of a connection returns.

mod support;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::SockRef;
use support::by_hand::Loop;
use support::scene::Scene;
use support::{Peer, Recorder};
use throng::{Config, ConnectOptions, ConnectionId, Net, OpenError};

/// A listener of the test's own.
fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    (listener, addr)
}

fn from(addr: &str) -> ConnectOptions {
    let source: SocketAddr = addr.parse().expect("an address");
    ConnectOptions::default().bind(source)
}

/// Connects, and returns the connection and its peer, which has the address from which it was made.
fn connect(
    looped: &mut Loop,
    seen: &mut Recorder,
    server: &TcpListener,
    options: ConnectOptions,
) -> (ConnectionId, Peer, SocketAddr) {
    let addr = server.local_addr().expect("its address");
    let connected = looped.net().connect_with(addr, options);
    let id = connected.expect("it starts");
    looped.settle(seen, |seen, _| seen.connected().contains(&id));
    let (peer, source) = server.accept().expect("it is there");
    (id, Peer(peer), source)
}

/// The addresses of 127.0.0.0/8 are all local on Linux; elsewhere only the first is.
fn second_address() -> Ipv4Addr {
    if cfg!(target_os = "linux") {
        Ipv4Addr::new(127, 0, 7, 5)
    } else {
        Ipv4Addr::LOCALHOST
    }
}

#[test]
fn outbound_connection_comes_from_its_source_address() {
    let (server, _) = server();
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let expected = second_address();
    let any_port = from(&format!("{expected}:0"));
    // A receive buffer is set before connecting as well.
    for options in [any_port.clone(), any_port.receive_buffer(30_000)] {
        let (id, _peer, source) = connect(&mut looped, &mut seen, &server, options);
        assert_eq!(source.ip(), expected);
        let view = looped.net().connection(id).expect("it is open");
        assert_eq!(view.local_addr(), Some(source));
        assert_eq!(view.peer_addr(), server.local_addr().ok());
    }
}

/// A connection that this side closes first leaves its port in TIME_WAIT.
#[cfg(target_os = "linux")]
#[test]
fn source_port_can_be_used_again_after_a_disconnect() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    // An address of its own, so that no other test gets the port meanwhile.
    let free = TcpListener::bind("127.0.7.6:0").expect("a free port");
    let source = free.local_addr().expect("its address");
    drop(free);
    // To another server each time: the same two addresses could not be connected again yet.
    for _ in 0..2 {
        let (server, _) = server();
        let options = from(&source.to_string());
        let (id, mut peer, seen_source) = connect(&mut looped, &mut seen, &server, options);
        assert_eq!(seen_source, source);
        assert!(looped.net().disconnect(id));
        looped.rest(&mut seen);
        peer.expect_end();
        drop(peer);
        looped.settle(&mut seen, |_, net| net.connection(id).is_none());
    }
}

#[track_caller]
fn refused(net: &mut Net, addr: SocketAddr, options: ConnectOptions) -> io::Error {
    match net.connect_with(addr, options) {
        Err(OpenError::Connect { addr: to, error }) if to == addr => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn source_address_of_another_family_or_machine_is_an_error() {
    let (_server, addr) = server();
    let mut looped = Loop::new(Config::default());
    let error = refused(looped.net(), addr, from("[::1]:0"));
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let words = "the source address [::1]:0 is of another family";
    assert_eq!(error.to_string(), words);
    let error = refused(looped.net(), addr, from("192.0.2.1:0"));
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn view_returns_the_stream_until_the_connection_has_ended() {
    let mut scene = Scene::with(Config::default());
    let (id, peer_addr) = (scene.id, scene.peer.0.local_addr().ok());
    let view = scene.looped.net().connection(id).expect("it is open");
    let stream = view.stream().expect("it has one");
    let socket = SockRef::from(stream);
    let peer = socket.peer_addr().expect("it is connected");
    assert_eq!(peer.as_socket(), peer_addr);
    socket.set_keepalive(true).expect("a live socket");
    assert!(SockRef::from(stream).keepalive().expect("a live socket"));
    assert_eq!(view.local_addr(), Some(scene.addr));

    assert!(scene.net().abort(id));
    let view = scene.looped.net().connection(id).expect("not reported yet");
    assert!(view.stream().is_none());
    assert_eq!(view.local_addr(), None);
    assert_eq!(view.peer_addr(), peer_addr);
}

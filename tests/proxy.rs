//! Peers behind a proxy: the PROXY header that precedes admission, from sockets of the tests. `tests/haproxy.rs` tests
//! the same with HAProxy.

mod support;

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use support::by_hand::Loop;
use support::{Observer, Peer, Recorder, addr_of, framed, pattern, refusing};
use throng::{
    Admission, Config, ConnectOptions, ConnectionId, DecodeError, DisconnectCause,
    DisconnectReason, Frame, Handler, IpNetwork, ListenOptions, ListenerId, Net, OptionsError,
    ProxyHeader, ProxyProtocol, Stats,
};

const SECOND: Duration = Duration::from_secs(1);
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n";
const CLIENT: &str = "192.0.2.1:1234";
/// The first twelve bytes of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn header_of(client: &str) -> Vec<u8> {
    let header = ProxyHeader::v2(addr(client), addr("192.0.2.2:80"));
    header.as_bytes().to_vec()
}

fn trusting(networks: &[&str]) -> ProxyProtocol {
    ProxyProtocol::trusting(networks.iter().map(|network| {
        let network: IpNetwork = network.parse().expect("a network");
        network
    }))
}

fn behind_a_proxy() -> ListenOptions {
    ListenOptions::default().proxy_protocol(trusting(&["127.0.0.0/8"]))
}

/// Echoes, and records all calls. Refuses peers with port 666.
#[derive(Default)]
struct Seen {
    recorder: Recorder,
    asked: Vec<Option<SocketAddr>>,
}

impl Seen {
    fn new() -> Self {
        Self {
            recorder: Recorder::echoing(),
            asked: Vec::new(),
        }
    }

    #[track_caller]
    fn expect_no_call(&self) {
        assert!(self.asked.is_empty(), "{:?}", self.asked);
        assert!(
            self.recorder.events.is_empty(),
            "{:?}",
            self.recorder.events
        );
    }
}

impl Observer for Seen {
    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn recorder_mut(&mut self) -> &mut Recorder {
        &mut self.recorder
    }
}

impl Handler for Seen {
    fn on_accept(&mut self, _: &mut Net, _: ListenerId, peer: Option<SocketAddr>) -> Admission {
        self.asked.push(peer);
        match peer.is_some_and(|peer| peer.port() == 666) {
            true => Admission::Refuse,
            false => Admission::Admit,
        }
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.recorder.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.recorder.on_data(net, id, frame);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.recorder.on_disconnect(net, id, reason);
    }
}

/// A loop behind a proxy.
struct Scene {
    looped: Loop,
    addr: SocketAddr,
    seen: Seen,
}

impl Scene {
    fn new(config: Config) -> Self {
        Self::with(config, behind_a_proxy())
    }

    fn with(config: Config, options: ListenOptions) -> Self {
        let mut looped = Loop::new(config);
        let addr = looped.listen_with(options);
        Self {
            looped,
            addr,
            seen: Seen::new(),
        }
    }

    fn stats(&mut self) -> Stats {
        self.looped.net().stats()
    }

    #[track_caller]
    fn until(&mut self, done: impl FnMut(&mut Seen, &mut Net) -> bool) {
        self.looped.settle(&mut self.seen, done);
    }

    /// Connects a peer that has sent this much, and makes turns until it was accepted and what it sent was read.
    fn arrive(&mut self, bytes: &[u8]) -> Peer {
        let mut peer = Peer::connect(self.addr);
        peer.write(bytes);
        self.turns();
        peer
    }

    /// Makes some turns, each of which waits for an event for a moment.
    fn turns(&mut self) {
        for _ in 0..3 {
            self.looped.turn(Duration::from_millis(5), &mut self.seen);
        }
        self.looped.rest(&mut self.seen);
    }

    /// Connects a client behind the proxy.
    #[track_caller]
    fn join(&mut self, client: &str) -> (Peer, ConnectionId) {
        let mut peer = Peer::connect(self.addr);
        peer.write(&header_of(client));
        let before = self.seen.recorder.connected().len();
        self.until(|seen, _| seen.recorder.connected().len() > before);
        let id = self.seen.recorder.connected()[before];
        (peer, id)
    }

    /// Waits until one more peer is refused than before. Its socket is closed then.
    #[track_caller]
    fn expect_refusal(&mut self, mut peer: Peer) {
        let refused = self.stats().refused;
        self.until(|_, net| net.stats().refused > refused);
        assert_eq!(self.stats().refused, refused + 1);
        self.expect_closed(&mut peer);
    }

    /// Waits until the server has closed the socket of a peer, with or without a reset.
    #[track_caller]
    fn expect_closed(&mut self, peer: &mut Peer) {
        self.looped.rest(&mut self.seen);
        let mut rest = Vec::new();
        let closed = peer.0.read_to_end(&mut rest);
        assert!(
            closed.is_ok() || closed.is_err_and(|it| it.kind() == io::ErrorKind::ConnectionReset)
        );
        assert_eq!(rest, b"");
    }
}

/// The headers that HAProxy sends, with the address of the client.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let v2 = |rest: &[u8]| [V2, rest].concat();
    vec![
        (HEADER.to_vec(), Some(CLIENT)),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
            Some("[2001:db8::1]:1"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (header_of(CLIENT), Some(CLIENT)),
        (
            ProxyHeader::v2(addr("[2001:db8::1]:1"), addr("[::1]:2"))
                .as_bytes()
                .to_vec(),
            Some("[2001:db8::1]:1"),
        ),
        (
            v2(b"!\x11\x00#\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50\x01\x00\x02h2 \x00\x0f\x01\x00\x00\x00\x00\
                 !\x00\x07TLSv1.3"),
            Some(CLIENT),
        ),
    ]
}

#[test]
fn proxied_connection_has_the_address_of_its_client() {
    let mut scene = Scene::new(Config::default());
    for (header, client) in headers() {
        let client = client.map(addr);
        let mut peer = Peer::connect(scene.addr);
        peer.write(&header);
        let before = scene.seen.recorder.connected().len();
        scene.until(|seen, _| seen.recorder.connected().len() > before);
        let id = scene.seen.recorder.connected()[before];
        assert_eq!(scene.seen.asked.pop(), Some(client));
        let proxy = peer.0.local_addr().ok();
        let view = scene.looped.net().connection(id).expect("it is open");
        assert_eq!((view.peer_addr(), view.proxy_addr()), (client, proxy));
        peer.send(b"hello");
        let frames = scene.seen.recorder.frames().len();
        scene.until(|seen, _| seen.recorder.frames().len() > frames);
        assert_eq!(peer.receive(), b"hello");
    }
}

#[test]
fn header_may_arrive_in_any_two_pieces_with_a_frame_behind_it() {
    let mut scene = Scene::new(Config::default());
    let frame = framed(&pattern(30));
    for (header, client) in headers() {
        let bytes = [&header[..], &frame].concat();
        for split in 0..=bytes.len() {
            let (first, second) = bytes.split_at(split);
            let mut peer = scene.arrive(first);
            let admitted = usize::from(split >= header.len());
            assert_eq!(scene.seen.asked.len(), admitted, "{split} {header:?}");
            peer.write(second);
            scene.until(|seen, _| seen.recorder.frames().len() == 1);
            assert_eq!(scene.seen.recorder.frames(), [pattern(30)]);
            assert_eq!(scene.seen.asked, [client.map(addr)]);
            peer.reset();
            scene.until(|seen, _| !seen.recorder.ends().is_empty());
            scene.seen = Seen::new();
            assert_eq!(scene.looped.net().stats().memory_bytes, 0);
        }
    }
}

#[test]
fn header_and_frame_of_a_peer_that_has_closed_are_read() {
    let mut scene = Scene::new(Config::default());
    let mut peer = Peer::connect(scene.addr);
    peer.write(&[HEADER, &framed(b"the last words")].concat());
    peer.half_close();
    scene.until(|seen, _| !seen.recorder.ends().is_empty());
    assert_eq!(scene.seen.recorder.frames(), [b"the last words"]);
    assert_eq!(peer.receive(), b"the last words");
}

#[test]
fn header_is_not_parsed_from_a_peer_that_is_not_trusted() {
    let limit = Config::default().max_frame_len(1000);
    let elsewhere = trusting(&["10.0.0.0/8", "127.0.0.0/32"]);
    let options = ListenOptions::default().proxy_protocol(elsewhere);
    let mut scene = Scene::with(limit, options);
    let mut peer = Peer::connect(scene.addr);
    peer.write(HEADER);
    scene.until(|seen, _| !seen.recorder.ends().is_empty());
    assert_eq!(scene.seen.asked, [peer.0.local_addr().ok()]);
    let (id, reason) = scene.seen.recorder.ends()[0];
    match &reason.cause {
        DisconnectCause::Decode(DecodeError::FrameTooLarge { first_bytes, .. }) => {
            assert_eq!(first_bytes.as_bytes(), b"PROXY TC");
        }
        cause => panic!("it was not read as a frame: {cause:?}"),
    }
    // A peer that connects directly has no proxy.
    let mut peer = Peer::connect(scene.addr);
    peer.send(b"directly");
    scene.until(|seen, _| !seen.recorder.frames().is_empty());
    let last = *scene.seen.recorder.connected().last().expect("it is there");
    assert_ne!(last, id);
    let view = scene.looped.net().connection(last).expect("it is open");
    assert_eq!(view.proxy_addr(), None);
    assert_eq!(peer.receive(), b"directly");
}

#[test]
fn peer_with_an_invalid_header_is_refused_without_a_callback() {
    let v2 = |rest: &[u8]| [V2, rest].concat();
    for bytes in [
        framed(b"a frame without a header"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234\r\n".to_vec(),
        [b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
        // Too short for its family, too long, of a datagram protocol, and of another version.
        v2(b"!\x11\x00\x0b\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00"),
        v2(b"!\x11\xff\xff"),
        v2(b"!\x12\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50"),
        v2(b"1\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50"),
    ] {
        let mut scene = Scene::new(Config::default());
        let mut peer = Peer::connect(scene.addr);
        peer.write(&bytes);
        scene.expect_refusal(peer);
        scene.seen.expect_no_call();
        let stats = scene.stats();
        assert_eq!((stats.accepted, stats.disconnected), (0, 0));
        assert_eq!(stats.refusals.proxy, 1);
        assert_eq!(scene.looped.net().stats().memory_bytes, 0);
        assert!(scene.looped.is_at_rest());
    }
}

#[test]
fn peer_that_closes_before_its_header_is_complete_is_refused() {
    for len in [0, 1, HEADER.len() - 1] {
        let mut scene = Scene::new(Config::default());
        let peer = scene.arrive(&HEADER[..len]);
        peer.half_close();
        scene.expect_refusal(peer);
        scene.seen.expect_no_call();
        assert_eq!(scene.looped.net().stats().memory_bytes, 0);
        let peer = scene.arrive(&HEADER[..len]);
        peer.reset();
        scene.until(|_, net| net.stats().refused == 2);
    }
}

#[test]
fn header_that_is_late_is_refused() {
    let mut scene = Scene::new(Config::default());
    let silent = scene.arrive(b"");
    let slow = scene.arrive(&HEADER[..20]);
    let timeout = scene.looped.reactor.next_timeout(scene.looped.now);
    assert!(timeout.is_some_and(|timeout| timeout <= 5 * SECOND));
    scene.looped.pass(4 * SECOND, &mut scene.seen);
    assert_eq!(scene.stats().refused, 0);
    scene.looped.pass(2 * SECOND, &mut scene.seen);
    assert_eq!(scene.stats().refused, 2);
    for mut peer in [silent, slow] {
        scene.expect_closed(&mut peer);
    }
    scene.seen.expect_no_call();
    // The second refusal is logged when the second is over. Nothing is left to wait for then.
    scene.looped.pass(2 * SECOND, &mut scene.seen);
    assert_eq!(scene.looped.reactor.next_timeout(scene.looped.now), None);
}

#[test]
fn header_in_the_kernel_is_read_before_its_deadline_is_judged() {
    let mut scene = Scene::new(Config::default());
    let mut peer = scene.arrive(b"");
    peer.write(HEADER);
    // No event reports it, as after a full batch of events.
    let late = scene.looped.now + 60 * SECOND;
    scene.looped.reactor.begin_turn(late);
    scene.looped.reactor.finish_turn(&mut scene.seen);
    assert_eq!(scene.seen.asked, [Some(addr(CLIENT))]);
    assert_eq!(scene.stats().refused, 0);
}

#[test]
fn header_timeout_can_be_changed_but_is_not_zero() {
    let with = |timeout| {
        let protocol = trusting(&["127.0.0.1"]).header_timeout(timeout);
        ListenOptions::default().proxy_protocol(protocol)
    };
    let mut scene = Scene::with(Config::default(), with(Duration::MAX));
    let mut peer = scene.arrive(&HEADER[..10]);
    assert_eq!(scene.looped.reactor.next_timeout(scene.looped.now), None);
    scene.looped.pass(100_000 * SECOND, &mut scene.seen);
    peer.write(&HEADER[10..]);
    scene.until(|seen, _| !seen.asked.is_empty());

    let mut scene = Scene::with(Config::default(), with(SECOND / 2));
    let peer = scene.arrive(b"");
    scene.looped.pass(SECOND, &mut scene.seen);
    assert_eq!(scene.stats().refused, 1);
    drop(peer);

    let refused = scene
        .looped
        .net()
        .listen_with("127.0.0.1:0", with(Duration::ZERO));
    match refused {
        Err(throng::OpenError::Options(OptionsError::ZeroTimeout { setting })) => {
            assert_eq!(setting, "header_timeout");
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn peers_whose_header_is_awaited_count_for_max_connections() {
    let mut scene = Scene::new(Config::default().max_connections(2));
    let first = scene.arrive(b"");
    let mut second = scene.arrive(&HEADER[..5]);
    let connections = scene.stats().connections;
    assert_eq!((connections.arriving, connections.closing), (2, 0));
    let mut third = Peer::connect(scene.addr);
    scene.until(|_, net| net.stats().refused == 1);
    scene.expect_closed(&mut third);
    // One has its header, and the other one closes: there is one place.
    second.write(&HEADER[5..]);
    scene.until(|seen, _| seen.recorder.connected().len() == 1);
    let connections = scene.stats().connections;
    assert_eq!((connections.arriving, connections.open), (1, 1));
    drop(first);
    scene.until(|_, net| net.stats().refused == 2);
    let (_fourth, _) = scene.join("192.0.2.9:9");
    assert_eq!(scene.stats().refused, 2);
    let connect = scene.looped.net().connect(refusing().1);
    assert!(connect.is_err(), "it is full");
}

#[test]
fn peer_that_was_accepted_before_the_loop_was_full_keeps_its_place() {
    let config = Config::default().max_connections(2).accept_again_below(1);
    let mut scene = Scene::new(config);
    let mut first = scene.arrive(&HEADER[..5]);
    let _second = scene.arrive(b"");
    let third = Peer::connect(scene.addr);
    scene.expect_refusal(third);
    first.write(&HEADER[5..]);
    scene.until(|seen, _| seen.recorder.connected().len() == 1);
    // The loop is not full any more, and does not accept yet.
    drop(_second);
    scene.until(|_, net| net.stats().refusals.proxy == 1);
    let fourth = Peer::connect(scene.addr);
    scene.expect_refusal(fourth);
}

#[test]
fn limit_per_address_counts_clients_and_not_their_proxy() {
    let mut scene = Scene::new(Config::default().max_connections_per_ip(2));
    let (first, _) = scene.join("192.0.2.1:1");
    let (_second, _) = scene.join("192.0.2.1:2");
    let (_other, _) = scene.join("192.0.2.2:1");
    let (_v6, _) = scene.join("[2001:db8::1]:1");
    let mut third = Peer::connect(scene.addr);
    third.write(&header_of("192.0.2.1:3"));
    scene.expect_refusal(third);
    assert_eq!(scene.seen.asked.len(), 4, "no callback for it");

    // Clients without an address do not count.
    for count in 5..8 {
        let mut unknown = Peer::connect(scene.addr);
        unknown.write(b"PROXY UNKNOWN\r\n");
        scene.until(|seen, _| seen.recorder.connected().len() == count);
    }

    drop(first);
    scene.until(|seen, _| seen.recorder.ends().len() == 4);
    let (_again, _) = scene.join("192.0.2.1:4");
    assert_eq!(scene.stats().refused, 1);
}

#[test]
fn rate_per_address_counts_clients_and_not_their_proxy() {
    let mut scene = Scene::new(Config::default().max_accepts_per_second_per_ip(1));
    let (_first, _) = scene.join("192.0.2.1:1");
    let mut second = Peer::connect(scene.addr);
    second.write(&header_of("192.0.2.1:2"));
    scene.expect_refusal(second);
    let (_other, _) = scene.join("192.0.2.2:1");
    assert_eq!(scene.stats().refusals.rate_per_address, 1);
    scene.looped.pass(Duration::from_secs(1), &mut scene.seen);
    let (_again, _) = scene.join("192.0.2.1:3");
}

#[test]
fn limit_per_address_counts_peers_that_connect_directly() {
    let mut scene = Scene::new(Config::default().max_connections_per_ip(1));
    let directly = scene.looped.listen();
    // A client on the machine of the proxy, and with its address.
    let (proxied, _) = scene.join("127.0.0.1:1");
    let refused = Peer::connect(directly);
    scene.expect_refusal(refused);
    // It does not keep other clients of the proxy out.
    let (_other, _) = scene.join("192.0.2.1:1");
    drop(proxied);
    scene.until(|seen, _| !seen.recorder.ends().is_empty());
    let (_direct, _) = scene.looped.join_at(directly, &mut scene.seen);
}

#[test]
fn on_accept_refuses_a_client_by_its_own_address() {
    let mut scene = Scene::new(Config::default());
    let mut peer = Peer::connect(scene.addr);
    peer.write(&header_of("192.0.2.1:666"));
    scene.expect_refusal(peer);
    assert_eq!(scene.seen.asked, [Some(addr("192.0.2.1:666"))]);
    assert!(scene.seen.recorder.events.is_empty());
}

#[test]
fn connection_of_the_proxy_itself_is_closed_and_only_counted() {
    for check in [
        ProxyHeader::local().as_bytes().to_vec(),
        [V2, b" \x11\x00\x02??"].concat(),
    ] {
        let mut scene = Scene::new(Config::default());
        let mut peer = scene.arrive(&check);
        assert_eq!(scene.stats().proxy_checks, 1);
        peer.expect_end();
        scene.seen.expect_no_call();
        let stats = scene.stats();
        let all = stats.accepted + stats.refused + stats.accept_failures + stats.disconnected;
        assert_eq!(all, 0, "{stats:?}");
        assert_eq!(scene.looped.reactor.next_timeout(scene.looped.now), None);
    }
}

#[test]
fn bytes_of_an_incomplete_header_count_for_the_memory_budget() {
    let mut scene = Scene::new(Config::default().memory_budget(30));
    let first = scene.arrive(&HEADER[..20]);
    assert_eq!(scene.looped.net().stats().memory_bytes, 20);
    let mut second = Peer::connect(scene.addr);
    second.write(&HEADER[..20]);
    scene.expect_refusal(second);
    assert_eq!(scene.looped.net().stats().memory_bytes, 20);
    // A header that arrives whole is not held.
    let (_third, _) = scene.join("192.0.2.1:3");
    drop(first);
    scene.until(|_, net| net.stats().memory_bytes == 0);
}

#[test]
fn closing_a_listener_refuses_peers_whose_header_is_awaited() {
    let mut scene = Scene::new(Config::default());
    let listener = scene
        .looped
        .net()
        .listen_with("127.0.0.1:0", behind_a_proxy());
    let listener = listener.expect("a free port");
    let addr = addr_of(scene.looped.net(), listener);
    let mut other = scene.arrive(&HEADER[..10]);
    scene.addr = addr;
    let mut peer = scene.arrive(&HEADER[..10]);
    assert!(scene.looped.net().close_listener(listener));
    assert_eq!(scene.stats().refused, 1);
    scene.expect_closed(&mut peer);
    scene.seen.expect_no_call();
    other.write(&HEADER[10..]);
    scene.until(|seen, _| seen.recorder.connected().len() == 1);
}

#[test]
fn releasing_a_listener_keeps_peers_whose_header_is_awaited() {
    let mut scene = Scene::new(Config::default());
    let listener = scene
        .looped
        .net()
        .listen_with("127.0.0.1:0", behind_a_proxy());
    let listener = listener.expect("a free port");
    let local = addr_of(scene.looped.net(), listener);
    scene.addr = local;
    let mut peer = scene.arrive(&HEADER[..10]);
    let mut never = scene.arrive(b"");
    let socket = scene.looped.net().release_listener(listener);
    assert!(socket.is_some());
    peer.write(&HEADER[10..]);
    peer.send(b"hello");
    scene.until(|seen, _| !seen.recorder.frames().is_empty());
    assert_eq!(scene.seen.asked, [Some(addr(CLIENT))]);
    assert_eq!(peer.receive(), b"hello");
    // A shutdown does not wait for headers.
    scene.looped.net().shutdown(SECOND);
    assert_eq!(scene.stats().refused, 1);
    drop(peer);
    scene.until(|_, net| net.is_stopping());
    scene.expect_closed(&mut never);
}

#[test]
fn header_that_a_proxy_is_sending_causes_no_wake_up_between_its_parts() {
    let mut scene = Scene::new(Config::default());
    let mut peer = scene.arrive(&HEADER[..10]);
    for at in 10..HEADER.len() {
        assert_eq!(scene.looped.poll_once(), 0);
        scene.looped.rest(&mut scene.seen);
        peer.write(&HEADER[at..=at]);
        scene.turns();
    }
    assert_eq!(scene.seen.asked, [Some(addr(CLIENT))]);
}

#[cfg(unix)]
#[test]
fn peers_of_a_unix_socket_are_proxies() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    let place = support::Place::new("proxied");
    let mut scene = Scene::new(Config::default().max_connections_per_ip(1));
    let no_network = ListenOptions::default().proxy_protocol(trusting(&[]));
    let listening = scene.looped.net().listen_unix(&place.0, no_network);
    listening.expect("a new path");
    let mut peers = Vec::new();
    for (count, header) in [HEADER.to_vec(), header_of("192.0.2.3:4")]
        .iter()
        .enumerate()
    {
        let mut peer = UnixStream::connect(&place.0).expect("it listens");
        let bytes = [&header[..], &framed(b"hello")].concat();
        peer.write_all(&bytes).expect("to write");
        scene.until(|seen, _| seen.recorder.frames().len() > count);
        peers.push(peer);
    }
    let clients = [CLIENT, "192.0.2.3:4"].map(|client| Some(addr(client)));
    assert_eq!(scene.seen.asked, clients);
    let id = scene.seen.recorder.connected()[0];
    let view = scene.looped.net().connection(id).expect("it is open");
    assert_eq!((view.peer_addr(), view.proxy_addr()), (clients[0], None));
}

/// Sends a frame as soon as it is connected.
struct Greets(Recorder);

impl Handler for Greets {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"hello").expect("it is open");
        self.0.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.0.on_data(net, id, frame);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.0.on_disconnect(net, id, reason);
    }
}

#[test]
fn outbound_connection_begins_with_its_header() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server_addr = server.local_addr().expect("its address");
    let (v4, v6) = (addr("192.0.2.1:1234"), addr("[2001:db8::1]:5"));
    let mut looped = Loop::new(Config::default());
    let mut seen = Greets(Recorder::default());
    let v2 = |rest: &[u8]| [V2, rest].concat();
    for (header, expected) in [
        (ProxyHeader::v1(v4, addr("192.0.2.2:80")), HEADER.to_vec()),
        (
            ProxyHeader::v1(v4, v6),
            b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1234 5\r\n".to_vec(),
        ),
        (
            ProxyHeader::v2(addr("[::ffff:192.0.2.1]:1234"), addr("192.0.2.2:80")),
            v2(b"!\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50"),
        ),
        (ProxyHeader::local(), v2(b" \x00\x00\x00")),
    ] {
        assert_eq!(header.as_bytes(), expected);
        let before = looped.net().stats();
        let options = ConnectOptions::default().proxy_header(header);
        let connected = looped.net().connect_with(server_addr, options);
        let id = connected.expect("it starts");
        looped.settle(&mut seen, |seen, _| seen.0.connected().contains(&id));
        looped.rest(&mut seen);
        let (mut stream, _) = server.accept().expect("it is there");
        let mut bytes = vec![0; expected.len() + framed(b"hello").len()];
        stream.read_exact(&mut bytes).expect("the header");
        assert_eq!(bytes, [&expected[..], &framed(b"hello")].concat());
        let after = looped.net().stats();
        let sent = after.bytes_sent - before.bytes_sent;
        assert_eq!(
            (sent, after.frames_sent - before.frames_sent),
            (bytes.len() as u64, 1)
        );
    }
}

#[test]
fn address_of_a_client_is_passed_on_through_a_second_proxy() {
    let mut scene = Scene::new(Config::default());
    let header = ProxyHeader::v2(addr(CLIENT), scene.addr);
    let options = ConnectOptions::default().proxy_header(header);
    let mut other = Loop::new(Config::default());
    let mut seen = Greets(Recorder::default());
    let connected = other.net().connect_with(scene.addr, options);
    connected.expect("it starts");
    other.settle(&mut seen, |seen, _| !seen.0.connected().is_empty());
    other.rest(&mut seen);
    scene.until(|seen, _| !seen.recorder.frames().is_empty());
    assert_eq!(scene.seen.asked, [Some(addr(CLIENT))]);
    assert_eq!(scene.seen.recorder.frames(), [b"hello"]);
}

#[cfg(all(feature = "tls", target_os = "linux"))]
#[test]
fn header_precedes_the_tls_handshake() {
    use support::secure::{Authority, NAME, secured};

    let options = secured().proxy_protocol(trusting(&["127.0.0.0/8"]));
    let mut scene = Scene::with(Config::default(), options);
    let client = std::sync::Arc::new(Authority::of_all().client());
    let options = ConnectOptions::default()
        .proxy_header(ProxyHeader::v2(addr(CLIENT), scene.addr))
        .tls(client, NAME.try_into().expect("a valid name"));
    let mut other = Loop::new(Config::default());
    let mut greets = Greets(Recorder::default());
    let connected = other.net().connect_with(scene.addr, options);
    connected.expect("it starts");
    scene.until(|seen, _| {
        other.turn(Duration::ZERO, &mut greets);
        !seen.recorder.frames().is_empty()
    });
    assert_eq!(scene.seen.asked, [Some(addr(CLIENT))]);
    assert_eq!(scene.seen.recorder.frames(), [b"hello"]);
    let id = scene.seen.recorder.connected()[0];
    let view = scene.looped.net().connection(id).expect("it is open");
    assert!(view.tls().is_some());
    let proxy = other.net().connection(greets.0.connected()[0]);
    let proxy = proxy.and_then(|proxy| proxy.local_addr());
    assert_eq!(view.proxy_addr(), proxy);
}

#[test]
fn attempt_that_fails_sends_no_header() {
    let (_refusing, addr_of_none) = refusing();
    let header = ProxyHeader::v1(addr(CLIENT), addr(CLIENT));
    let options = ConnectOptions::default().proxy_header(header);
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let connected = looped.net().connect_with(addr_of_none, options);
    connected.expect("it starts");
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert!(matches!(
        seen.ends()[0].1.cause,
        DisconnectCause::ConnectFailed(_)
    ));
    assert_eq!(looped.net().stats().bytes_sent, 0);
}

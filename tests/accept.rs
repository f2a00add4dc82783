//! Accepting: listeners and their addresses, admission, limits, peers that leave at once.

mod support;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use support::toy::Toy;
use support::{
    Echo, Peer, Recorder, addr_of, framed, listen, listening, listening_with, pattern, turn_until,
};
use throng::{
    Admission, Config, ConnectionId, EventLoop, Frame, FrameEncoder, Framing, Handler,
    ListenOptions, ListenerId, Net, OpenError, Origin,
};

fn limited(connections: usize) -> (EventLoop, SocketAddr) {
    listening_with(Config::default().max_connections(connections))
}

#[test]
fn peer_above_max_connections_is_refused_and_counted() {
    let (mut event_loop, addr) = limited(2);
    let mut seen = Recorder::echoing();
    let mut first = Peer::connect(addr);
    let _second = Peer::connect(addr);
    let mut third = Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().refused == 1
    });
    third.expect_end();
    assert_eq!(seen.connected().len(), 2);
    assert_eq!(event_loop.net().stats().accepted, 2);

    // Admitted peers are not affected, and one that leaves makes room.
    first.send(b"still here");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames() == [b"still here"]
    });
    assert_eq!(first.receive(), b"still here");
    drop(first);
    turn_until(&mut event_loop, &mut seen, |seen, _| seen.ends().len() == 1);
    let _fourth = Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.connected().len() == 3
    });
    assert_eq!(event_loop.net().stats().refused, 1);
}

#[test]
fn outbound_connections_count_towards_max_connections() {
    let (mut event_loop, addr) = limited(1);
    let net = event_loop.net();
    net.connect(addr).expect("the first");
    let error = net.connect(addr).expect_err("one too many");
    assert!(matches!(
        error,
        OpenError::TooManyConnections { max_connections: 1 }
    ));
    assert!(
        error.to_string().contains("already has 1 connections"),
        "{error}"
    );
}

/// Connects to another server while a peer is being admitted, and admits it.
struct Proxy {
    upstream: SocketAddr,
    most: usize,
}

impl Handler for Proxy {
    fn on_accept(&mut self, net: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        net.connect(self.upstream).expect("there is a place left");
        Admission::Admit
    }

    fn on_connect(&mut self, net: &mut Net, _: ConnectionId) {
        self.most = self.most.max(net.connection_count());
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn peer_is_refused_if_on_accept_takes_the_last_place() {
    let (mut event_loop, addr) = limited(1);
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let upstream = upstream.local_addr().map(|addr| (addr, upstream));
    let (upstream, _kept) = upstream.expect("its address");
    let mut proxy = Proxy { upstream, most: 0 };
    let mut peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut proxy, |proxy, _| proxy.most > 0);
    assert_eq!(proxy.most, 1);
    peer.expect_end();
    let stats = event_loop.net().stats();
    assert_eq!((stats.refused, stats.accepted), (1, 0));
}

#[test]
fn full_loop_accepts_again_below_the_configured_count() {
    let config = Config::default().max_connections(4).accept_again_below(2);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let mut seen = Recorder::echoing();
    let mut inside: Vec<Peer> = (0..4).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 4
    });
    let turned_away = |event_loop: &mut EventLoop, seen: &mut Recorder| {
        let before = event_loop.net().stats().refused;
        let mut peer = Peer::connect(addr);
        turn_until(event_loop, seen, |_, net| net.stats().refused > before);
        peer.expect_end();
    };
    turned_away(&mut event_loop, &mut seen);
    for left in [3, 2] {
        inside.pop();
        turn_until(&mut event_loop, &mut seen, |_, net| {
            net.connection_count() == left
        });
        turned_away(&mut event_loop, &mut seen);
    }
    // A peer that the loop connects to is not an arriving one.
    event_loop
        .net()
        .connect(addr)
        .expect("there is room for it");
    turn_until(&mut event_loop, &mut seen, |seen, _| seen.ends().len() == 3);
    inside.pop();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 1
    });
    for now in 2..=4 {
        inside.push(Peer::connect(addr));
        turn_until(&mut event_loop, &mut seen, |_, net| {
            net.connection_count() == now
        });
    }
    turned_away(&mut event_loop, &mut seen);
}

#[test]
fn loop_that_was_never_full_accepts_up_to_max_connections() {
    let config = Config::default().max_connections(3).accept_again_below(1);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let _peers: Vec<Peer> = (0..3).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut event_loop, &mut Recorder::default(), |_, net| {
        net.connection_count() == 3
    });
}

#[test]
fn max_connections_per_ip_counts_each_address_separately() {
    let config = Config::default().max_connections_per_ip(2);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let mut seen = Recorder::echoing();
    let mut peers: Vec<Peer> = (0..2).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 2
    });
    let mut third = Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().refused == 1
    });
    third.expect_end();

    // Outbound connections do not count for an address.
    event_loop.net().connect(addr).expect("it starts");
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().refused == 2
    });
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 2
    });

    // Each peer that leaves makes room for one.
    for _ in 0..3 {
        peers.pop();
        turn_until(&mut event_loop, &mut seen, |_, net| {
            net.connection_count() == 1
        });
        peers.push(Peer::connect(addr));
        turn_until(&mut event_loop, &mut seen, |_, net| {
            net.connection_count() == 2
        });
    }
    #[cfg(any(target_os = "linux", target_os = "windows"))]
    {
        let from = SocketAddr::from(([127, 0, 0, 2], 0));
        let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let other = other.expect("a socket");
        other.bind(&from.into()).expect("all of 127/8 is ours");
        other.connect(&addr.into()).expect("to connect");
        turn_until(&mut event_loop, &mut seen, |_, net| {
            net.connection_count() == 3
        });
    }
}

/// Refuses all, and notes their addresses.
#[derive(Default)]
struct Bouncer(Vec<(ListenerId, SocketAddr)>);

impl Handler for Bouncer {
    fn on_accept(
        &mut self,
        _: &mut Net,
        listener: ListenerId,
        peer: Option<SocketAddr>,
    ) -> Admission {
        self.0.push((listener, peer.expect("it is TCP")));
        Admission::Refuse
    }

    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        panic!("{id} was refused");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn peer_that_on_accept_refuses_never_becomes_a_connection() {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a port");
    let addr = addr_of(net, listener);
    let mut bouncer = Bouncer::default();
    let mut peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut bouncer, |bouncer, _| {
        !bouncer.0.is_empty()
    });
    peer.expect_end();
    assert_eq!(
        bouncer.0,
        [(listener, peer.0.local_addr().expect("its address"))]
    );
    let stats = event_loop.net().stats();
    assert_eq!(
        (stats.refused, stats.accepted, stats.disconnected),
        (1, 0, 0)
    );
}

/// Closes the listener that a peer came through, while the peer is being admitted.
#[derive(Default)]
struct Closer {
    asked: usize,
    connected: usize,
}

impl Handler for Closer {
    fn on_accept(
        &mut self,
        net: &mut Net,
        listener: ListenerId,
        _: Option<SocketAddr>,
    ) -> Admission {
        self.asked += 1;
        assert!(net.close_listener(listener));
        Admission::Admit
    }

    fn on_connect(&mut self, _: &mut Net, _: ConnectionId) {
        self.connected += 1;
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn listener_can_be_closed_from_on_accept() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut peers = [Peer::connect(addr), Peer::connect(addr)];
    let mut closer = Closer::default();
    turn_until(&mut event_loop, &mut closer, |closer, _| closer.asked > 0);
    for peer in &mut peers {
        // Neither is served: one sees EOF, the other a reset.
        assert!(matches!(peer.0.read(&mut [0]), Ok(0) | Err(_)));
    }
    assert_eq!((closer.asked, closer.connected), (1, 0));
    assert_eq!(event_loop.net().connection_count(), 0);
    assert_eq!(event_loop.net().stats().refused, 1);
}

#[test]
fn closed_listener_accepts_no_peer_and_keeps_connections() {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a port");
    let addr = addr_of(net, listener);
    let mut seen = Recorder::echoing();
    let mut peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 1
    });

    let net = event_loop.net();
    assert!(net.close_listener(listener));
    assert!(!net.close_listener(listener), "it is closed already");
    assert!(net.listener(listener).is_none());
    assert_eq!(
        net.connection(seen.connected()[0]).map(|it| it.origin()),
        Some(Origin::Listener(listener))
    );
    let error = TcpStream::connect(addr).expect_err("no listener");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    peer.send(b"inside");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert_eq!(peer.receive(), b"inside");
    // The port is free again, though a connection of it lives on.
    let again = event_loop.net().listen(addr).expect("the port is free");
    assert_ne!(again, listener, "an old id does not name the new listener");
}

#[test]
fn resets_during_accept_do_not_affect_other_peers() {
    const STORM: usize = 500;
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::echoing();
    let mut good = Peer::connect(addr);
    for number in 0..STORM {
        let mut peer = Peer::connect(addr);
        if number % 2 == 0 {
            peer.write(&framed(&pattern(number))[..number / 2 + 1]);
        }
        if number % 3 == 0 {
            // Some are accepted before they reset, the others have done so by then.
            event_loop
                .turn(&mut seen, Some(std::time::Duration::ZERO))
                .expect("a turn");
        }
        peer.reset();
    }
    good.send(b"calm");
    turn_until(&mut event_loop, &mut seen, |seen, net| {
        let stats = net.stats();
        let storm = stats.disconnected + stats.accept_failures;
        storm == STORM as u64 && seen.frames().contains(&&b"calm"[..])
    });
    assert_eq!(good.receive(), b"calm");
    assert_eq!(
        seen.ends().len() as u64,
        event_loop.net().stats().disconnected
    );
    assert_eq!(event_loop.net().connection_count(), 1);
}

#[test]
fn burst_of_connections_is_accepted_at_one_per_turn() {
    let config = Config::default().accepts_per_turn(1);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default().backlog(100));
    let peers: Vec<_> = (0..50).map(|_| Peer::connect(addr)).collect();
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == peers.len()
    });
    assert!(event_loop.net().stats().turns >= 50);
}

#[test]
fn listeners_of_one_loop_have_their_own_framing() {
    let framings: Vec<Framing> = vec![
        Framing::length_prefix().u8().into(),
        Framing::length_prefix().u16().into(),
        Framing::length_prefix().u16().big_endian().into(),
        Framing::length_prefix().into(),
        Framing::length_prefix().big_endian().into(),
        Framing::length_prefix().u64().into(),
        Framing::length_prefix().u64().big_endian().into(),
        Framing::varint(),
        Framing::delimiter(b'\n'),
        Framing::custom(Toy::default()),
    ];
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let mut seen = Recorder::echoing();
    for framing in framings {
        let addr = listen(
            &mut event_loop,
            ListenOptions::default().framing(framing.clone()),
        );
        let encoder = FrameEncoder::new(framing.clone());
        let mut wire = Vec::new();
        for payload in [&pattern(200)[11..], b"", b"last"] {
            let payload: Vec<u8> = payload
                .iter()
                .copied()
                .filter(|byte| *byte != b'\n')
                .collect();
            encoder.encode(&payload, &mut wire).expect("it fits");
        }
        let mut peer = Peer::connect(addr);
        peer.write(&wire);
        let before = seen.frames().len();
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            seen.frames().len() == before + 3
        });
        assert_eq!(seen.frames().last(), Some(&&b"last"[..]), "{framing:?}");
        let mut echo = vec![0; wire.len()];
        peer.0.read_exact(&mut echo).expect("the echo");
        assert_eq!(echo, wire, "{framing:?}");
    }

    let addr = listen(
        &mut event_loop,
        ListenOptions::default().framing(Framing::raw()),
    );
    let mut peer = Peer::connect(addr);
    peer.write(b"no frame at all");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames()
            .last()
            .is_some_and(|frame| frame.ends_with(b"at all"))
    });
    let mut echo = [0; 15];
    peer.0.read_exact(&mut echo).expect("the echo");
    assert_eq!(&echo, b"no frame at all");
}

/// Echoes over an address, and tells by which address the peer was known.
fn peer_as_seen(
    listen_on: &str,
    options: ListenOptions,
    connect_to: &str,
) -> io::Result<SocketAddr> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let net = event_loop.net();
    let listener = net.listen_with(listen_on, options)?;
    let port = addr_of(net, listener).port();
    let addr: SocketAddr = connect_to
        .replace("PORT", &port.to_string())
        .parse()
        .expect("an address");
    let mut peer = Peer(TcpStream::connect(addr)?);
    peer.send(b"hello");
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert_eq!(peer.receive(), b"hello");
    let seen_as = event_loop
        .net()
        .connection(seen.connected()[0])
        .and_then(|it| it.peer_addr())
        .expect("it is connected");
    assert_eq!(seen_as.port(), peer.0.local_addr()?.port());
    Ok(seen_as)
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this machine has no IPv6");
    }
    has
}

#[test]
fn listener_accepts_on_an_ipv6_address() {
    if has_ipv6() {
        let seen = peer_as_seen("[::1]:0", ListenOptions::default(), "[::1]:PORT");
        assert!(seen.expect("it connects").is_ipv6());
    }
}

#[test]
fn unspecified_ipv6_address_accepts_ipv4_peers_with_ipv4_addresses() {
    if has_ipv6() {
        let v4 = peer_as_seen("[::]:0", ListenOptions::default(), "127.0.0.1:PORT");
        assert_eq!(v4.expect("it connects").ip(), Ipv4Addr::LOCALHOST);
        let v6 = peer_as_seen("[::]:0", ListenOptions::default(), "[::1]:PORT");
        assert!(v6.expect("it connects").is_ipv6());
    }
}

#[test]
fn ipv6_listener_with_only_v6_refuses_ipv4() {
    if has_ipv6() {
        let only = ListenOptions::default().only_v6(true);
        let refused = peer_as_seen("[::]:0", only.clone(), "127.0.0.1:PORT");
        assert_eq!(
            refused.expect_err("refused").kind(),
            io::ErrorKind::ConnectionRefused
        );
        peer_as_seen("[::]:0", only, "[::1]:PORT").expect("it connects");
    }
}

#[test]
fn outbound_connection_uses_ipv6() {
    if !has_ipv6() {
        return;
    }
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("[::1]:0").expect("a port");
    let addr = addr_of(net, listener);
    net.connect(addr).expect("it starts");
    turn_until(&mut event_loop, &mut Echo, |_, net| {
        net.connection_count() == 2
    });
}

#[test]
fn address_in_use_error_names_the_address() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let error = event_loop.net().listen(addr).expect_err("it is taken");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    match error {
        OpenError::Bind { addr: named, error } => {
            assert_eq!((named, error.kind()), (addr, io::ErrorKind::AddrInUse));
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn listeners_share_an_address_if_all_set_reuse_port() {
    let shared = ListenOptions::default().reuse_port(true);
    let (mut first, addr) = listening(shared.clone());
    let mut second = EventLoop::new(Config::default()).expect("a loop");
    second
        .net()
        .listen_with(addr, shared)
        .expect("it is shared");
    second
        .net()
        .listen(addr)
        .expect_err("this one does not say so");
    // The system chooses: of many peers each gets some.
    let peers: Vec<_> = (0..100).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut first, &mut Echo, |_, net| {
        let nothing = Some(std::time::Duration::ZERO);
        second.turn(&mut Echo, nothing).expect("a turn");
        net.connection_count() + second.net().connection_count() == peers.len()
    });
    assert!(first.net().connection_count() > 0 && second.net().connection_count() > 0);
}

#[test]
fn listen_resolves_names_and_reports_names_that_do_not_resolve() {
    let mut event_loop = <EventLoop>::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("localhost:0").expect("every machine has that");
    assert!(addr_of(net, listener).ip().is_loopback());
    let error = net.listen("localhost").expect_err("there is no port");
    assert!(matches!(error, OpenError::Resolve(_)), "{error:?}");
    let none: &[SocketAddr] = &[];
    let error = net.listen(none).expect_err("there is no address");
    assert!(matches!(error, OpenError::Resolve(_)), "{error:?}");
}

#[test]
fn listen_uses_the_first_address_that_works() {
    let (mut event_loop, taken) = listening(ListenOptions::default());
    let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let net = event_loop.net();
    let listener = net.listen(&[taken, free][..]).expect("the second is free");
    assert_ne!(
        net.listener(listener).and_then(|it| it.local_addr()),
        Some(taken)
    );
}

#[test]
fn busy_and_waited_time_add_up_to_elapsed_time() {
    let began = Instant::now();
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let before = event_loop.net().stats();
    let wait = Duration::from_millis(20);
    event_loop
        .turn(&mut Recorder::default(), Some(wait))
        .expect("a turn");
    let stats = event_loop.net().stats();
    assert!(stats.waited > wait / 2, "{stats:?}");
    assert!(stats.busy > Duration::ZERO && stats.busy + stats.waited <= began.elapsed());
    let fraction = stats.busy.as_secs_f64() / (stats.busy + stats.waited).as_secs_f64();
    assert!((stats.busy_fraction(&before) - fraction).abs() < 1e-9);
}

/// A link-local address of this machine, with its scope; `None` if it has none.
#[cfg(target_os = "linux")]
fn link_local() -> Option<std::net::SocketAddrV6> {
    // Address, index of the interface, length of the prefix, scope, flags, name.
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let found = interfaces.lines().find(|line| line.starts_with("fe80"))?;
    let mut fields = found.split_whitespace();
    let addr = u128::from_str_radix(fields.next()?, 16).ok()?;
    let scope_id = u32::from_str_radix(fields.next()?, 16).ok()?;
    Some(std::net::SocketAddrV6::new(
        std::net::Ipv6Addr::from_bits(addr),
        0,
        0,
        scope_id,
    ))
}

#[cfg(target_os = "linux")]
#[test]
fn link_local_peer_address_keeps_its_scope() {
    let Some(addr) = link_local() else {
        eprintln!("skipped: this machine has no link-local address");
        return;
    };
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen(addr).expect("an address of this machine");
    let local_addr = addr_of(net, listener);
    let peer = Peer::connect(local_addr);
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.connected().len() == 1
    });
    let id = seen.connected()[0];
    let peer_addr = peer.0.local_addr().expect("it is connected");
    assert_eq!(
        event_loop
            .net()
            .connection(id)
            .and_then(|it| it.peer_addr()),
        Some(peer_addr)
    );
    // Back to the host that the peer is on.
    let mut back = event_loop
        .net()
        .connection(id)
        .and_then(|it| it.peer_addr())
        .expect("it is connected");
    back.set_port(local_addr.port());
    let id = event_loop.net().connect(back).expect("a route");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.connected().contains(&id)
    });
}

//! Limits: a connection that exceeds one ends with the cause of that limit, and no other connection does.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use throng::sim::{End, Faults, Random, World, check};
use throng::{
    ConnectionId, DecodeError, DisconnectCause, DisconnectReason, Frame, Handler, Net, Overflow,
};

use crate::book::budgets;
use crate::echo::ADDR;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Gate {
    open: usize,
    most: usize,
    ends: Vec<(Option<std::net::SocketAddr>, DisconnectReason)>,
}

impl Handler for Gate {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.open += 1;
        self.most = self.most.max(self.open);
        net.send(id, b"welcome").expect("it is open");
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert!(frame.len() <= 1000);
        let _ = net.send_frame(id, frame);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.open -= 1;
        let addr = net.connection(id).and_then(|it| it.peer_addr());
        self.ends.push((addr, reason));
    }
}

/// Some peers send a frame that is too long.
fn lengths(world: &World) {
    world.set_faults(Faults::delays());
    let config = budgets(&mut world.random()).max_frame_len(1000);
    let host = world.host(config, Gate::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let mut peers = Vec::new();
    for _ in 0..world.up_to(6) {
        let peer = world.connect(ADDR);
        let is_liar = world.random().one_in(3);
        let sends = world.up_to(10);
        for _ in 0..sends {
            let len = world.random().length(1000);
            peer.send(vec![7; len]);
        }
        if is_liar {
            let len = 1001 + world.random().below(100_000);
            peer.send(vec![8; len]);
        }
        peers.push((peer, is_liar, sends));
    }
    world.run_for(60 * SECOND);
    for (peer, is_liar, sends) in &peers {
        let ends = &host.handler().ends;
        let end = ends.iter().find(|(addr, _)| *addr == Some(peer.addr()));
        let cause = end.map(|(_, reason)| &reason.cause);
        let is_caught = matches!(
            cause,
            Some(DisconnectCause::Decode(DecodeError::FrameTooLarge {
                max: 1000,
                ..
            }))
        );
        assert_eq!(is_caught, *is_liar, "{cause:?}");
        assert!(*is_liar || (peer.end().is_none() && peer.received().len() == sends + 1));
    }
}

#[test]
fn frames_above_the_limit_end_their_senders_only() {
    check(60, lengths);
}

/// Peers come and go, from few addresses.
fn crowd(world: &World) {
    let mut faults = Faults::all();
    faults.resets = 0;
    world.set_faults(faults);
    let config = budgets(&mut world.random())
        .max_connections(5)
        .max_connections_per_ip(2);
    let host = world.host(config, Gate::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let mut peers = Vec::new();
    for _ in 0..world.up_to(60) {
        let mut random: Random = world.random().fork();
        if random.one_in(2) && !peers.is_empty() {
            let peer: &throng::sim::Peer = &peers[random.below(peers.len())];
            if random.one_in(2) {
                peer.half_close();
            } else {
                peer.reset();
            }
        } else {
            let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, random.below(4) as u8));
            peers.push(world.connect_from(from, ADDR));
        }
        world.run_for(random.duration(SECOND));
        let open = host.with(|_, net| net.connections().len());
        assert!(open <= 5, "{open} connections");
        for last in 0..4 {
            let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
            let of_ip = host.with(|_, net| {
                let ids = net.connections().into_iter();
                let addrs = ids.filter_map(|id| net.connection(id)?.peer_addr());
                addrs.filter(|addr| addr.ip() == ip).count()
            });
            assert!(of_ip <= 2, "{of_ip} connections of {ip}");
        }
    }
    // When all have left there is room again.
    for peer in &peers {
        peer.reset();
    }
    world.calm();
    world.run_for(60 * SECOND);
    assert_eq!(host.handler().open, 0);
    let late: Vec<_> = (0..2)
        .map(|_| world.connect_from(Some(Ipv4Addr::new(192, 0, 2, 0).into()), ADDR))
        .collect();
    for peer in &late {
        peer.expect("welcome");
    }
}

#[test]
fn connections_are_limited_and_closing_frees_places() {
    check(60, crowd);
}

/// Peers that do not read are sent more than their queue may hold.
fn overflow(world: &World) {
    let mut faults = Faults::delays();
    (faults.small_buffers, faults.stalls) = (false, 0);
    world.set_faults(faults);
    let config = budgets(&mut world.random())
        .max_queued_bytes(20_000)
        .overflow(Overflow::Disconnect)
        .read_under_backpressure(true);
    let host = world.host(config, Gate::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let (slow, quick) = (world.connect(ADDR), world.connect(ADDR));
    slow.stall();
    for _ in 0..300 {
        slow.send(vec![7; 900]);
        quick.send(vec![8; 900]);
        let time = world.random().duration(SECOND / 10);
        world.run_for(time);
    }
    world.run_for(60 * SECOND);
    assert_eq!((quick.end(), quick.received().len()), (None, 301));
    slow.unstall();
    world.run_for(SECOND);
    assert_eq!(slow.end(), Some(End::Reset));
    let handler = host.handler();
    assert_eq!(handler.ends.len(), 1);
    let cause = &handler.ends[0].1.cause;
    let is_slow =
        matches!(cause, DisconnectCause::SlowConsumer { queued, max: 20_000 } if *queued < 22_000);
    assert!(is_slow, "{cause:?}");
}

#[test]
fn overflow_ends_only_connections_of_slow_peers() {
    check(20, overflow);
}

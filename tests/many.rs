//! Thousands of connections in one loop, which is both ends of each.

mod support;

use std::collections::HashMap;

use support::open_files::with_connections;
use support::{Peer, listening, turn_until};
use throng::{ConnectionId, DisconnectReason, Frame, Handler, ListenOptions, Net, Origin};

const CONNECTIONS: usize = 5_000;
/// Both ends: the inbound one echoes, the outbound one counts what comes back.
#[derive(Default)]
struct Ends {
    inbound: Vec<ConnectionId>,
    outbound: Vec<ConnectionId>,
    /// Frames that each outbound end got.
    echoes: HashMap<ConnectionId, usize>,
    ended: usize,
}

impl Handler for Ends {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        match net.connection(id).map(|it| it.origin()) {
            Some(Origin::Outbound) => self.outbound.push(id),
            _ => self.inbound.push(id),
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.connection(id).map(|it| it.origin()) == Some(Origin::Outbound) {
            *self.echoes.entry(id).or_default() += 1;
        } else {
            net.send_frame(id, frame).expect("it is open");
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.ended += 1;
        self.inbound.retain(|other| *other != id);
        self.outbound.retain(|other| *other != id);
    }
}

impl Ends {
    fn have_all(&self, echoes: usize) -> bool {
        let served = self
            .outbound
            .iter()
            .filter(|id| self.echoes.get(id) == Some(&echoes));
        served.count() == self.outbound.len()
    }
}

#[test]
fn thousands_of_connections_connect_exchange_frames_and_close() {
    with_connections(
        "thousands_of_connections_connect_exchange_frames_and_close",
        CONNECTIONS,
        come_talk_and_go,
    );
}

fn come_talk_and_go(connections: usize) {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut ends = Ends::default();
    let connect = |event_loop: &mut _, ends: &mut Ends, all: usize| {
        let mut left = all - ends.outbound.len();
        turn_until(event_loop, ends, |ends: &mut Ends, net: &mut Net| {
            // Fewer at a time than a backlog has places.
            for _ in 0..left.min(100) {
                net.connect(addr).expect("a free descriptor");
                left -= 1;
            }
            ends.inbound.len() == all && ends.outbound.len() == all
        });
    };
    connect(&mut event_loop, &mut ends, connections);
    assert_eq!(event_loop.net().connection_count(), 2 * connections);
    let places = event_loop
        .net()
        .connections()
        .into_iter()
        .map(ConnectionId::index);
    assert_eq!(places.max(), Some(2 * connections - 1), "indexes are dense");

    for id in ends.outbound.clone() {
        event_loop.net().send(id, b"one").expect("it is open");
    }
    turn_until(&mut event_loop, &mut ends, |ends, _| ends.have_all(1));

    let from = ends.inbound.clone();
    let report = event_loop
        .net()
        .broadcast(|id| from.contains(&id), b"to all");
    assert_eq!((report.queued, report.gone), (connections, 0));
    turn_until(&mut event_loop, &mut ends, |ends, _| ends.have_all(2));

    // Half of them leave. The others go on, and the places are taken again, under other names.
    let leaving: Vec<_> = ends.outbound.iter().copied().step_by(2).collect();
    for id in &leaving {
        assert!(event_loop.net().disconnect(*id));
    }
    turn_until(&mut event_loop, &mut ends, |ends, _| {
        ends.ended == 2 * leaving.len()
    });
    connect(&mut event_loop, &mut ends, connections);
    let net = event_loop.net();
    assert_eq!(net.connection_count(), 2 * connections);
    let places = net.connections().into_iter().map(ConnectionId::index);
    assert_eq!(
        places.max(),
        Some(2 * connections - 1),
        "places are used again"
    );
    assert!(
        leaving
            .iter()
            .all(|id| !net.is_connected(*id) && net.send(*id, b"stale").is_err())
    );
    ends.echoes.clear();
    for id in ends.outbound.clone() {
        event_loop.net().send(id, b"three").expect("it is open");
    }
    turn_until(&mut event_loop, &mut ends, |ends, _| ends.have_all(1));

    for id in ends.outbound.clone() {
        assert!(event_loop.net().disconnect(id));
    }
    turn_until(&mut event_loop, &mut ends, |_, net| {
        net.connection_count() == 0
    });
    turn_until(&mut event_loop, &mut ends, |ends, _| {
        ends.ended == 2 * (connections + leaving.len())
    });
}

/// Passes what one says on to all.
#[derive(Default)]
struct Room {
    members: Vec<ConnectionId>,
    /// The turn in which a frame was passed on.
    said: Option<u64>,
}

impl Handler for Room {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.members.push(id);
    }

    fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        let report = net.send_many(self.members.iter().copied(), frame);
        assert_eq!(report.queued, self.members.len());
        self.said = Some(net.stats().turns);
    }
}

#[test]
fn frame_for_a_thousand_peers_is_written_in_the_same_turn() {
    with_connections(
        "frame_for_a_thousand_peers_is_written_in_the_same_turn",
        1000,
        say_to_all,
    );
}

fn say_to_all(count: usize) {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut room = Room::default();
    let mut peers = Vec::new();
    while room.members.len() < count {
        if peers.len() < count {
            peers.push(Peer::connect(addr));
        }
        event_loop
            .turn(&mut room, Some(std::time::Duration::ZERO))
            .expect("a turn does not fail");
    }
    peers[0].send(b"hear, hear");
    turn_until(&mut event_loop, &mut room, |room, _| room.said.is_some());
    let stats = event_loop.net().stats();
    assert_eq!(Some(stats.turns), room.said, "no turn has been made since");
    assert_eq!(stats.frames_sent, count as u64);
    for peer in &mut peers {
        assert_eq!(peer.receive(), b"hear, hear");
    }
}

//! Events for connections that are closed do not reach connections that take their slots.

mod support;

use std::net::SocketAddr;

use support::by_hand::Loop;
use support::{Peer, Recorder};
use throng::{Config, ConnectionId, DisconnectReason, Frame, Handler, Net};

/// The first frame of a turn ends half of the other connections; each later one opens a new connection.
struct Replaces {
    addr: SocketAddr,
    turn: Option<u64>,
    gone: Vec<ConnectionId>,
    new: Vec<ConnectionId>,
    speakers: Vec<ConnectionId>,
    ended: usize,
}

impl Handler for Replaces {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        self.speakers.push(id);
        let turn = net.stats().turns;
        if self.turn == Some(turn) {
            self.new.push(net.connect(self.addr).expect("an attempt"));
        } else if self.turn.is_none() {
            self.turn = Some(turn);
            let mut others = net.connections();
            others.retain(|other| *other != id);
            self.gone = others.into_iter().take(PEERS / 2).collect();
            assert!(self.gone.iter().all(|other| net.abort(*other)));
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        assert!(self.gone.contains(&id));
        self.ended += 1;
    }
}

const PEERS: usize = 20;

#[test]
fn event_of_a_closed_connection_does_not_reach_its_slot() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| looped.join(&mut seen).0).collect();
    // All of them speak at once.
    for peer in &mut peers {
        peer.send(b"it is me");
    }
    let mut replaces = Replaces {
        addr: looped.listen(),
        turn: None,
        gone: Vec::new(),
        new: Vec::new(),
        speakers: Vec::new(),
        ended: 0,
    };
    looped.settle(&mut replaces, |replaces, _| {
        replaces.speakers.len() == PEERS - PEERS / 2
    });
    assert_eq!(
        (replaces.gone.len(), replaces.ended),
        (PEERS / 2, PEERS / 2)
    );
    assert!(!replaces.new.is_empty(), "they spoke in different turns");
    let places: Vec<usize> = replaces.gone.iter().map(|id| id.index()).collect();
    for new in &replaces.new {
        let taken = places.contains(&new.index());
        assert!(!taken, "{new} has a place of which the turn may still hear");
    }
    // In the next turn the places are free.
    let next = looped.net().connect(replaces.addr).expect("an attempt");
    assert!(places.contains(&next.index()) && !replaces.gone.contains(&next));
}

//! What users of other libraries got burned by, where no other file here has a test for it.

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use support::by_hand::Loop;
use support::scene::Scene;
use support::{Peer, Recorder, framed};
use throng::{
    Config, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net, Overflow,
    SendError,
};

const MIB: u64 = 1 << 20;

#[test]
fn a_queue_has_a_limit_though_none_was_set() {
    let mut scene = Scene::with(Config::default());
    scene.block();
    let frame = vec![7; 100_000];
    let error = loop {
        let sent = scene.looped.net.send(scene.id, &frame);
        scene.pass(Duration::ZERO);
        assert!(scene.queued() <= 16 * MIB + 100_004);
        if let Err(error) = sent {
            break error;
        }
    };
    let queued = scene.queued();
    assert!(
        matches!(error, SendError::QueueFull { queued: told, max } if (told, max) == (queued, 16 * MIB)),
        "{error}"
    );
    assert!(scene.looped.net.is_connected(scene.id), "it is not ended");
}

#[test]
fn a_stream_that_had_no_room_ends_and_has_no_gap() {
    let config = Config::default()
        .max_queued_bytes(MIB)
        .overflow(Overflow::Disconnect);
    let mut scene = Scene::with(config);
    scene.narrow(16 * 1024);
    let frame = |number: u32| framed(&[&number.to_le_bytes(), &[7; 5000][..]].concat());
    let mut sent = 0;
    while scene.looped.net.send(scene.id, &frame(sent)[4..]).is_ok() {
        scene.pass(Duration::ZERO);
        sent += 1;
    }
    // The peer reads now, and there would be room again.
    let mut stream = scene.peer.0.try_clone().expect("a live socket");
    let reader = std::thread::spawn(move || {
        let mut wire = Vec::new();
        let end = stream.read_to_end(&mut wire);
        (wire, end)
    });
    for _ in 0..100 {
        let later = scene.looped.net.send(scene.id, b"later");
        assert!(matches!(later, Err(SendError::Disconnected)));
        scene.pass(Duration::ZERO);
    }
    let (wire, end) = reader.join().expect("no panic");
    assert!(end.is_err(), "what is cut off does not look like an end");
    let expected: Vec<u8> = (0..sent).flat_map(frame).collect();
    assert!(expected.starts_with(&wire), "it has a gap");
    let written = scene.looped.net.stats().bytes_sent;
    let reason = scene.end();
    assert!(
        matches!(reason.cause, DisconnectCause::SlowConsumer { .. }),
        "{reason}"
    );
    assert_eq!(written + reason.unsent_bytes, expected.len() as u64);
}

#[test]
fn a_peer_that_takes_nothing_costs_no_calls_and_holds_up_nobody() {
    let mut scene = Scene::with(Config::default());
    scene.block();
    let (mut other, _) = scene.looped.join(&mut scene.seen);
    // Memory of the burst goes back.
    for _ in 0..5 {
        scene.pass(Duration::from_secs(2));
    }
    assert_eq!(scene.looped.net.next_timeout(scene.looped.now), None);
    let before = scene.looped.net.stats();
    scene.seen.echo = true;
    for number in 1..=50 {
        other.send(b"ping");
        scene.looped.settle(&mut scene.seen, |seen, net| {
            let rests = net.next_timeout(net.now()) != Some(Duration::ZERO);
            seen.frames().len() == number && rests
        });
        assert_eq!(other.receive(), b"ping");
    }
    let after = scene.looped.net.stats();
    assert_eq!(after.writes - before.writes, 50, "one for each answer");
    assert!(scene.queued() > 0, "it has taken nothing");
}

/// Who speaks first ends half of the others; whoever speaks later in that turn brings somebody new.
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
fn what_was_told_of_those_who_are_gone_does_not_reach_who_comes_after_them() {
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
    let next = looped.net.connect(replaces.addr).expect("an attempt");
    assert!(places.contains(&next.index()) && !replaces.gone.contains(&next));
}

//! Replies of a connection's own callbacks: in order, whole, and of the bytes that were meant, whether or not they are copied,
//! and whatever else the callbacks do.

mod support;

use std::time::Duration;

use support::random::{Random, with_seeds};
use support::server::Server;
use support::ways::Way;
use support::{Peer, framed, read_frames};
use throng::{ConnectionId, Expired, Frame, Handler, ListenOptions, Net};

/// Replies to each frame as its first bytes say, so that the peer knows what to expect.
#[derive(Default)]
struct Various {
    paused: Option<ConnectionId>,
}

impl Various {
    /// The number of different reactions to a frame.
    const WAYS: u8 = 14;

    /// Returns the replies to a frame.
    fn replies(payload: &[u8]) -> Vec<&[u8]> {
        let (first, rest) = payload.split_at(payload.len().min(1));
        match first.first().map(|way| way % Self::WAYS) {
            Some(1) => vec![rest],
            Some(2) => vec![&payload[..payload.len() - 1]],
            Some(3) => vec![payload, payload],
            Some(4) => vec![b"before", payload],
            Some(5) => vec![payload, b"behind"],
            Some(6) => vec![],
            _ => vec![payload],
        }
    }
}

impl Handler for Various {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let way = frame.first().map_or(0, |way| way % Self::WAYS);
        for reply in Self::replies(&frame) {
            let way = match way {
                7..=13 => Way::ALL[usize::from(way) - 7],
                _ => Way::Lent,
            };
            if frame.len() % 7 == 3 {
                // A look at the connection must not miss them, nor change them.
                let view = net.connection(id).expect("it is open");
                assert!(view.queued_bytes() < 64 << 20);
            }
            way.send(net, id, reply).expect("it can be sent");
        }
        if frame.len() % 13 == 5 {
            net.pause(id);
            self.paused = Some(id);
            net.set_timer(Duration::from_millis(1), 0);
        }
    }

    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        if let Some(id) = self.paused.take() {
            net.resume(id);
        }
    }
}

/// Returns frames that begin with the number of a reaction, most of them large.
fn frames(random: &mut Random) -> Vec<Vec<u8>> {
    (0..200)
        .map(|number| {
            let len = match random.below(6) {
                0 => random.below(40),
                1 => 1020 + random.below(20),
                2 | 3 => 1024 + random.below(6_000),
                4 => 4000 + random.below(60_000),
                _ => 30_000 + random.below(400_000),
            };
            let way = match random.one_in(2) {
                true => 0,
                false => random.below(usize::from(Various::WAYS)) as u8,
            };
            let mut payload: Vec<u8> = (0..len).map(|at| (at + number) as u8).collect();
            if let Some(first) = payload.first_mut() {
                *first = way;
            }
            payload
        })
        .collect()
}

#[test]
fn replies_are_those_of_the_handler_in_their_order() {
    let server = Server::start(Various::default(), ListenOptions::default());
    with_seeds(8, |seed| {
        let mut random = Random(seed);
        let frames = frames(&mut random);
        let expected: Vec<&[u8]> = frames
            .iter()
            .flat_map(|frame| Various::replies(frame))
            .collect();
        let peer = Peer::connect(server.addr);
        let mut writer = Peer(peer.0.try_clone().expect("a live socket"));
        let reader = read_frames(peer, expected.len());
        let wire: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let len = (1 + random.below(300_000)).min(rest.len());
            writer.write(&rest[..len]);
            rest = &rest[len..];
        }
        let (_, received) = reader.join().expect("it ran");
        for (number, (received, expected)) in received.iter().zip(&expected).enumerate() {
            assert!(received == expected, "reply {number} is another");
        }
    });
}

//! What an event costs beside many connections, and what connections cost. The network is simulated: a million
//! connections need no file descriptors.
//!
//! ```text
//! scale CONNECTIONS EVENTS                prints how many frames were echoed
//! ```
//!
//! It opens connections that have an idle timeout. In the first series of rounds one connection sends a frame per round.
//! In the second series one percent of the connections send at the same time, different ones in each round. Each series
//! ends when at least `EVENTS` frames were sent. The program ends without freeing its memory.
//!
//! `benches/counts.py scale` runs this under valgrind, and separates the crate from the simulated network.

use std::error::Error;
use std::time::Duration;

use throng::sim::{Peer, World};
use throng::{Config, ConnectionId, Frame, Handler, Net};

const ADDR: &str = "127.0.0.1:5000";
const SIZE: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// So many connections are opened in a millisecond.
const OPENED: usize = 500;
/// In a round, a frame and its echo take a millisecond each.
const ROUND: Duration = Duration::from_millis(10);

/// Sends each frame back.
struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Err(rejected) = net.send_frame(id, frame) {
            eprintln!("{id}: {rejected}");
        }
    }
}

type Problem = Box<dyn Error>;

fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [connections, events] = &arguments[..] else {
        return Err("scale CONNECTIONS EVENTS".into());
    };
    let (connections, events): (usize, usize) = (connections.parse()?, events.parse()?);

    let world = World::new(1);
    let config = Config::default()
        .idle_timeout(IDLE_TIMEOUT)
        .max_connections(connections);
    let host = world.host_unchecked(config, Echo);
    host.with(|_, net| net.listen(ADDR))?;
    let mut peers = Vec::with_capacity(connections);
    while peers.len() < connections {
        let count = OPENED.min(connections - peers.len());
        peers.extend((0..count).map(|_| world.connect(ADDR)));
        world.run_for(Duration::from_millis(1));
    }
    world.run_for(ROUND);
    if host.with(|_, net| net.connection_count()) < connections {
        return Err("not all connections were accepted".into());
    }
    let mut frames = Vec::new();
    for share in [connections, 100] {
        let senders = connections.div_ceil(share);
        let count = events.div_ceil(senders);
        let before = host.stats().frames_sent;
        rounds(&world, &peers, share, count);
        frames.push(host.stats().frames_sent - before);
    }
    println!("{frames:?}");
    // The heap as it is now is what valgrind looks at.
    std::process::exit(0);
}

/// In each round one connection in `share` sends a frame. Valgrind finds this by its name.
#[inline(never)]
fn rounds(world: &World, peers: &[Peer], share: usize, count: usize) {
    for round in 0..count {
        for peer in peers.iter().skip(round % 100).step_by(share) {
            peer.send([7; SIZE]);
        }
        world.run_for(ROUND);
    }
}

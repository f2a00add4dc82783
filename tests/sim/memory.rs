//! The memory budget: it is kept at the end of each turn, at the cost of those that hold the most.

use std::time::Duration;

use throng::sim::{Faults, Link, World, check};
use throng::{Config, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net};

use crate::echo::ADDR;

const SECOND: Duration = Duration::from_secs(1);

/// Sends a large frame to all peers, or a separate one to the peer that asks.
#[derive(Default)]
struct Hall {
    evicted: Vec<(Option<std::net::SocketAddr>, u64)>,
}

impl Handler for Hall {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match &*frame {
            b"all" => {
                net.broadcast(|_| true, vec![7; 80_000].as_slice());
            }
            _ => {
                let _ = net.send(id, &[8; 3000]);
            }
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        if let DisconnectCause::MemoryBudget { held, .. } = reason.cause {
            let addr = net.connection(id).and_then(|it| it.peer_addr());
            self.evicted.push((addr, held));
        }
    }
}

fn scenario(world: &World) {
    let mut faults = Faults::delays();
    faults.small_buffers = false;
    world.set_faults(faults);
    let mut link = Link::default();
    (link.send_buffer, link.receive_buffer) = (4000, 4000);
    world.set_link(link);
    let host = world.host(Config::default().memory_budget(100_000), Hall::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let readers: Vec<_> = (0..world.up_to(5)).map(|_| world.connect(ADDR)).collect();
    world.run_for(SECOND);
    for reader in &readers {
        reader.stall();
    }
    // One payload, held by all of them.
    readers[0].send("all");
    world.run_for(SECOND);
    let hog = world.connect(ADDR);
    hog.stall();
    // The hog holds less than each of them, but ending one of them would free nothing.
    for _ in 0..40 {
        hog.send("own");
        let time = world.random().duration(SECOND);
        world.run_for(time);
    }
    world.run_for(10 * SECOND);
    let evicted = host.handler().evicted.clone();
    assert_eq!(evicted.len(), 1, "{evicted:?}");
    assert_eq!(evicted[0].0, Some(hog.addr()), "{evicted:?}");
    for reader in &readers {
        reader.unstall().expect([7; 80_000]);
    }
}

#[test]
fn readers_of_a_shared_payload_outlive_the_one_that_holds_the_most() {
    check(40, scenario);
}

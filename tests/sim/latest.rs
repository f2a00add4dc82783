//! States that replace each other: a slow peer misses some, but none of the last.

use std::time::Duration;

use throng::sim::{Chaos, Link, Random, World, check};
use throng::{ConnectionId, DisconnectReason, Expired, Frame, Handler, Net, Timer};

use crate::book::{Book, budgets};
use crate::echo::{ADDR, LONG};

struct States {
    book: Book,
    random: Random,
    count: usize,
}

impl Handler for States {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.book.open(net, id);
        net.set_timer(Timer::interval(Duration::from_millis(20)).on(id), 0);
    }

    fn on_data(&mut self, _: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.book.received(id, &frame);
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        let id = expired.connection.expect("each belongs to a connection");
        for _ in 0..self.random.below(4) {
            self.count += 1;
            let slot = self.random.below(6) as u32;
            let mut state = self.count.to_string().into_bytes();
            state.resize(state.len() + self.random.length(50), b'.');
            if net.send_latest(id, slot, &state).is_ok() {
                self.book.sent_to_slot(id, slot, &state);
            }
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.book.close(id, reason);
    }
}

fn scenario(world: &World) {
    let mut link = Link::default();
    (link.send_buffer, link.receive_buffer) = (1000, 1000);
    world.set_link(link);
    let mut random = world.random().fork();
    let config = budgets(&mut random).disconnect_timeout(LONG);
    let states = States {
        book: Book::default(),
        random: random.fork(),
        count: 0,
    };
    let host = world.host(config, states);
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let logs = Chaos::new(ADDR).peers(5).steps(60).polite().run(world);
    world.run_for(2 * LONG);
    host.handler().book.check(&logs);
}

#[test]
fn slow_peers_get_the_newest_of_each_state() {
    check(80, scenario);
}

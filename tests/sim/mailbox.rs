//! Commands of handles, beside the traffic of peers.

use std::time::Duration;

use throng::sim::{Chaos, Faults, World, check};
use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net};

use crate::book::{Book, budgets};
use crate::echo::{ADDR, LONG};

#[derive(Default)]
struct Post {
    book: Book,
    alive: Vec<ConnectionId>,
    counted: usize,
}

impl Handler for Post {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.book.open(net, id);
        self.alive.push(id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let payload = frame.to_vec();
        self.book.received(id, &payload);
        if net.send(id, &payload).is_ok() {
            self.book.sent(id, &payload);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.book.close(id, reason);
        self.alive.retain(|it| *it != id);
    }
}

fn scenario(world: &World) {
    let mut random = world.random().fork();
    let config = budgets(&mut random)
        .disconnect_timeout(LONG)
        .max_pending_commands(random.length(40) as u64)
        .commands_per_turn(random.length(10));
    let host = world.host(config, Post::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let handle = host.handle();
    let mut posted = 0;
    let mut number = 0;
    let logs = Chaos::new(ADDR).peers(5).steps(60).run_with(world, |_| {
        let alive = host.handler().alive.clone();
        for _ in 0..random.below(8) {
            number += 1;
            let payload = format!("command {number}").into_bytes();
            if let Some(id) = alive.get(random.below(8)).copied() {
                let sent = handle.try_post(move |post: &mut Post, net: &mut Net| {
                    post.counted += 1;
                    // It may have ended meanwhile.
                    if net.send(id, &payload).is_ok() {
                        post.book.sent(id, &payload);
                    }
                });
                posted += usize::from(sent.is_ok());
            }
        }
    });
    world.run_for(Duration::from_secs(60));
    let post = host.handler();
    post.book.check(&logs);
    assert_eq!(post.counted, posted, "each command runs once");
}

#[test]
fn commands_run_once_and_in_order() {
    check(100, scenario);
}

#[test]
fn commands_of_undisturbed_loops_lose_nothing() {
    check(60, |world| {
        world.set_faults(Faults::delays());
        scenario(world);
    });
}

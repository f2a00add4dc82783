//! A client that connects again whenever its connection or its attempt has ended.

use std::time::Duration;

use throng::sim::{World, check};
use throng::{ConnectOptions, ConnectionId, DisconnectReason, Expired, Frame, Handler, Net, Stage};

use crate::book::budgets;
use crate::echo::ADDR;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Client {
    attempts: usize,
    refused: usize,
    connected: usize,
    failed: usize,
    ended: usize,
    /// Frames that were sent on the present connection, and how many came back.
    sent: usize,
    received: usize,
    all_received: usize,
}

impl Client {
    fn connect(&mut self, net: &mut Net) {
        let options = ConnectOptions::default()
            .timeout(3 * SECOND)
            .disconnect_timeout(5 * SECOND);
        match net.connect_with(ADDR.parse().expect("an address"), options) {
            Ok(_) => self.attempts += 1,
            Err(_) => {
                self.refused += 1;
                net.set_timer(SECOND, 0);
            }
        }
    }
}

impl Handler for Client {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.connected += 1;
        (self.sent, self.received) = (0, 0);
        net.set_timer(throng::Timer::interval(SECOND / 4).on(id), 1);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert_eq!(*frame, *self.received.to_string().as_bytes());
        self.received += 1;
        self.all_received += 1;
        if self.received == 30 {
            net.disconnect(id);
        }
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        match expired.connection {
            Some(id) if net.send(id, self.sent.to_string().as_bytes()).is_ok() => self.sent += 1,
            Some(_) => {}
            None => self.connect(net),
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        if reason.stage == Stage::Connecting {
            self.failed += 1;
        } else {
            self.ended += 1;
        }
        self.connect(net);
    }
}

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let _ = net.send_frame(id, frame);
    }
}

fn scenario(world: &World) {
    // The server does not notice a client whose reset was lost.
    let config = budgets(&mut world.random()).idle_timeout(20 * SECOND);
    let server = world.host(config, Echo);
    let client = world.host(budgets(&mut world.random()), Client::default());
    client.with(|client, net| client.connect(net));
    world.run_for(SECOND);
    server.with(|_, net| net.listen(ADDR)).expect("a free port");
    for _ in 0..world.up_to(5) {
        let time = world.random().duration(20 * SECOND);
        world.run_for(time);
        world.partition_hosts(&server, &client);
        let time = world.random().duration(20 * SECOND);
        world.run_for(time);
        world.heal();
    }
    world.calm();
    world.run_for(60 * SECOND);
    let counts = client.handler();
    assert!(counts.all_received > 30, "it works in the end");
    let open = counts.connected - counts.ended;
    let connecting = counts.attempts - counts.connected - counts.failed;
    assert!(open + connecting <= 1, "each attempt has one end");
    drop(counts);
    assert!(
        client.open_files() <= 1 && server.open_files() <= 1,
        "no socket is lost"
    );
}

#[test]
fn each_attempt_has_one_outcome_and_each_connection_one_end() {
    check(100, scenario);
}

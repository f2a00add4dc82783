//! Each peer gets back what it has sent, whatever happens in between.

use std::time::Duration;

use throng::sim::{Chaos, End, World, check};
use throng::{Config, ConnectionId, DisconnectReason, Frame, Handler, ListenOptions, Net};

use crate::book::{Book, budgets, framing};

pub(crate) const ADDR: &str = "127.0.0.1:5000";
/// Longer than any interruption.
pub(crate) const LONG: Duration = Duration::from_secs(60 * 60);

#[derive(Default)]
struct Echo(Book);

impl Handler for Echo {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.0.open(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let payload = frame.to_vec();
        self.0.received(id, &payload);
        if net.send_frame(id, frame).is_ok() {
            self.0.sent(id, &payload);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.0.close(id, reason);
    }
}

fn scenario(world: &World, is_polite: bool) {
    let mut random = world.random().fork();
    let framing = framing(&mut random);
    let mut config: Config = budgets(&mut random).disconnect_timeout(LONG);
    if random.one_in(2) {
        config = config.max_queued_bytes(random.length(50_000) as u64);
    }
    let host = world.host(config, Echo::default());
    let options = ListenOptions::default().framing(framing.clone());
    host.with(|_, net| net.listen_with(ADDR, options))
        .expect("a free port");
    let mut chaos = Chaos::new(ADDR).peers(8).steps(80).framing(framing);
    if is_polite {
        chaos = chaos.polite();
    }
    let logs = chaos.run(world);
    world.run_for(2 * LONG);
    let echo = host.handler();
    echo.0.check(&logs);
    for log in logs
        .iter()
        .filter(|log| log.is_polite && !log.peer.was_disturbed())
    {
        assert_eq!(
            log.end(),
            Some(End::Closed),
            "{:?} has done nothing wrong",
            log.peer
        );
    }
    for (addr, account) in &echo.0.accounts {
        assert!(account.reason.is_some(), "{addr} is open");
    }
    assert_eq!(host.open_files(), 0);
}

#[test]
fn echo_returns_what_was_sent_to_misbehaving_peers() {
    check(150, |world| scenario(world, false));
}

#[test]
fn echo_returns_everything_to_well_behaved_peers() {
    check(150, |world| {
        let mut faults = throng::sim::Faults::all();
        faults.resets = 0;
        faults.failed_accepts = 0;
        world.set_faults(faults);
        scenario(world, true);
    });
}

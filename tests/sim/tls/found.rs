//! Scripts of faults that random worlds have found.

use std::time::Duration;

use throng::sim::{Faults, Host, Link, World};
use throng::{Config, ConnectOptions, ConnectionId, Frame, Handler, ListenOptions, Net};

use super::crypto::Crypto;
use crate::echo::ADDR;

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let _ = net.send_frame(id, frame);
    }
}

/// Two connected hosts.
fn connected(world: &World) -> (Host<Echo>, Host<Echo>) {
    let crypto = Crypto::new(world);
    let server = world.host(Config::default(), Echo);
    let options = crypto.serve(ListenOptions::default());
    server
        .with(|_, net| net.listen_with(ADDR, options))
        .expect("a free port");
    let client = world.host(Config::default(), Echo);
    let options = crypto.connect(ConnectOptions::default());
    let addr = ADDR.parse().expect("an address");
    client
        .with(|_, net| net.connect_with(addr, options))
        .expect("a descriptor");
    let established = || {
        let both = [&server, &client].map(|host| host.stats().handshakes);
        both == [1, 1]
    };
    assert!(world.run_until(Duration::from_secs(5), established));
    (server, client)
}

fn only(net: &Net) -> ConnectionId {
    net.connections()[0]
}

#[test]
fn closing_session_reads_a_close_notify_that_comes_in_many_pieces() {
    for seed in 0..10 {
        let mut faults = Faults::none();
        faults.linux = Some(false);
        faults.short_reads = 1;
        let world = World::new(seed).faults(faults);
        let (server, client) = connected(&world);
        client.with(|_, net| net.disconnect(only(net)));
        world.run_for(Duration::from_secs(1));
        assert_eq!((server.open_files(), client.open_files()), (0, 0));
    }
}

/// The contract of the hosts compares what was written with what the reason of the end counts.
#[test]
fn write_that_fails_in_the_middle_of_a_flush_is_counted_once() {
    for (seed, short_writes) in (0..20).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let mut link = Link::default();
        link.send_buffer = 1 << 20;
        let world = World::new(seed).link(link);
        let (server, _client) = connected(&world);
        let mut faults = Faults::none();
        faults.linux = Some(false);
        faults.short_writes = short_writes;
        faults.sudden_resets = 1;
        world.set_faults(faults);
        let sent = server.with(|_, net| net.send_bytes(only(net), vec![7; 200_000].into()));
        sent.expect("there is room");
        world.run_for(Duration::from_secs(1));
        assert_eq!(server.open_files(), 0);
    }
}

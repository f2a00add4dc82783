//! Hosts without a `Contract`: they behave as those that have one.

use std::net::SocketAddr;
use std::time::Duration;

use mio::Token;
use throng::sim::{Chaos, Faults, World};
use throng::{
    Admission, Chunk, Config, ConnectionId, DisconnectReason, Expired, Frame, Handler,
    ListenOptions, ListenerId, Net, Readiness, Timer,
};

use crate::echo::ADDR;

/// Notes each callback.
#[derive(Default)]
struct Notes(Vec<(&'static str, Option<ConnectionId>)>);

impl Handler for Notes {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.0.push(("data", Some(id)));
        let _ = net.send_frame(id, frame);
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        self.0.push(("chunk", Some(id)));
        let _ = net.send(id, &chunk);
    }

    fn on_accept(&mut self, _: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        self.0.push(("accept", None));
        match self.0.len() % 5 {
            0 => Admission::Refuse,
            _ => Admission::Admit,
        }
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.0.push(("connect", Some(id)));
        net.set_timer(Timer::after(Duration::from_secs(1)).on(id), 0);
    }

    fn on_drain(&mut self, _: &mut Net, id: ConnectionId) {
        self.0.push(("drain", Some(id)));
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        self.0.push(("half_close", Some(id)));
        net.disconnect(id);
    }

    fn on_timer(&mut self, _: &mut Net, expired: Expired) {
        self.0.push(("timer", expired.connection));
    }

    fn on_event(&mut self, _: &mut Net, _: Token, _: Readiness) {
        self.0.push(("event", None));
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.0.push(("disconnect", Some(id)));
    }
}

/// Returns all callbacks, and the digest of the world.
fn run(seed: u64, is_checked: bool) -> (Notes, u64) {
    let world = World::new(seed).faults(Faults::all());
    let config = Config::default().high_watermark(2_000).low_watermark(500);
    let host = match is_checked {
        true => world.host(config, Notes::default()),
        false => world.host_unchecked(config, Notes::default()),
    };
    let options = ListenOptions::default().allow_half_open(true);
    let options = options.stream_frames_over(5_000);
    host.with(|_, net| net.listen_with(ADDR, options))
        .expect("a free port");
    Chaos::new(ADDR).peers(20).steps(200).run(&world);
    let posted = host.handle();
    posted
        .try_post(|notes, _| notes.0.push(("post", None)))
        .expect("room");
    host.report_event(Token(7), Readiness::default());
    world.run_for(Duration::from_secs(10));
    (host.kill(), world.digest())
}

#[test]
fn unchecked_host_makes_the_callbacks_of_a_checked_one() {
    let mut kinds = Vec::new();
    for seed in 0..10 {
        let ((checked, digest), (unchecked, other)) = (run(seed, true), run(seed, false));
        assert_eq!(checked.0, unchecked.0, "seed {seed}");
        assert_eq!(digest, other, "seed {seed}");
        kinds.extend(unchecked.0.iter().map(|(kind, _)| *kind));
    }
    kinds.sort_unstable();
    kinds.dedup();
    let all = [
        "accept",
        "chunk",
        "connect",
        "data",
        "disconnect",
        "drain",
        "event",
        "half_close",
        "post",
        "timer",
    ];
    assert_eq!(kinds, all);
}

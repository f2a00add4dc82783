//! Two loops: a relay passes frames of any length to an echo server and back, with backpressure and half-close.

use std::collections::BTreeMap;

use throng::sim::{Chaos, End, Faults, World, check};
use throng::{
    Chunk, Config, ConnectOptions, ConnectionId, DisconnectReason, Frame, Handler, ListenOptions,
    Net, Origin,
};

use crate::book::budgets;
use crate::echo::{ADDR, LONG};

const BACKEND: &str = "127.0.0.1:6000";

/// Echoes frames until it has half-closed.
struct Backend;

impl Handler for Backend {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.send_frame(id, frame).is_err() {
            // A write has failed; what had arrived is still delivered.
            net.abort(id);
        }
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        net.disconnect(id);
    }
}

#[derive(Default)]
struct Relay {
    other: BTreeMap<ConnectionId, ConnectionId>,
    ends: Vec<DisconnectReason>,
}

impl Relay {
    /// Stops reading from a connection while the other one is congested.
    fn hold(&self, net: &mut Net, id: ConnectionId, other: ConnectionId) {
        if net.connection(other).is_some_and(|it| it.is_congested()) {
            net.pause(id);
        }
    }
}

impl Handler for Relay {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let origin = net.connection(id).expect("it is connected").origin();
        if let Origin::Listener(_) = origin {
            net.pause(id);
            let backend = BACKEND.parse().expect("an address");
            let options = ConnectOptions::default().timeout(LONG);
            match net.connect_with(backend, options) {
                Ok(other) => {
                    self.other.insert(id, other);
                    self.other.insert(other, id);
                }
                Err(_) => {
                    net.abort(id);
                }
            }
        } else if let Some(other) = self.other.get(&id) {
            net.resume(*other);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let other = self.other[&id];
        if net.send_frame(other, frame).is_err() {
            net.abort(id);
        }
        self.hold(net, id, other);
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        let other = self.other[&id];
        let mut pass = || {
            if chunk.is_first() {
                net.begin_frame(other, chunk.total().expect("a length prefix"))?;
            }
            net.push_chunk(other, &chunk)?;
            if chunk.is_last() {
                net.finish_frame(other)?;
            }
            Ok::<(), throng::SendError>(())
        };
        if pass().is_err() {
            net.abort(id);
        }
        self.hold(net, id, other);
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        if let Some(other) = self.other.get(&id) {
            net.resume(*other);
        }
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        let other = self.other[&id];
        if net.half_close(other).is_err() {
            net.abort(id);
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let is_graceful = matches!(reason.cause, throng::DisconnectCause::PeerClosed);
        self.ends.push(reason);
        if let Some(other) = self.other.remove(&id) {
            self.other.remove(&other);
            if is_graceful {
                net.disconnect(other);
            } else {
                net.abort(other);
            }
        }
    }
}

fn scenario(world: &World) {
    let mut random = world.random().fork();
    let options = ListenOptions::default().allow_half_open(true);
    let backend = budgets(&mut random)
        .disconnect_timeout(LONG)
        .max_queued_bytes(u64::MAX);
    let backend = world.host(backend, Backend);
    backend
        .with(|_, net| net.listen_with(BACKEND, options.clone()))
        .expect("a free port");
    let high = 10_000 + random.length(50_000) as u64;
    let config: Config = budgets(&mut random)
        .disconnect_timeout(LONG)
        .high_watermark(high)
        .stream_frames_over(random.length(5000) as u64);
    let relay = world.host(config, Relay::default());
    relay
        .with(|_, net| net.listen_with(ADDR, options))
        .expect("a free port");
    let logs = Chaos::new(ADDR).peers(5).steps(60).polite().run(world);
    world.run_for(2 * LONG);
    let is_calm = relay.stats().accept_failures == 0;
    for log in &logs {
        let received = log.received();
        assert!(log.sent.starts_with(&received), "in order");
        match log.end() {
            Some(End::Closed) => assert!(received == log.sent, "nothing is missing before EOF"),
            _ if is_calm && !log.peer.was_disturbed() => assert!(world.disturbances() > 0),
            _ => {}
        }
    }
    assert_eq!((relay.open_files(), backend.open_files()), (0, 0));
}

#[test]
fn relay_passes_frames_of_any_length_in_both_directions() {
    check(80, scenario);
}

#[test]
fn undisturbed_relay_delivers_everything() {
    check(80, |world| {
        world.set_faults(Faults::delays());
        scenario(world);
    });
}

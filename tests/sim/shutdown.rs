//! A shutdown at any time: everything that was sent is written, and the loop stops in time.

use std::time::Duration;

use throng::sim::{Chaos, Faults, World, check};
use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net};

use crate::book::{Book, budgets};
use crate::echo::{ADDR, LONG};

#[derive(Default)]
struct Bell {
    book: Book,
    frames: usize,
    rings_at: usize,
    timeout: Duration,
}

impl Handler for Bell {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.book.open(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        assert!(
            !net.is_shutting_down(),
            "nothing is delivered during a shutdown"
        );
        let payload = frame.to_vec();
        self.book.received(id, &payload);
        for id in net.connections() {
            if net.send(id, &payload).is_ok() {
                self.book.sent(id, &payload);
            }
        }
        self.frames += 1;
        if self.frames == self.rings_at {
            for id in net.connections() {
                self.book.of(id).was_closed = true;
            }
            net.shutdown(self.timeout);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.book.close(id, reason);
    }
}

fn scenario(world: &World) {
    let mut random = world.random().fork();
    let config = budgets(&mut random).disconnect_timeout(LONG);
    let bell = Bell {
        rings_at: random.length(100),
        timeout: *random.choose(&[LONG, Duration::from_secs(1), Duration::ZERO]),
        ..Bell::default()
    };
    let (is_patient, timeout) = (bell.timeout == LONG, bell.timeout);
    let host = world.host(config, bell);
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    // It neither reads nor closes.
    let sleeper = world.connect(ADDR);
    sleeper.stall().keep_open();
    let mut rung = None;
    let logs = Chaos::new(ADDR)
        .peers(6)
        .steps(60)
        .run_with(world, |world| {
            let has_rung = host.handler().frames >= host.handler().rings_at;
            if has_rung && rung.is_none() {
                rung = Some(world.elapsed());
            }
            if let Some(rung) = rung {
                let late = world.elapsed() > rung + timeout + Duration::from_secs(60);
                assert!(host.is_stopped() || !late, "the loop stops in time");
            }
        });
    world.run_for(2 * LONG);
    let bell = host.handler();
    if bell.frames >= bell.rings_at {
        assert!(host.is_stopped());
        assert!(
            bell.book
                .accounts
                .values()
                .all(|account| account.reason.is_some())
        );
        assert_eq!(host.open_files(), 0);
    }
    if is_patient {
        bell.book.check(&logs);
    }
}

#[test]
fn shutdown_writes_what_was_sent_and_stops_in_time() {
    check(150, scenario);
}

#[test]
fn shutdown_of_undisturbed_connections_loses_nothing() {
    check(80, |world| {
        world.set_faults(Faults::delays());
        scenario(world);
    });
}

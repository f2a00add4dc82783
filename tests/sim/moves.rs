//! Connections that move between loops, in the middle of their stream.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use throng::sim::{Chaos, End, Faults, Random, World, check};
use throng::{
    ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Expired, Frame, Framing,
    Handler, ListenOptions, Net, Released, Timer,
};

use crate::book::{budgets, framing};
use crate::echo::{ADDR, LONG};

type Desk = Rc<RefCell<Vec<Released>>>;

/// Echoes, and now and then releases a connection for the other loop to adopt.
struct Clerk {
    random: Random,
    desk: Desk,
    others: Desk,
    framing: Framing,
    moved: usize,
}

impl Clerk {
    fn take_up(&mut self, net: &mut Net) {
        for released in self.others.borrow_mut().drain(..) {
            let options = ConnectOptions::default()
                .framing(self.framing.clone())
                .timeout(LONG);
            let adopted = net.adopt_with(released.stream, options, &released.unread);
            self.moved += usize::from(adopted.is_ok());
        }
    }
}

impl Handler for Clerk {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let period = self.random.duration(Duration::from_millis(500));
        net.set_timer(Timer::interval(period).on(id), 0);
    }

    /// In the middle of a frame, perhaps.
    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if let Some(id) = expired.connection
            && self.random.one_in(4)
        {
            let _ = net.release(id);
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if net.send_frame(id, frame).is_err() {
            net.abort(id);
        }
        if self.random.one_in(8) {
            let _ = net.release(id);
        }
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        if let DisconnectCause::Released(released) = reason.cause {
            self.desk.borrow_mut().push(*released);
        }
    }
}

fn scenario(world: &World, is_calm: bool) {
    let mut random = world.random().fork();
    let framing = framing(&mut random);
    let (desk, others) = (Desk::default(), Desk::default());
    let mut clerk = |desk: &Desk, others: &Desk| Clerk {
        random: random.fork(),
        desk: Rc::clone(desk),
        others: Rc::clone(others),
        framing: framing.clone(),
        moved: 0,
    };
    let clerks = [clerk(&desk, &others), clerk(&others, &desk)];
    let hosts = clerks.map(|clerk| {
        let config = budgets(&mut random).disconnect_timeout(LONG);
        world.host(config, clerk)
    });
    let options = ListenOptions::default().framing(framing.clone());
    hosts[0]
        .with(|_, net| net.listen_with(ADDR, options))
        .expect("a free port");
    let move_all = || {
        for host in &hosts {
            host.with(|clerk, net| clerk.take_up(net));
        }
    };
    let chaos = Chaos::new(ADDR)
        .peers(5)
        .steps(80)
        .framing(framing)
        .polite();
    let logs = chaos.run_with(world, |_| move_all());
    world.run_for(2 * LONG);
    for log in &logs {
        let received = log.received();
        assert!(log.sent.starts_with(&received), "in order");
        if log.end() == Some(End::Closed) {
            assert_eq!(
                received.len(),
                log.sent.len(),
                "nothing is missing before EOF"
            );
        } else {
            assert!(!is_calm, "{:?} has ended: {:?}", log.peer, log.end());
        }
    }
}

#[test]
fn moved_connections_continue_where_they_were() {
    check(80, |world| scenario(world, false));
}

#[test]
fn undisturbed_moves_lose_nothing() {
    check(80, |world| {
        world.set_faults(Faults::delays());
        scenario(world, true);
    });
}

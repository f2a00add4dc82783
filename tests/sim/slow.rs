//! Deadlines: slow peers stay connected, silent ones are disconnected.

use std::time::Duration;

use throng::sim::{Faults, Link, World, check};
use throng::{Config, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net};

use crate::echo::ADDR;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Sends {
    ends: Vec<(Option<std::net::SocketAddr>, DisconnectReason)>,
}

impl Handler for Sends {
    /// Sends as many bytes as asked for.
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let len = frame
            .iter()
            .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        net.send(id, &vec![7; len]).expect("room");
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let addr = net.connection(id).and_then(|it| it.peer_addr());
        self.ends.push((addr, reason));
    }
}

/// Faults that do not change how long bytes take.
fn punctual() -> Faults {
    let mut faults = Faults::all();
    (faults.resets, faults.stalls, faults.clock_jumps) = (0, 0, 0);
    faults.failed_accepts = 0;
    faults.longest_suspension = SECOND;
    faults
}

/// Each peer takes a little in each period: too little for the selector to report room.
fn slow_readers(world: &World) {
    world.set_faults(punctual());
    let host = world.host(
        Config::default().write_stall_timeout(10 * SECOND),
        Sends::default(),
    );
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let mut link = Link::default();
    link.send_buffer = 20_000;
    link.receive_buffer = 2000;
    world.set_link(link);
    let peers: Vec<_> = (0..world.up_to(4)).map(|_| world.connect(ADDR)).collect();
    for peer in &peers {
        peer.stall().send("100000");
    }
    let dead = world.connect(ADDR);
    dead.stall().send("100000");
    for _ in 0..20 {
        for peer in &peers {
            peer.read_only(world.up_to(1000));
        }
        let time = world.random().duration(4 * SECOND);
        world.run_for(4 * SECOND + time);
    }
    let handler = host.handler();
    let mut ends = handler.ends.iter();
    let (addr, reason) = ends.next().expect("the one that reads nothing has ended");
    assert_eq!(*addr, Some(dead.addr()));
    assert!(
        matches!(reason.cause, DisconnectCause::WriteStalled { .. }),
        "{reason}"
    );
    assert!(ends.next().is_none(), "a slow reader has ended");
}

#[test]
fn slow_readers_stay_connected_and_stalled_ones_end() {
    check(100, slow_readers);
}

/// Peers that pause for less than the timeouts, and peers that stop: silent, or inside a frame.
fn pauses(world: &World) {
    world.set_faults(punctual());
    let config = Config::default()
        .idle_timeout(40 * SECOND)
        .frame_stall_timeout(10 * SECOND)
        .frame_stall_bytes(1);
    let host = world.host(config, Sends::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let (busy, silent, inside) = (
        world.connect(ADDR),
        world.connect(ADDR),
        world.connect(ADDR),
    );
    let trickle = world.connect(ADDR);
    silent.send("10");
    let frame = 100_u32.to_le_bytes();
    inside.send_raw(frame);
    trickle.send_raw(frame);
    let began = world.elapsed();
    for round in 0..10 {
        let time = world.random().duration(2 * SECOND);
        world.run_for(5 * SECOND + time);
        busy.send("1");
        trickle.send_raw("1");
        let after = world.elapsed() - began;
        let ended: Vec<_> = host.handler().ends.iter().map(|(addr, _)| *addr).collect();
        let is_over = |peer: &throng::sim::Peer| ended.contains(&Some(peer.addr()));
        assert!(
            !is_over(&busy) && !is_over(&trickle),
            "round {round}: {ended:?}"
        );
        assert!(
            is_over(&inside) || after < 24 * SECOND,
            "an unfinished frame has a deadline"
        );
        assert!(
            is_over(&silent) || after < 44 * SECOND,
            "silence has a deadline"
        );
        assert!(!is_over(&silent) || after > 39 * SECOND, "too early");
    }
    for (_, reason) in &host.handler().ends {
        let is_late = matches!(
            reason.cause,
            DisconnectCause::Idle { .. } | DisconnectCause::FrameStalled { .. }
        );
        assert!(is_late, "{reason}");
    }
}

#[test]
fn deadlines_end_only_silent_peers_and_in_time() {
    check(100, pauses);
}

/// The input of a suspended loop is older than its deadline, and was not read.
fn suspension(world: &World) {
    world.set_faults(punctual());
    let host = world.host(
        Config::default().idle_timeout(10 * SECOND),
        Sends::default(),
    );
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let peers: Vec<_> = (0..world.up_to(8)).map(|_| world.connect(ADDR)).collect();
    world.run_for(5 * SECOND);
    for _ in 0..4 {
        host.suspend(9 * SECOND);
        world.run_for(2 * SECOND);
        for peer in &peers {
            peer.send("3");
        }
        world.run_for(9 * SECOND);
    }
    // The last replies may be on their way.
    world.run_for(5 * SECOND);
    for peer in &peers {
        assert_eq!((peer.received().len(), peer.end()), (4, None));
    }
}

#[test]
fn suspended_loop_reads_before_it_judges() {
    check(100, suspension);
}

/// Sends a long goodbye to each peer that asks for it.
struct Goodbye;

impl Handler for Goodbye {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        net.send(id, &[7; 10_000]).expect("room");
        net.disconnect(id);
    }
}

/// A closing connection stays open as long as its peer takes something.
fn goodbye(world: &World) {
    let mut faults = punctual();
    faults.small_buffers = false;
    world.set_faults(faults);
    let mut link = Link::default();
    (link.send_buffer, link.receive_buffer) = (1000, 1000);
    world.set_link(link);
    let config = Config::default().disconnect_timeout(10 * SECOND);
    let host = world.host(config, Goodbye);
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let peer = world.connect(ADDR);
    peer.stall().send("bye");
    while peer.bytes_received() < 8000 {
        assert_eq!(peer.end(), None, "after {} bytes", peer.bytes_received());
        let bytes = 300 + world.random().below(700);
        peer.read_only(bytes);
        let time = world.random().duration(2 * SECOND);
        world.run_for(4 * SECOND + time);
    }
    peer.unstall().expect([7; 10_000]);
    assert_eq!(peer.expect_end(), throng::sim::End::Closed);
}

#[test]
fn slow_readers_get_the_last_bytes_before_the_end() {
    check(60, goodbye);
}

/// Sends to its peer all the time, and counts what comes back.
#[derive(Default)]
struct Ticker {
    received: std::collections::BTreeMap<std::net::SocketAddr, usize>,
}

impl Handler for Ticker {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.set_timer(throng::Timer::interval(SECOND / 100).on(id), 0);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        let addr = net.connection(id).and_then(|it| it.peer_addr());
        *self.received.entry(addr.expect("its peer")).or_default() += 1;
    }

    fn on_timer(&mut self, net: &mut Net, expired: throng::Expired) {
        let id = expired.connection.expect("it has one");
        let _ = net.send(id, &[7; 100]);
    }
}

/// Peers send and reset while the loop is suspended. Writes fail before everything is read.
fn last_words(world: &World) {
    let mut faults = Faults::delays();
    (faults.stalls, faults.suspensions) = (0, 0);
    world.set_faults(faults);
    let config = Config::default()
        .read_budget(world.up_to(100))
        .max_queued_bytes(5000)
        .read_under_backpressure(true);
    let host = world.host(config, Ticker::default());
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let peers: Vec<_> = (0..world.up_to(5)).map(|_| world.connect(ADDR)).collect();
    world.run_for(SECOND);
    for peer in &peers {
        peer.stall();
    }
    world.run_for(SECOND);
    host.suspend(20 * SECOND);
    for peer in &peers {
        for _ in 0..10 {
            peer.send([8; 10]);
        }
    }
    world.run_for(10 * SECOND);
    for peer in &peers {
        peer.close();
    }
    world.run_for(60 * SECOND);
    for peer in &peers {
        let received = host.handler().received.get(&peer.addr()).copied();
        assert_eq!(
            received,
            Some(10),
            "what had arrived before the reset is delivered"
        );
    }
}

#[test]
fn input_before_a_reset_is_delivered_although_writes_fail() {
    check(60, last_words);
}

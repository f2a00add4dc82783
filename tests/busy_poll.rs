//! A loop that polls without sleeping: it must still notice timeouts, deadlines and other threads.

mod support;

use std::time::{Duration, Instant};

use support::{Peer, Recorder, listen};
use throng::{Config, EventLoop, Expired, Frame, Handler, ListenOptions, Net, Timer};

/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3600);

fn busy_loop() -> EventLoop {
    EventLoop::new(Config::default().busy_poll(FOREVER)).expect("a loop")
}

#[test]
fn busy_turn_ends_with_its_timeout() {
    let mut event_loop = busy_loop();
    let began = Instant::now();
    let timeout = Duration::from_millis(20);
    event_loop
        .turn(&mut Recorder::default(), Some(timeout))
        .expect("a turn");
    assert!(began.elapsed() >= timeout, "it ended early");
}

#[test]
fn timer_fires_in_a_busy_loop() {
    struct Stops(bool);
    impl Handler for Stops {
        fn on_data(&mut self, _: &mut Net, _: throng::ConnectionId, _: Frame<'_>) {}
        fn on_timer(&mut self, net: &mut Net, _: Expired) {
            self.0 = true;
            net.stop();
        }
    }
    let mut event_loop = busy_loop();
    event_loop
        .net()
        .set_timer(Timer::after(Duration::from_millis(20)), 7);
    let mut stops = Stops(false);
    event_loop.run(&mut stops).expect("it runs");
    assert!(stops.0);
}

#[test]
fn busy_loop_serves_peers_and_is_stopped_from_another_thread() {
    let mut event_loop = busy_loop();
    let addr = listen(&mut event_loop, ListenOptions::default());
    let handle = event_loop.handle();
    let client = std::thread::spawn(move || {
        let mut peer = Peer::connect(addr);
        for frame in [&b"one"[..], b"two"] {
            peer.send(frame);
            assert_eq!(peer.receive(), frame);
        }
        handle.stop().expect("it runs");
    });
    event_loop
        .run(&mut Recorder::echoing())
        .expect("it is stopped");
    client.join().expect("both replies");
}

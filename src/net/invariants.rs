//! What holds at the end of each turn, checked in debug builds.

use std::collections::HashMap;
use std::hash::Hash;

use super::Net;
use crate::connection::Phase;
use crate::connection_id::Source;

/// With more connections than this, not every turn is checked: a check costs as much as looking at all of them.
const CHECKED_EACH_TURN: u64 = 256;

impl Net {
    /// # Panics
    /// If one of the invariants does not hold. The message is the invariant.
    pub(crate) fn check_invariants(&self) {
        let crowd = self.connections.len() as u64 / CHECKED_EACH_TURN;
        if self.stats.turns.is_multiple_of(1 + crowd) {
            self.check_connections();
            self.check_counts();
        }
    }

    /// Each connection and listener by itself, and its place in the lists.
    fn check_connections(&self) {
        let mut left_over = count(self.work.all_left_over());
        let mut ended = count(self.work.all_ended());
        let dirty = count(self.work.all_dirty());
        let mut check_listed = |source, listed: bool, runnable: bool| {
            let lists = left_over.remove(&source).unwrap_or(0);
            let once = usize::from(listed);
            assert_eq!(lists, once, "{source:?} is left over once if it is listed");
            assert!(
                listed || !runnable,
                "{source:?} is listed if it is runnable"
            );
        };
        for (id, connection) in self.connections.iter() {
            let runnable = connection.is_runnable();
            check_listed(Source::Connection(id), connection.listed, runnable);
            let ends = ended.remove(&id).unwrap_or(0);
            let is_closed = usize::from(connection.phase == Phase::Closed);
            assert_eq!(
                ends, is_closed,
                "{id} has one end to report if it is closed"
            );
            assert!(
                !connection.dirty || dirty.contains_key(&id),
                "{id} is to be flushed if it is dirty"
            );
            let timer = connection.timer;
            assert!(
                timer.is_none_or(|timer| self.timers.deadline(timer).is_some()),
                "the timer of {id} is set"
            );
            connection.check_invariants();
        }
        for (id, listener) in self.listeners.iter() {
            let runnable = listener.is_runnable();
            check_listed(Source::Listener(id), listener.listed, runnable);
        }
        #[cfg(feature = "proxy")]
        for (id, arrival) in self.arrivals.iter() {
            let timer = arrival.timer();
            assert!(
                timer.is_none_or(|timer| self.timers.deadline(timer).is_some()),
                "the timer of {id:?} is set"
            );
        }
        // A source that was freed while it was listed stays in its list until it is looked for. An end is reported first.
        assert!(ended.is_empty(), "an end to report has a connection");
    }

    /// The numbers of open and of connecting connections are right, and the memory in use is the sum of what the
    /// connections hold, where a payload that several share counts once. Each end and each refusal has been counted
    /// under one label.
    fn check_counts(&self) {
        let (mut open, mut connecting, mut held, mut input) = (0, 0, 0, 0);
        let mut shared = HashMap::new();
        for (_, connection) in self.connections.iter() {
            open += usize::from(connection.is_open());
            connecting += u64::from(connection.phase == Phase::Connecting);
            held += connection.held_alone();
            input += connection.unshown();
            for payload in connection.shared_payloads() {
                shared.insert((payload.as_ptr(), payload.len()), payload.len() as u64);
            }
        }
        assert_eq!(self.open, open, "open connections are counted");
        held += shared.values().sum::<u64>();
        #[cfg(feature = "proxy")]
        for (_, arrival) in self.arrivals.iter() {
            held += arrival.held() as u64;
            input += arrival.held() as u64;
        }
        let used = self.common.memory.used();
        assert_eq!(used, held, "memory in use is what connections hold");
        let held = self.common.memory.input();
        assert_eq!(held, input, "queued memory is not input");
        let stats = &self.stats;
        assert_eq!(
            stats.connections.connecting, connecting,
            "connecting connections are counted"
        );
        assert_eq!(
            stats.disconnected,
            stats.disconnects.total(),
            "each end has one cause"
        );
        assert_eq!(
            stats.refused,
            stats.refusals.total(),
            "each refusal has one reason"
        );
    }
}

/// How often each item comes.
fn count<T: Hash + Eq>(items: impl Iterator<Item = T>) -> HashMap<T, usize> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::*;
    use crate::config::{Config, ConnectOptions};
    use crate::connection_id::{ConnectionId, ListenerId};
    use crate::link::Link;
    use crate::net::Listener;
    use crate::socket::Readiness;

    /// A loop with a listener and an open connection, between two turns.
    struct Scene {
        net: Net,
        listener: ListenerId,
        id: ConnectionId,
        _peer: TcpStream,
        _poll: mio::Poll,
    }

    impl Scene {
        fn new() -> Self {
            let poll = mio::Poll::new().expect("a selector");
            let registry = poll.registry().try_clone().expect("a descriptor");
            let config = Config::default().idle_timeout(Duration::from_secs(60));
            let mut net = Net::new(registry, config, Instant::now());
            let listener = net.listen("127.0.0.1:0").expect("a free port");
            let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let addr = other.local_addr().expect("its address");
            let peer = TcpStream::connect(addr).expect("it listens");
            let (stream, _) = other.accept().expect("the peer");
            let id = net.adopt(stream, ConnectOptions::default());
            let id = id.expect("a live socket");
            net.establish(id);
            Self {
                net,
                listener,
                id,
                _peer: peer,
                _poll: poll,
            }
        }

        fn connection(&mut self) -> &mut Link {
            let connection = self.net.connections.get_mut(self.id);
            connection.expect("it is not freed")
        }

        fn listener(&mut self) -> &mut Listener {
            let listener = self.net.listeners.get_mut(self.listener);
            listener.expect("it is not closed")
        }
    }

    /// Large enough to be queued by reference.
    const PAYLOAD: &[u8] = &[7; 10_000];

    /// Leaves the connection as after a flush that used up its budget: something is queued, and it is listed.
    fn queue_one_payload_twice(scene: &mut Scene) {
        let payload = Bytes::from_static(PAYLOAD);
        for _ in 0..2 {
            let sent = scene.net.send_bytes(scene.id, payload.clone());
            sent.expect("there is room");
        }
        scene.net.list(scene.id);
    }

    /// Checks the loop after `change`.
    fn check_after(change: impl FnOnce(&mut Scene)) {
        let mut scene = Scene::new();
        change(&mut scene);
        scene.net.check_invariants();
    }

    #[test]
    fn loop_passes_while_its_connection_sends_and_ends() {
        check_after(|_| {});
        check_after(queue_one_payload_twice);
        check_after(|scene| {
            queue_one_payload_twice(scene);
            scene.net.flush_dirty();
        });
        check_after(|scene| {
            scene.net.abort(scene.id);
        });
    }

    #[test]
    #[should_panic(expected = "is left over once if it is listed")]
    fn listed_connection_that_is_not_left_over_is_caught() {
        check_after(|scene| scene.connection().listed = true);
    }

    #[test]
    #[should_panic(expected = "is left over once if it is listed")]
    fn left_over_connection_that_is_not_listed_is_caught() {
        check_after(|scene| scene.net.work.add_left_over(Source::Connection(scene.id)));
    }

    #[test]
    #[should_panic(expected = "is left over once if it is listed")]
    fn connection_that_is_left_over_twice_is_caught() {
        check_after(|scene| {
            scene.net.list(scene.id);
            scene.net.work.add_left_over(Source::Connection(scene.id));
        });
    }

    #[test]
    #[should_panic(expected = "is left over once if it is listed")]
    fn listed_listener_that_is_not_left_over_is_caught() {
        check_after(|scene| scene.listener().listed = true);
    }

    #[test]
    fn connection_that_is_paused_after_an_error_was_reported_is_listed() {
        check_after(|scene| {
            scene.connection().readiness |= Readiness::ERROR;
            assert!(scene.net.pause(scene.id));
            assert!(scene.connection().listed);
        });
    }

    #[test]
    #[should_panic(expected = "is listed if it is runnable")]
    fn runnable_connection_that_is_not_listed_is_caught() {
        check_after(|scene| scene.connection().readiness |= Readiness::READABLE);
    }

    #[test]
    #[should_panic(expected = "is listed if it is runnable")]
    fn runnable_listener_that_is_not_listed_is_caught() {
        check_after(|scene| scene.listener().readable = true);
    }

    #[test]
    #[should_panic(expected = "has one end to report if it is closed")]
    fn end_that_is_not_reported_is_caught() {
        check_after(|scene| {
            scene.net.abort(scene.id);
            let _ = scene.net.work.next_ended();
            let _ = scene.net.work.take_reported().count();
        });
    }

    #[test]
    #[should_panic(expected = "has one end to report if it is closed")]
    fn end_that_is_reported_twice_is_caught() {
        check_after(|scene| {
            scene.net.abort(scene.id);
            scene.net.work.add_ended(scene.id);
        });
    }

    #[test]
    #[should_panic(expected = "has one end to report if it is closed")]
    fn end_of_an_open_connection_is_caught() {
        check_after(|scene| scene.net.work.add_ended(scene.id));
    }

    #[test]
    #[should_panic(expected = "an end to report has a connection")]
    fn slot_that_is_freed_before_its_end_is_reported_is_caught() {
        check_after(|scene| {
            scene.net.abort(scene.id);
            scene.net.connections.free(scene.id);
        });
    }

    #[test]
    #[should_panic(expected = "is to be flushed if it is dirty")]
    fn dirty_connection_that_is_not_to_be_flushed_is_caught() {
        check_after(|scene| scene.connection().dirty = true);
    }

    #[test]
    #[should_panic(expected = "the timer of 0#0 is set")]
    fn timer_that_is_not_set_is_caught() {
        check_after(|scene| {
            let timer = scene.connection().timer;
            let timer = timer.expect("a timer for the idle deadline");
            scene.net.timers.cancel(timer);
        });
    }

    #[test]
    #[should_panic(expected = "a connection has a stream until it is closed")]
    fn stream_of_a_closed_connection_is_caught() {
        check_after(|scene| {
            scene.connection().phase = Phase::Closed;
            scene.net.work.add_ended(scene.id);
        });
    }

    #[test]
    #[should_panic(expected = "open connections are counted")]
    fn open_connection_that_is_not_there_is_caught() {
        check_after(|scene| scene.net.open += 1);
    }

    #[test]
    #[should_panic(expected = "connecting connections are counted")]
    fn connecting_connection_that_is_not_there_is_caught() {
        check_after(|scene| scene.net.stats.connections.connecting += 1);
    }

    #[test]
    #[should_panic(expected = "each end has one cause")]
    fn end_without_a_cause_is_caught() {
        check_after(|scene| scene.net.stats.disconnected += 1);
    }

    #[test]
    #[should_panic(expected = "each refusal has one reason")]
    fn refusal_without_a_reason_is_caught() {
        check_after(|scene| scene.net.stats.refused += 1);
    }

    #[test]
    #[should_panic(expected = "queued memory is not input")]
    fn input_that_counts_as_queued_is_caught() {
        check_after(|scene| {
            queue_one_payload_twice(scene);
            scene.net.common.memory.add_input(1);
            scene.net.common.memory.sub(1);
        });
    }

    #[test]
    #[should_panic(expected = "memory in use is what connections hold")]
    fn byte_of_memory_that_nothing_holds_is_caught() {
        check_after(|scene| scene.net.common.memory.add(1));
    }

    #[test]
    #[should_panic(expected = "memory in use is what connections hold")]
    fn shared_payload_that_counts_twice_is_caught() {
        check_after(|scene| {
            queue_one_payload_twice(scene);
            scene.net.common.memory.add(PAYLOAD.len());
        });
    }
}

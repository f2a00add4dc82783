//! What holds of a connection between two turns, checked in debug builds.

use super::{Connection, HeldBack, Phase, Pressure};

impl Connection {
    /// # Panics
    /// If one of the invariants does not hold. The message is the invariant.
    pub(crate) fn check_invariants(&self) {
        let queue = self.queue.as_ref();
        if let Some(queue) = queue {
            assert!(!queue.is_empty(), "no connection has an empty queue");
            queue.check_invariants();
        }
        assert!(
            self.fanout.is_empty(),
            "frames in the fan-out buffer are written or queued at the end of the turn"
        );
        let can_send = self.phase != Phase::Closed && !self.has_failed_write();
        assert!(
            can_send || queue.is_none(),
            "a connection that cannot be written to has no queue"
        );
        let has_open_frame = queue.is_some_and(|queue| queue.missing().is_some());
        assert!(
            self.at_once_up_to == 0 || (self.is_open() && can_send && !has_open_frame),
            "only an open connection without an open frame queues frames at once"
        );
        if self.is_open() {
            assert!(
                self.pressure == Pressure::NONE || queue.is_some(),
                "a connection under pressure has a queue"
            );
            assert!(
                !self.held_back.has(HeldBack::CONGESTED) || self.is_congested(),
                "a connection is held back as congested only while it is congested"
            );
            assert!(
                !self.is_throttled() || (self.timer.is_some() && self.has_meter()),
                "the clock of a throttled connection will be checked"
            );
        }
        if self.phase != Phase::Closed {
            assert_eq!(
                self.new_interest(),
                None,
                "the selector was asked for what the connection waits for"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mio::Interest;

    use super::*;
    use crate::config::{Config, ConnectOptions};
    use crate::connection::{Origin, Terms, WriteHalf};
    use crate::fanout::FanoutBuffer;
    use crate::frame::Framing;
    use crate::socket::READ_INTEREST;
    use crate::tick::Tick;
    use crate::write_queue::WriteQueue;

    fn open_connection() -> Connection {
        let options = ConnectOptions::default().connection(&Config::default());
        let terms = Terms::plain(Origin::Adopted, options.expect("the defaults are valid"));
        let (terms, now) = (Arc::new(terms), Tick::default());
        Connection::new(None, Phase::Open, READ_INTEREST, terms, now)
    }

    fn queue_of_one_frame() -> Option<Box<WriteQueue>> {
        let mut queue = WriteQueue::default();
        let pushed = queue.push_copied(&Framing::default(), 100, b"frame");
        pushed.expect("it is short");
        Some(Box::new(queue))
    }

    /// Checks a connection that was open and idle before `change`.
    fn check_after(change: impl FnOnce(&mut Connection)) {
        let mut connection = open_connection();
        change(&mut connection);
        connection.check_invariants();
    }

    #[test]
    fn open_connection_passes_with_and_without_a_queue() {
        check_after(|_| {});
        check_after(|connection| connection.queue = queue_of_one_frame());
    }

    #[test]
    #[should_panic(
        expected = "frames in the fan-out buffer are written or queued at the end of the turn"
    )]
    fn frame_left_in_the_fanout_buffer_is_caught() {
        check_after(|connection| {
            let stored = FanoutBuffer::default().push(|wire| {
                wire.push(1);
                Ok(())
            });
            connection.fanout = stored.expect("there is room");
        });
    }

    #[test]
    #[should_panic(expected = "no connection has an empty queue")]
    fn empty_queue_is_caught() {
        check_after(|connection| connection.queue = Some(Box::default()));
    }

    #[test]
    #[should_panic(expected = "a connection that cannot be written to has no queue")]
    fn queue_of_a_closed_connection_is_caught() {
        check_after(|connection| {
            connection.queue = queue_of_one_frame();
            connection.phase = Phase::Closed;
        });
    }

    #[test]
    #[should_panic(expected = "a connection that cannot be written to has no queue")]
    fn queue_behind_a_failed_write_is_caught() {
        check_after(|connection| {
            connection.queue = queue_of_one_frame();
            connection.write_half = WriteHalf::Failed;
        });
    }

    #[test]
    #[should_panic(expected = "only an open connection without an open frame")]
    fn fast_path_of_a_closing_connection_is_caught() {
        check_after(|connection| connection.phase = Phase::Closing);
    }

    #[test]
    #[should_panic(expected = "only an open connection without an open frame")]
    fn fast_path_past_an_open_frame_is_caught() {
        check_after(|connection| {
            let mut queue = WriteQueue::default();
            let begun = queue.begin_frame(&Framing::default(), 100, 5);
            begun.expect("it is short");
            connection.queue = Some(Box::new(queue));
        });
    }

    #[test]
    #[should_panic(expected = "a connection under pressure has a queue")]
    fn pressure_without_a_queue_is_caught() {
        check_after(|connection| connection.pressure = Pressure::REFUSED);
    }

    #[test]
    #[should_panic(expected = "held back as congested only while it is congested")]
    fn connection_that_stays_held_back_is_caught() {
        check_after(|connection| connection.hold_back(HeldBack::CONGESTED));
    }

    #[test]
    #[should_panic(expected = "the clock of a throttled connection will be checked")]
    fn throttled_connection_that_is_never_read_again_is_caught() {
        check_after(|connection| connection.hold_back(HeldBack::THROTTLED));
    }

    #[test]
    #[should_panic(expected = "the selector was asked for what the connection waits for")]
    fn outdated_interest_is_caught() {
        check_after(|connection| connection.note_interest(Interest::WRITABLE));
    }
}

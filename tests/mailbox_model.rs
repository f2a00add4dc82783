//! The channel of the mailbox under every interleaving of its threads, within bounds: loom runs the very source of the
//! crate, on atomics, channels and threads of its own.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the model needs a part of what the crate needs"
)]
#[path = "../src/mailbox/channel.rs"]
mod channel;

mod sync {
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use loom::thread;

    /// What loom has of the channels of the standard library.
    pub(super) mod mpsc {
        pub(in super::super) use loom::sync::mpsc::{Receiver, Sender, channel};
        pub(in super::super) use std::sync::mpsc::{SendError, TryRecvError};
    }
}

use channel::{Limits, Receiver, Refusal, Sender, channel};
use loom::sync::Arc;
use loom::sync::Notify;
use loom::thread;

/// A channel, and what its reader sleeps on. loom fails if all threads sleep.
fn scene(count: u64) -> (Sender<u32>, Receiver<u32>, Arc<Notify>) {
    let bell = Arc::new(Notify::new());
    let rung = Arc::clone(&bell);
    let limits = Limits {
        count,
        bytes: 1 << 20,
    };
    let (sender, receiver) = channel(limits, Box::new(move || rung.notify()));
    (sender, receiver, bell)
}

/// Reads as a loop does: takes what there is, gives the room back, sleeps.
fn read(receiver: &mut Receiver<u32>, bell: &Notify, most: usize) -> Vec<u32> {
    let mut seen = Vec::new();
    while seen.len() < most {
        while let Some(item) = receiver.next() {
            seen.push(item);
        }
        receiver.release();
        if seen.len() < most {
            bell.wait();
        }
    }
    seen
}

fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

#[test]
fn no_wake_up_is_lost_however_two_writers_and_the_reader_interleave() {
    model(3, || {
        let (sender, mut receiver, bell) = scene(8);
        let other = sender.clone();
        let first = thread::spawn(move || {
            sender.try_send(1, 1).expect("there is room");
            sender.try_send(2, 1).expect("there is room");
        });
        let second = thread::spawn(move || other.try_send(10, 1).expect("there is room"));
        let seen = read(&mut receiver, &bell, 3);
        let of_first: Vec<u32> = seen.iter().copied().filter(|item| *item < 10).collect();
        assert_eq!(of_first, [1, 2], "out of order");
        first.join().expect("no panic");
        second.join().expect("no panic");
    });
}

#[test]
fn who_waits_for_room_is_woken() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(1);
        let other = sender.clone();
        let first = thread::spawn(move || {
            sender.send(1, 1).expect("the reader is there");
            sender.send(2, 1).expect("the reader is there");
        });
        let second = thread::spawn(move || other.send(10, 1).expect("the reader is there"));
        assert_eq!(read(&mut receiver, &bell, 3).len(), 3);
        first.join().expect("no panic");
        second.join().expect("no panic");
    });
}

#[test]
fn who_does_not_wait_hinders_nobody_who_does() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(1);
        let other = sender.clone();
        let first = thread::spawn(move || {
            sender.send(1, 1).expect("the reader is there");
            sender.send(2, 1).expect("the reader is there");
        });
        let second = thread::spawn(move || {
            if let Err((_, item)) = other.try_send(10, 1) {
                other.send(item, 1).expect("the reader is there");
            }
        });
        assert_eq!(read(&mut receiver, &bell, 3).len(), 3);
        first.join().expect("no panic");
        second.join().expect("no panic");
    });
}

#[test]
fn who_waits_for_room_is_told_that_the_reader_is_gone() {
    model(3, || {
        let (sender, mut receiver, _) = scene(1);
        let writer = thread::spawn(move || {
            let outcomes = [sender.send(1, 1), sender.send(2, 1)];
            assert!(
                matches!(outcomes[1], Err((Refusal::Closed, 2))),
                "{outcomes:?}"
            );
        });
        receiver.close();
        writer.join().expect("no panic");
        // loom wants to see nothing left over.
        while receiver.next().is_some() {}
        receiver.close();
    });
}

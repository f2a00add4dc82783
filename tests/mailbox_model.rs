//! The channel of the mailbox under every interleaving of its threads, within bounds: loom runs the very source of the
//! crate, on atomics, channels and threads of its own.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the model needs a part of what the crate needs"
)]
#[path = "../src/mailbox/channel.rs"]
mod channel;

#[allow(unreachable_pub, reason = "as above")]
#[path = "../src/mailbox/oneshot.rs"]
mod oneshot;

#[allow(unreachable_pub, reason = "as above")]
#[path = "../src/mailbox/room.rs"]
mod room;

#[allow(unreachable_pub, reason = "as above")]
#[path = "../src/mailbox/waiter.rs"]
mod waiter;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use loom::sync::{Arc, Mutex};
    pub(super) use loom::thread;

    /// A queue that promises less than loom's, which is sequentially consistent and would hide a missing order: whether it
    /// is empty is told by an atomic that is read with no order at all.
    pub(super) mod mpsc {
        pub(in super::super) use std::sync::mpsc::{SendError, TryRecvError};

        use std::collections::VecDeque;

        use loom::sync::Arc;
        use loom::sync::atomic::{AtomicUsize, Ordering};
        use std::sync::Mutex;

        type Shared<T> = Arc<(Mutex<VecDeque<T>>, AtomicUsize)>;

        pub(in super::super) struct Sender<T>(Shared<T>);
        pub(in super::super) struct Receiver<T>(Shared<T>);

        pub(in super::super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let shared = Arc::new((Mutex::new(VecDeque::new()), AtomicUsize::new(0)));
            (Sender(Arc::clone(&shared)), Receiver(shared))
        }

        impl<T> Sender<T> {
            pub(in super::super) fn send(&self, item: T) -> Result<(), SendError<T>> {
                // loom switches threads before an atomic is touched, and not between these two lines.
                self.0.1.fetch_add(1, Ordering::Release);
                self.0.0.lock().expect("no panic").push_back(item);
                Ok(())
            }
        }

        impl<T> Clone for Sender<T> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl<T> Receiver<T> {
            pub(in super::super) fn try_recv(&self) -> Result<T, TryRecvError> {
                if self.0.1.load(Ordering::Relaxed) == 0 {
                    return Err(TryRecvError::Empty);
                }
                self.0.1.fetch_sub(1, Ordering::AcqRel);
                let item = self.0.0.lock().expect("no panic").pop_front();
                item.ok_or(TryRecvError::Empty)
            }
        }
    }
}

use std::task::{Poll, Wake, Waker};

use channel::{Receiver, Refusal, Sender, channel};
use loom::sync::Arc;
use loom::sync::Notify;
use loom::thread;
use oneshot::oneshot;
use room::Limits;

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
fn two_senders_and_the_receiver_lose_no_wake_up() {
    model(2, || {
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
fn thread_blocked_by_the_count_limit_is_woken() {
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
fn blocked_thread_learns_that_the_receiver_is_closed() {
    model(2, || {
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

/// Reads in portions, and gives the room back after each, as a loop does whose budget is small.
fn read_in_portions(
    receiver: &mut Receiver<u32>,
    bell: &Notify,
    portion: usize,
    most: usize,
) -> Vec<u32> {
    let mut seen = Vec::new();
    while seen.len() < most {
        let before = seen.len();
        let mut is_empty = false;
        while seen.len() - before < portion && !is_empty {
            match receiver.next() {
                Some(item) => seen.push(item),
                None => is_empty = true,
            }
        }
        receiver.release();
        if is_empty && seen.len() < most {
            bell.wait();
        }
    }
    seen
}

#[test]
fn blocked_thread_is_woken_by_a_receiver_with_a_budget() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(2);
        let other = sender.clone();
        for item in [1, 2] {
            sender.try_send(item, 1).expect("there is room");
        }
        let first = thread::spawn(move || sender.send(3, 1).expect("the reader is there"));
        let second = thread::spawn(move || other.send(4, 1).expect("the reader is there"));
        let seen = read_in_portions(&mut receiver, &bell, 1, 4);
        assert_eq!(seen[..2], [1, 2]);
        first.join().expect("no panic");
        second.join().expect("no panic");
    });
}

#[test]
fn blocked_thread_is_woken_while_another_tries() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(1);
        let other = sender.clone();
        sender.try_send(1, 1).expect("there is room");
        let waits = thread::spawn(move || sender.send(2, 1).expect("the reader is there"));
        let tries = thread::spawn(move || usize::from(other.try_send(3, 1).is_ok()));
        let seen = read(&mut receiver, &bell, 2);
        let tried = tries.join().expect("no panic");
        // Both were taken, or that of the waiting thread was.
        let left = read(&mut receiver, &bell, 2 + tried - seen.len());
        assert_eq!(seen.len() + left.len(), 2 + tried);
        waits.join().expect("no panic");
    });
}

/// Tries until there is room.
fn try_until_taken(sender: &Sender<u32>, item: u32, bytes: u64) {
    while sender.try_send(item, bytes).is_err() {
        thread::yield_now();
    }
}

/// The reader does nothing meanwhile. A try finds room aside as soon as the other thread waits, once.
#[test]
fn try_send_has_reserved_room_while_a_thread_is_blocked() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(1);
        let (other, third) = (sender.clone(), sender.clone());
        sender.try_send(1, 1).expect("there is room");
        let waits = thread::spawn(move || sender.send(2, 1).expect("the reader is there"));
        let tries = thread::spawn(move || usize::from(third.try_send(3, 1).is_ok()));
        let tried = tries.join().expect("no panic");
        if tried == 0 {
            try_until_taken(&other, 4, 1);
        }
        assert_eq!(
            other.check_room(),
            Err(Refusal::Full { count: 2, bytes: 2 })
        );
        other.try_send(5, 1).expect_err("that was its part");
        let seen = read(&mut receiver, &bell, 3);
        assert_eq!([seen[0], seen[2]], [1, 2], "out of order: {seen:?}");
        waits.join().expect("no panic");
        assert_eq!(other.load(), (0, 0));
    });
}

/// The room aside holds two here, if they have no bytes. One comes while the reader gives the place of the other back.
#[test]
fn reserved_room_is_returned_while_others_take_it() {
    model(2, || {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let limits = Limits {
            count: 32,
            bytes: 1,
        };
        let (sender, mut receiver) = channel(limits, Box::new(move || rung.notify()));
        let (other, third) = (sender.clone(), sender.clone());
        sender.try_send(1, 1).expect("there is room");
        let waits = thread::spawn(move || sender.send(2, 1).expect("the reader is there"));
        try_until_taken(&other, 3, 0);
        let tries = thread::spawn(move || third.try_send(4, 0).is_ok());
        let seen = read(&mut receiver, &bell, 3);
        let tried = tries.join().expect("no panic");
        let left = read(&mut receiver, &bell, 3 + usize::from(tried) - seen.len());
        assert_eq!(seen.len() + left.len(), 3 + usize::from(tried));
        waits.join().expect("no panic");
        assert_eq!(other.load(), (0, 0));
    });
}

#[test]
fn all_blocked_threads_learn_that_the_receiver_is_closed() {
    model(2, || {
        let (sender, mut receiver, _) = scene(1);
        let other = sender.clone();
        sender.try_send(1, 1).expect("there is room");
        let writers = [sender, other].map(|sender| {
            thread::spawn(move || {
                let outcome = sender.send(2, 1);
                assert!(matches!(outcome, Err((Refusal::Closed, 2))), "{outcome:?}");
            })
        });
        receiver.close();
        for writer in writers {
            writer.join().expect("no panic");
        }
        while receiver.next().is_some() {}
        receiver.close();
    });
}

/// By bytes as by count: the limit that is in the way is the one that wakes.
#[test]
fn thread_blocked_by_the_byte_limit_is_woken() {
    model(2, || {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let limits = Limits { count: 8, bytes: 1 };
        let (sender, mut receiver) = channel(limits, Box::new(move || rung.notify()));
        let writer = thread::spawn(move || {
            for item in [1, 2, 3] {
                sender.send(item, 10).expect("the reader is there");
            }
        });
        assert_eq!(read(&mut receiver, &bell, 3), [1, 2, 3]);
        writer.join().expect("no panic");
    });
}

/// As `Mailbox` does it: looks only if there was a signal, takes so many, and comes back at once if some are left.
#[test]
fn commands_beyond_a_budget_are_received_in_the_next_turn() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(8);
        let writer = thread::spawn(move || {
            for item in [1, 2, 3] {
                sender.try_send(item, 1).expect("there is room");
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let mut is_empty = true;
            if receiver.is_signalled() {
                is_empty = match receiver.next() {
                    Some(item) => {
                        seen.push(item);
                        false
                    }
                    None => true,
                };
                receiver.release();
            }
            if is_empty && seen.len() < 3 {
                // Nothing is left over, or the signal would say so.
                bell.wait();
            }
        }
        assert_eq!(seen, [1, 2, 3]);
        writer.join().expect("no panic");
    });
}

/// Wakes a task that runs on a thread of its own.
struct Alarm(thread::Thread);

impl Wake for Alarm {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker for a task on this thread.
fn alarm() -> Waker {
    Waker::from(std::sync::Arc::new(Alarm(thread::current())))
}

/// Wakes nothing.
struct Deaf;

impl Wake for Deaf {
    fn wake(self: std::sync::Arc<Self>) {}
}

/// Runs a future on this thread.
fn block_on<T>(mut poll: impl FnMut(&Waker) -> Poll<T>) -> T {
    let waker = alarm();
    loop {
        match poll(&waker) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn ready(sender: &mut Sender<u32>) -> Result<(), Refusal> {
    block_on(|waker| sender.poll_ready(waker))
}

/// Others take the room while it is woken. That changes nothing.
#[test]
fn waiting_task_is_woken_and_its_item_is_accepted() {
    model(1, || {
        let (mut sender, mut receiver, bell) = scene(1);
        let other = sender.clone();
        sender.try_send(1, 1).expect("there is room");
        let waits = thread::spawn(move || {
            ready(&mut sender).expect("the reader is there");
            sender.try_send(2, 1).expect("it has a turn");
        });
        let tries = thread::spawn(move || usize::from(other.try_send(3, 1).is_ok()));
        let seen = read(&mut receiver, &bell, 2);
        let tried = tries.join().expect("no panic");
        let left = read(&mut receiver, &bell, 2 + tried - seen.len());
        assert_eq!(seen.len() + left.len(), 2 + tried);
        waits.join().expect("no panic");
    });
}

#[test]
fn task_and_blocked_thread_are_both_woken() {
    model(2, || {
        // The reader does not sleep: a bell would add more interleavings than the two have.
        let limits = Limits { count: 1, bytes: 9 };
        let (mut sender, mut receiver) = channel(limits, Box::new(|| {}));
        let other = sender.clone();
        sender.try_send(1, 1).expect("there is room");
        let task = thread::spawn(move || {
            ready(&mut sender).expect("the reader is there");
            sender.try_send(2, 1).expect("it has a turn");
        });
        let thread = thread::spawn(move || other.send(3, 1).expect("the reader is there"));
        let mut seen = 0;
        while seen < 3 {
            while receiver.next().is_some() {
                seen += 1;
            }
            receiver.release();
            thread::yield_now();
        }
        task.join().expect("no panic");
        thread.join().expect("no panic");
    });
}

#[test]
fn waiting_task_is_woken_by_a_receiver_with_a_budget() {
    model(2, || {
        let (mut sender, mut receiver, bell) = scene(2);
        for item in [1, 2] {
            sender.try_send(item, 1).expect("there is room");
        }
        let task = thread::spawn(move || {
            ready(&mut sender).expect("the reader is there");
            sender.try_send(3, 1).expect("it has a turn");
        });
        assert_eq!(read_in_portions(&mut receiver, &bell, 1, 3), [1, 2, 3]);
        task.join().expect("no panic");
    });
}

/// The task that polled last is the one to be woken.
#[test]
fn waker_that_is_replaced_is_not_lost() {
    model(2, || {
        let (mut sender, mut receiver, bell) = scene(1);
        sender.try_send(1, 1).expect("there is room");
        let task = thread::spawn(move || {
            let first = std::sync::Arc::new(Deaf);
            if sender.poll_ready(&first.into()).is_pending() {
                ready(&mut sender).expect("the reader is there");
            }
            sender.try_send(2, 1).expect("it has a turn");
        });
        assert_eq!(read(&mut receiver, &bell, 2), [1, 2]);
        task.join().expect("no panic");
    });
}

#[test]
fn waiting_task_learns_that_the_receiver_is_closed() {
    model(2, || {
        let (mut sender, mut receiver, _) = scene(1);
        sender.try_send(1, 1).expect("there is room");
        let task = thread::spawn(move || {
            assert_eq!(ready(&mut sender), Err(Refusal::Closed));
        });
        receiver.close();
        task.join().expect("no panic");
        while receiver.next().is_some() {}
        receiver.close();
    });
}

/// If it still counted as waiting, the last try would find room aside.
#[test]
fn task_that_gives_up_no_longer_counts_as_waiting() {
    model(2, || {
        let (sender, mut receiver, bell) = scene(1);
        let mut other = sender.clone();
        sender.try_send(1, 1).expect("there is room");
        let task = thread::spawn(move || {
            let _ = other.poll_ready(&alarm());
        });
        assert_eq!(read(&mut receiver, &bell, 1), [1]);
        task.join().expect("no panic");
        sender.send(2, 1).expect("the reader is there");
        sender.try_send(3, 1).expect_err("there is no room aside");
        assert_eq!(read(&mut receiver, &bell, 1), [2]);
    });
}

#[test]
fn answer_wakes_the_task_that_waits_for_it() {
    model(3, || {
        let (teller, receiver) = oneshot();
        let loop_thread = thread::spawn(move || teller.tell(7));
        assert_eq!(block_on(|waker| receiver.poll(waker)), Some(7));
        loop_thread.join().expect("no panic");
    });
}

#[test]
fn dropped_answer_wakes_the_task_that_waits_for_it() {
    model(3, || {
        let (teller, receiver) = oneshot::<u32>();
        let loop_thread = thread::spawn(move || drop(teller));
        assert_eq!(block_on(|waker| receiver.poll(waker)), None);
        loop_thread.join().expect("no panic");
    });
}

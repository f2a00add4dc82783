//! The room of a mailbox: it is bounded, and commands wait for room, or are given back.

mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use support::{
    PATIENCE, Peer, Recorder, addr_of, join, listening_with, some_id, turn_until, wait_until,
    within_patience,
};
use throng::{Config, ConnectionId, EventLoop, Frame, Handle, Handler, MailboxError, Net};

#[test]
fn mailbox_is_bounded_by_count_and_bytes() {
    let config = Config::default()
        .max_pending_commands(3)
        .max_pending_bytes(100);
    let (mut event_loop, addr) = listening_with(config);
    let mut seen = Recorder::default();
    let (mut peer, id) = join(&mut event_loop, addr, &mut seen);
    let handle = event_loop.handle();
    // By count.
    for _ in 0..3 {
        handle.try_send(id, b"x").expect("there is room");
    }
    let full = MailboxError::Full {
        commands: 3,
        bytes: 3,
    };
    assert_eq!(handle.try_send(id, b"y"), Err(full.clone()));
    let rejected = handle
        .try_send_bytes(id, "payload")
        .expect_err("it is full");
    assert_eq!(
        (rejected.error, &rejected.value[..]),
        (full.clone(), &b"payload"[..])
    );
    let rejected = handle.try_send_many([id], "many").expect_err("it is full");
    assert_eq!(&rejected.value[..], b"many");
    let rejected = handle
        .try_broadcast(|_| true, "all")
        .expect_err("it is full");
    assert_eq!(&rejected.value[..], b"all");
    let rejected = handle
        .try_post(|_, net| net.stop())
        .expect_err("it is full");
    assert_eq!(rejected.error, full);
    // What was given back can be given again.
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().frames_sent == 3
    });
    assert!(!event_loop.net().is_stopping());
    handle
        .try_post_again(rejected.value)
        .expect("there is room");
    turn_until(&mut event_loop, &mut seen, |_, net| net.is_stopping());
    // By bytes: as long as there is less, one more of any size.
    handle.try_send(id, &[1; 99]).expect("there is room");
    handle.try_send(id, &[2; 5000]).expect("there is room");
    let full = MailboxError::Full {
        commands: 2,
        bytes: 5099,
    };
    assert_eq!(handle.try_send(id, b""), Err(full));
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().frames_sent == 5
    });
    for _ in 0..3 {
        assert_eq!(peer.receive(), b"x");
    }
    assert_eq!(peer.receive(), [1; 99]);
    assert_eq!(peer.receive(), [2; 5000]);
}

/// In a callback as well, where nothing waits for room.
#[test]
fn stop_and_shutdown_always_have_room() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(2));
    let handle = event_loop.handle();
    let ending = event_loop.handle();
    let in_order = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&in_order);
    handle
        .post(move |_, _| {
            while ending.try_post(|_, _| {}).is_ok() {}
            ending.shutdown(PATIENCE).expect("there is room for it");
        })
        .expect("there is room");
    handle
        .post(move |_, net| {
            assert!(!net.is_stopping() && !net.is_shutting_down());
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .expect("there is room");
    for _ in 0..3 {
        handle.stop().expect("there is room for it");
    }
    assert!(handle.try_post(|_, _| {}).is_err());
    let mut seen = Recorder::default();
    event_loop.run(&mut seen).expect("a clean end");
    assert_eq!(in_order.load(Ordering::Relaxed), 1, "the end comes last");
    assert_eq!(event_loop.net().stats().commands, 6);
}

#[test]
fn blocked_thread_continues_when_there_is_room() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(2));
    let handle = event_loop.handle();
    let other = thread::spawn(move || {
        for _ in 0..1000 {
            handle.post(|_, _| {}).expect("the loop is there");
        }
    });
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().commands == 1000
    });
    other.join().expect("no panic");
}

/// Threads that do not wait would take each place as soon as it is free.
#[test]
fn blocked_thread_is_not_starved_by_try_post() {
    let config = Config::default()
        .max_pending_commands(8)
        .commands_per_turn(1);
    let (mut event_loop, _) = listening_with(config);
    let handle = event_loop.handle();
    let waiting = {
        let handle = handle.clone();
        thread::spawn(move || {
            for _ in 0..100 {
                handle.post(|_, _| {}).expect("the loop is there");
            }
        })
    };
    let mut seen = Recorder::default();
    let deadline = Instant::now() + PATIENCE;
    while !waiting.is_finished() {
        assert!(Instant::now() < deadline, "the waiting thread is not woken");
        while handle.try_post(|_, _| {}).is_ok() {}
        event_loop
            .turn(&mut seen, Some(Duration::ZERO))
            .expect("a turn");
    }
    waiting.join().expect("no panic");
}

/// In each round the loop runs all there is, and two threads fill its mailbox again and wait for more room.
#[test]
fn try_post_succeeds_while_two_threads_are_blocked() {
    const ROUNDS: usize = 100;
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(8));
    let handle = event_loop.handle();
    let writers = [handle.clone(), handle.clone()]
        .map(|handle| thread::spawn(move || while handle.post(|_, _| {}).is_ok() {}));
    let ran = std::sync::Arc::new(AtomicUsize::new(0));
    let mut seen = Recorder::default();
    for round in 0..ROUNDS {
        // Until they wait the mailbox is not full, or just full.
        wait_until(|| {
            let ran = std::sync::Arc::clone(&ran);
            let posted = handle.try_post(move |_, _| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            posted.is_ok()
        });
        turn_until(&mut event_loop, &mut seen, |_, _| {
            ran.load(Ordering::Relaxed) == round + 1
        });
    }
    drop(event_loop);
    for thread in writers {
        thread.join().expect("no panic");
    }
}

/// The limits hold all the same: tries that succeed while others wait are a few more commands, and a few more bytes.
#[test]
fn try_post_is_bounded_while_threads_are_blocked() {
    for (config, size) in [
        (Config::default().max_pending_commands(64), 0),
        (Config::default().max_pending_bytes(64_000), 1000),
    ] {
        let (event_loop, _) = listening_with(config);
        let handle = event_loop.handle();
        let id = some_id();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| while handle.send(id, &vec![0; size]).is_ok() {});
            wait_until(|| format!("{handle:?}").contains("commands: 64"));
            // It fills the mailbox, and waits at some time after that. 64 and a sixteenth of it.
            let full = MailboxError::Full {
                commands: 68,
                bytes: 68 * size as u64,
            };
            wait_until(|| handle.try_send(id, &vec![0; size]) == Err(full.clone()));
            drop(event_loop);
            waiting.join().expect("no panic");
        });
    }
}

#[test]
fn blocked_thread_gets_closed_if_the_loop_is_dropped() {
    let (event_loop, _) = listening_with(Config::default().max_pending_commands(1));
    let handle = event_loop.handle();
    handle
        .post(|_, _| panic!("it runs"))
        .expect("there is room");
    let began = AtomicUsize::new(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            began.fetch_add(1, Ordering::Relaxed);
            handle.send_bytes(some_id(), "payload")
        });
        let asking = scope.spawn(|| {
            began.fetch_add(1, Ordering::Relaxed);
            handle.call(|_, _| ())
        });
        wait_until(|| began.load(Ordering::Relaxed) == 2);
        drop(event_loop);
        let rejected = waiting.join().expect("no panic").expect_err("it is gone");
        assert_eq!(rejected.error, MailboxError::Closed);
        assert_eq!(&rejected.value[..], b"payload");
        assert_eq!(asking.join().expect("no panic"), Err(MailboxError::Closed));
    });
    assert!(handle.is_closed());
    assert_eq!(handle.stop(), Err(MailboxError::Closed));
    assert_eq!(handle.try_send(some_id(), b""), Err(MailboxError::Closed));
}

/// A call that was accepted, and then the loop goes without having run it.
#[test]
fn call_returns_closed_if_the_loop_is_dropped() {
    let (event_loop, _) = listening_with(Config::default());
    let handle = event_loop.handle();
    let asking = handle.clone();
    let other = thread::spawn(move || asking.call(|_, _| ()));
    // Debug tells how many wait.
    wait_until(|| format!("{handle:?}").contains("commands: 1"));
    drop(event_loop);
    assert_eq!(other.join().expect("no panic"), Err(MailboxError::Closed));
}

#[test]
fn blocking_command_in_a_posted_closure_is_an_error() {
    let config = Config::default().max_pending_commands(1);
    let (mut event_loop, _) = listening_with(config);
    let handle = event_loop.handle();
    let inner = handle.clone();
    let (tell, told) = mpsc::channel();
    handle
        .post(move |_, _| {
            // This very command counts until the end of the turn's commands.
            tell.send(inner.post(|_, _| {})).expect("the test waits");
            let asked = inner.call(|_, _| ());
            assert_eq!(asked, Err(MailboxError::InCallback));
        })
        .expect("there is room");
    event_loop
        .turn(&mut Recorder::default(), None)
        .expect("a turn");
    let error = told.recv().expect("it was run").expect_err("it is full");
    assert!(matches!(error, MailboxError::Full { commands: 1, .. }));
}

/// Each time it would be boxed once more, were it posted as a new one.
#[test]
fn rejected_closure_can_be_posted_again() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(1));
    let handle = event_loop.handle();
    handle.try_post(|_, _| {}).expect("there is room");
    let mut rejected = handle
        .try_post(|_, net| net.stop())
        .expect_err("it is full");
    for _ in 0..300_000 {
        rejected = handle
            .try_post_again(rejected.value)
            .expect_err("it is full");
    }
    let mut seen = Recorder::default();
    event_loop.turn(&mut seen, None).expect("a turn");
    handle
        .try_post_again(rejected.value)
        .expect("there is room");
    event_loop.run(&mut seen).expect("it runs");
    // Or the owner of the loop runs it.
    handle.try_post(|_, _| {}).expect("there is room");
    let rejected = handle
        .try_post(|_, net| net.stop())
        .expect_err("it is full");
    rejected.value.run(&mut seen, event_loop.net());
    assert!(event_loop.take_stop());
}

/// A reader that asks the loop for something when it is dropped.
struct AsksAtTheEnd(Handle<dyn Handler>);

impl std::io::Read for AsksAtTheEnd {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for AsksAtTheEnd {
    fn drop(&mut self) {
        assert_eq!(self.0.call(|_, _| ()), Err(MailboxError::Closed));
    }
}

#[test]
fn drop_of_a_reader_finds_the_loop_closed() {
    within_patience(|| {
        let (mut event_loop, addr) = listening_with(Config::default());
        let mut seen = Recorder::default();
        let (_peer, id) = join(&mut event_loop, addr, &mut seen);
        let reader = AsksAtTheEnd(event_loop.handle());
        let sent = event_loop.net().send_reader(id, 10, reader);
        assert!(sent.is_ok());
        drop(event_loop);
    });
}

#[test]
fn panic_in_the_drop_of_a_command_leaves_no_thread_blocked() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("as agreed");
        }
    }
    let (event_loop, _) = listening_with(Config::default());
    let handle = event_loop.handle();
    let bomb = Bomb;
    handle
        .post(move |_, _| std::mem::forget(bomb))
        .expect("there is room");
    let asking = handle.clone();
    let asking = thread::spawn(move || asking.call(|_, _| ()));
    wait_until(|| format!("{handle:?}").contains("commands: 2"));
    let dropping = std::panic::AssertUnwindSafe(|| drop(event_loop));
    std::panic::catch_unwind(dropping).expect_err("it panics");
    let answer = within_patience(|| asking.join().expect("no panic"));
    assert_eq!(answer, Err(MailboxError::Closed));
}

#[test]
fn commands_count_the_bytes_that_they_hold() {
    let counted = |put: &dyn Fn(&Handle<dyn Handler>)| {
        let (event_loop, _) = listening_with(Config::default().max_pending_bytes(1));
        let handle = event_loop.handle();
        put(&handle);
        match handle.try_send(some_id(), b"") {
            Err(MailboxError::Full { bytes, .. }) => bytes,
            other => panic!("{other:?}"),
        }
    };
    let many = |handle: &Handle<dyn Handler>| handle.send_many([some_id(); 3], "12345");
    assert_eq!(counted(&|handle| many(handle).expect("room")), 3 * 8 + 5);
    let all = |handle: &Handle<dyn Handler>| handle.broadcast(|_| true, "123");
    assert_eq!(counted(&|handle| all(handle).expect("room")), 3);
    let large = [0_u8; 1000];
    let post = |handle: &Handle<dyn Handler>| handle.post(move |_, _| _ = black_box(large));
    assert_eq!(counted(&|handle| post(handle).expect("room")), 1000);
    let try_post = |handle: &Handle<dyn Handler>| handle.try_post(move |_, _| _ = black_box(large));
    assert_eq!(counted(&|handle| try_post(handle).expect("room")), 1000);
}

#[test]
fn limits_of_zero_mean_one_and_limits_of_max_are_accepted() {
    let nothing = Config::default()
        .max_pending_commands(0)
        .max_pending_bytes(0);
    let (event_loop, _) = listening_with(nothing);
    let handle = event_loop.handle();
    handle.try_post(|_, _| {}).expect("one is taken");
    handle.try_post(|_, _| {}).expect_err("the mailbox is full");
    let endless = Config::default()
        .max_pending_commands(u64::MAX)
        .max_pending_bytes(u64::MAX);
    let (event_loop, _) = listening_with(endless);
    let handle = event_loop.handle();
    handle.try_send(some_id(), b"x").expect("there is room");
}

/// Asks the loop from a callback of its own.
struct Asks(Handle<Asks>, Option<MailboxError>);

impl Handler for Asks {
    fn on_connect(&mut self, net: &mut Net, _: ConnectionId) {
        self.1 = self.0.call(|_, _| ()).err();
        net.stop();
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn blocking_command_in_a_callback_is_an_error() {
    let asked = within_patience(|| {
        let mut event_loop = EventLoop::<Asks>::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        let listener = net.listen("127.0.0.1:0").expect("a port");
        let _peer = Peer::connect(addr_of(net, listener));
        let mut asks = Asks(event_loop.handle(), None);
        event_loop.run(&mut asks).expect("it runs");
        asks.1
    });
    assert_eq!(asked, Some(MailboxError::InCallback));
}

#[test]
fn callback_scope_survives_a_nested_loop_and_ends_with_its_own() {
    let (inside, after) = within_patience(|| {
        let (mut outer, _) = listening_with(Config::default());
        let handle = outer.handle();
        let asking = handle.clone();
        let (tell, told) = mpsc::channel();
        handle
            .post(move |_, net| {
                let (mut inner, _) = listening_with(Config::default());
                inner.net().stop();
                inner.run(&mut Recorder::default()).expect("it runs");
                tell.send(asking.call(|_, _| ())).expect("the test waits");
                net.stop();
            })
            .expect("there is room");
        outer.run(&mut Recorder::default()).expect("it runs");
        drop(outer);
        (told.recv().expect("it was run"), handle.call(|_, _| ()))
    });
    assert_eq!(inside, Err(MailboxError::InCallback));
    assert_eq!(after, Err(MailboxError::Closed));
}

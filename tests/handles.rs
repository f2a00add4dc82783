//! Handles: commands from other threads arrive in order, and are checked when they are run.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use support::{Event, Peer, Recorder, join, listening_with, some_id, turn_until};
use throng::{
    Backlog, Config, ConnectOptions, ConnectionId, DisconnectCause, EventLoop, Frame, Handle,
    Handler, Mailbox, MailboxError, Net, Origin, Reactor,
};

#[test]
fn every_command_acts_like_its_method_of_net() {
    let (mut event_loop, addr) = listening_with(Config::default());
    let mut seen = Recorder::default();
    let mut joined: Vec<(Peer, ConnectionId)> = (0..5)
        .map(|_| join(&mut event_loop, addr, &mut seen))
        .collect();
    let ids: Vec<ConnectionId> = joined.iter().map(|(_, id)| *id).collect();
    let handle = event_loop.handle();
    let (done, is_done) = mpsc::channel();
    let other = thread::spawn(move || {
        handle.send(ids[0], b"send")?;
        handle.try_send(ids[0], b"try_send")?;
        handle.send_bytes(ids[0], vec![1; 9000])?;
        handle.send_many([ids[1], ids[2]], "many")?;
        let last = ids[3];
        handle.broadcast(move |id| id != last, "all but one")?;
        handle.disconnect(ids[1])?;
        handle.disconnect_with(ids[4], "a last one", Backlog::Flush)?;
        handle.abort(ids[2])?;
        handle.connect(addr, ConnectOptions::default(), move |_, net, result| {
            let id = result.expect("it starts");
            assert_eq!(
                net.connection(id).map(|it| it.origin()),
                Some(Origin::Outbound)
            );
            done.send(id).expect("the test waits");
        })?;
        handle.post(move |_, net| net.send(last, b"posted").expect("it is open"))?;
        Ok::<(), MailboxError>(())
    });
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.ends().iter().any(|(id, _)| *id == joined[2].1) && seen.connected().len() == 7
    });
    other.join().expect("no panic").expect("the loop is there");
    let outbound = is_done.try_recv().expect("it was called");
    assert!(seen.connected().contains(&outbound));
    assert_eq!(joined[4].0.receive(), b"all but one");
    assert_eq!(joined[4].0.receive(), b"a last one");
    joined[4].0.expect_end();
    assert_eq!(joined[0].0.receive(), b"send");
    assert_eq!(joined[0].0.receive(), b"try_send");
    assert_eq!(joined[0].0.receive(), vec![1; 9000]);
    assert_eq!(joined[0].0.receive(), b"all but one");
    assert_eq!(joined[1].0.receive(), b"many");
    assert_eq!(joined[1].0.receive(), b"all but one");
    joined[1].0.expect_end();
    joined[2].0.expect_reset();
    assert_eq!(joined[3].0.receive(), b"posted");
    let stats = event_loop.net().stats();
    assert_eq!((stats.commands, stats.commands_failed), (10, 0));
}

#[test]
fn stop_shutdown_and_call_work_from_another_thread() {
    let (mut event_loop, _) = listening_with(Config::default());
    let handle = event_loop.handle();
    let mut seen = Recorder::default();
    handle.stop().expect("the loop is there");
    event_loop.run(&mut seen).expect("it runs");
    let other = thread::spawn(move || {
        let answer = handle.call(|_, net| net.connection_count());
        handle
            .shutdown(Duration::from_secs(5))
            .expect("it is there");
        answer
    });
    event_loop.run(&mut seen).expect("it runs");
    assert_eq!(other.join().expect("no panic"), Ok(0));
}

#[test]
fn command_for_a_closed_connection_does_not_reach_its_slot() {
    let (mut event_loop, addr) = listening_with(Config::default());
    let mut seen = Recorder::default();
    let (first, old) = join(&mut event_loop, addr, &mut seen);
    first.reset();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let (mut second, new) = join(&mut event_loop, addr, &mut seen);
    assert_eq!(old.index(), new.index());
    let handle = event_loop.handle();
    handle.send(old, b"for the first").expect("it is taken");
    handle.disconnect(old).expect("it is taken");
    handle.abort(old).expect("it is taken");
    handle.send(new, b"for the second").expect("it is taken");
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().frames_sent == 1
    });
    assert_eq!(second.receive(), b"for the second");
    assert_eq!(event_loop.net().stats().commands_failed, 3);
}

/// Eight threads send to all of twenty connections; each frame contains its sender's number and its own.
#[test]
fn frames_of_many_threads_arrive_in_the_order_of_each_thread() {
    const THREADS: usize = 8;
    const PEERS: usize = 20;
    const FRAMES: u32 = 300;
    let (mut event_loop, addr) = listening_with(Config::default().max_pending_commands(500));
    let mut seen = Recorder::default();
    let joined: Vec<(Peer, ConnectionId)> = (0..PEERS)
        .map(|_| join(&mut event_loop, addr, &mut seen))
        .collect();
    let ids: Vec<ConnectionId> = joined.iter().map(|(_, id)| *id).collect();
    let senders = (0..THREADS).map(|thread| {
        let (handle, ids) = (event_loop.handle(), ids.clone());
        thread::spawn(move || {
            for frame in 0..FRAMES {
                let mut payload = (thread as u32).to_le_bytes().to_vec();
                payload.extend(frame.to_le_bytes());
                for id in &ids {
                    handle.send(*id, &payload).expect("the loop is there");
                }
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let readers = joined.into_iter().map(|(mut peer, _)| {
        thread::spawn(move || {
            let mut next = [0; THREADS];
            for _ in 0..THREADS as u32 * FRAMES {
                let frame = peer.receive();
                let number = |at: usize| {
                    let bytes = frame[at..at + 4].try_into().expect("four bytes");
                    u32::from_le_bytes(bytes)
                };
                let thread = number(0) as usize;
                assert_eq!(number(4), next[thread], "out of order");
                next[thread] += 1;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let all = (THREADS * PEERS) as u64 * u64::from(FRAMES);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().frames_sent == all
    });
    for thread in senders.into_iter().chain(readers) {
        thread.join().expect("no panic");
    }
    assert_eq!(event_loop.net().stats().commands_failed, 0);
}

#[test]
fn burst_of_commands_makes_one_wake_up() {
    let (mut event_loop, _) = listening_with(Config::default());
    let handle = event_loop.handle();
    for _ in 0..1000 {
        handle.post(|_, _| {}).expect("the loop is there");
    }
    let mut seen = Recorder::default();
    event_loop.turn(&mut seen, None).expect("a turn");
    let stats = event_loop.net().stats();
    assert_eq!((stats.commands, stats.wake_ups), (1000, 1));
    // Commands that have run cause no further wake-up.
    let before = event_loop.net().stats().turns;
    event_loop
        .turn(&mut seen, Some(Duration::ZERO))
        .expect("a turn");
    handle.post(|_, net| net.stop()).expect("the loop is there");
    event_loop.run(&mut seen).expect("it runs");
    let stats = event_loop.net().stats();
    assert_eq!((stats.wake_ups, stats.turns - before), (2, 2));
}

#[test]
fn commands_above_commands_per_turn_run_in_the_next_turn() {
    let (mut event_loop, _) = listening_with(Config::default().commands_per_turn(10));
    let handle = event_loop.handle();
    for _ in 0..25 {
        handle.post(|_, _| {}).expect("the loop is there");
    }
    let mut seen = Recorder::default();
    for commands in [10, 20] {
        event_loop.turn(&mut seen, None).expect("a turn");
        assert_eq!(event_loop.net().stats().commands, commands);
        assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    }
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(event_loop.net().stats().commands, 25);
    assert_eq!(event_loop.net().stats().wake_ups, 1);
    assert_eq!(event_loop.next_timeout(), None);
}

/// Commands that are left cannot run any more.
#[test]
fn dropped_mailbox_leaves_no_pending_work() {
    let mut poll = mio::Poll::new().expect("a selector");
    let mut events = mio::Events::with_capacity(8);
    let config = Config::default().commands_per_turn(1);
    let mut mailbox: Mailbox<dyn Handler> = Mailbox::new(&config, || {});
    let now = Instant::now();
    let mut reactor = Reactor::attach(poll.registry(), config, now).expect("a loop");
    for _ in 0..2 {
        mailbox.handle().post(|_, _| {}).expect("there is room");
    }
    let mut seen = Recorder::default();
    reactor.begin_turn(now);
    mailbox.deliver(&mut seen, &mut reactor);
    reactor.finish_turn(&mut seen);
    assert_eq!(reactor.next_timeout(now), Some(Duration::ZERO));
    drop(mailbox);
    poll.poll(&mut events, reactor.next_timeout(now))
        .expect("a poll");
    reactor.begin_turn(now);
    reactor.finish_turn(&mut seen);
    assert_eq!(reactor.next_timeout(now), None);
}

#[test]
fn panic_in_a_closure_loses_no_other_command() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(3));
    let handle = event_loop.handle();
    handle
        .post(|_, _| panic!("as agreed"))
        .expect("there is room");
    handle.post(|_, net| net.stop()).expect("there is room");
    let mut seen = Recorder::default();
    let turn = std::panic::AssertUnwindSafe(|| event_loop.turn(&mut seen, None));
    std::panic::catch_unwind(turn).expect_err("it panics");
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop.turn(&mut seen, None).expect("a turn");
    assert!(event_loop.net().is_stopping());
    // Its room is free again, and so is this thread to wait.
    for _ in 0..3 {
        handle.try_post(|_, _| {}).expect("there is room");
    }
    assert_eq!(event_loop.net().stats().commands, 2);
}

/// A handler that owns nothing of what it works with.
struct Borrowing<'a> {
    seen: &'a AtomicUsize,
}

impl Handler for Borrowing<'_> {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

impl Borrowing<'_> {
    fn note(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn posted_closure_reaches_a_handler_that_borrows() {
    let seen = AtomicUsize::new(0);
    let mut handler = Borrowing { seen: &seen };
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let handle = event_loop.handle();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..10 {
                handle
                    .post(|game: &mut Borrowing<'_>, _| game.note())
                    .expect("the loop is there");
            }
            handle.stop().expect("the loop is there");
        });
        event_loop.run(&mut handler).expect("it runs");
    });
    assert_eq!(seen.load(Ordering::Relaxed), 10);
}

#[test]
fn posted_closure_reaches_a_handler_trait_object() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let handle: Handle<dyn Handler> = event_loop.handle();
    let id = some_id();
    handle
        .post(move |handler, net| {
            handler.on_connect(net, id);
            net.stop();
        })
        .expect("the loop is there");
    let mut seen = Recorder::default();
    event_loop.run(&mut seen).expect("it runs");
    assert!(matches!(seen.events[..], [Event::Connect(_)]));
}

#[test]
fn command_for_a_full_queue_counts_as_failed() {
    let config = Config::default().max_queued_bytes(10).high_watermark(9);
    let (mut event_loop, addr) = listening_with(config);
    let mut seen = Recorder::default();
    let (_peer, id) = join(&mut event_loop, addr, &mut seen);
    let handle = event_loop.handle();
    // Both in one turn, so that the first is not written yet.
    handle.send(id, &[0; 20]).expect("the loop is there");
    handle.send(id, b"one too many").expect("the loop is there");
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().commands == 2
    });
    assert_eq!(event_loop.net().stats().commands_failed, 1);
}

#[test]
fn connect_command_reports_an_attempt_that_cannot_start() {
    let (mut event_loop, addr) = listening_with(Config::default().max_connections(0));
    let handle = event_loop.handle();
    let (tell, told) = mpsc::channel();
    handle
        .connect(addr, ConnectOptions::default(), move |_, _, result| {
            tell.send(result.is_err()).expect("the test waits");
        })
        .expect("the loop is there");
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |_, _| {
        told.try_recv() == Ok(true)
    });
    assert_eq!(event_loop.net().stats().commands_failed, 1);
}

#[test]
fn disconnect_command_sends_the_last_message() {
    let (mut event_loop, addr) = listening_with(Config::default());
    let mut seen = Recorder::default();
    let (mut peer, id) = join(&mut event_loop, addr, &mut seen);
    let handle = event_loop.handle();
    handle.send(id, b"you are out").expect("the loop is there");
    handle.disconnect(id).expect("the loop is there");
    let reader = thread::spawn(move || {
        assert_eq!(peer.receive(), b"you are out");
        peer.expect_end();
    });
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    assert!(matches!(
        seen.ends()[0].1.cause,
        DisconnectCause::ClosedLocally
    ));
    reader.join().expect("no panic");
}

#[test]
fn wake_up_after_a_panic_of_the_waker_is_repeated() {
    let woken = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&woken);
    let mailbox: Mailbox<dyn Handler> = Mailbox::new(&Config::default(), move || {
        assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "not this time");
    });
    let handle = mailbox.handle();
    let first = thread::spawn({
        let handle = handle.clone();
        move || handle.stop()
    });
    first.join().expect_err("the waker panics");
    handle.stop().expect("there is room");
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}

/// Of one the other knows nothing.
#[test]
fn two_mailboxes_of_one_net_report_their_pending_commands() {
    let poll = mio::Poll::new().expect("a selector");
    let config = Config::default().commands_per_turn(1);
    let now = Instant::now();
    let mut reactor = Reactor::attach(poll.registry(), config.clone(), now).expect("a loop");
    let mut first: Mailbox<dyn Handler> = Mailbox::new(&config, || {});
    let mut second: Mailbox<u32> = Mailbox::new(&config, || {});
    for _ in 0..2 {
        first.handle().post(|_, _| {}).expect("there is room");
    }
    second.handle().post(|_, _| {}).expect("there is room");
    let mut seen = Recorder::default();
    reactor.begin_turn(now);
    first.deliver(&mut seen, &mut reactor);
    // It finds that it is empty with the second look.
    second.deliver(&mut 1, &mut reactor);
    second.deliver(&mut 1, &mut reactor);
    reactor.finish_turn(&mut seen);
    assert_eq!(reactor.net().stats().commands, 2);
    assert_eq!(reactor.next_timeout(now), Some(Duration::ZERO));
}

#[test]
fn command_posted_by_the_same_thread_makes_a_turn_due() {
    let (event_loop, _) = listening_with(Config::default());
    event_loop.handle().post(|_, _| {}).expect("there is room");
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
}

#[test]
fn send_many_that_misses_a_connection_counts_as_failed() {
    let config = Config::default()
        .max_queued_bytes(10)
        .high_watermark(9)
        .low_watermark(1)
        .max_frame_len(100);
    let (mut event_loop, addr) = listening_with(config);
    let mut seen = Recorder::default();
    let (_peer, id) = join(&mut event_loop, addr, &mut seen);
    // Its slot is free.
    let (gone, stranger) = join(&mut event_loop, addr, &mut seen);
    drop(gone);
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let handle = event_loop.handle();
    let mut failed = |put: &dyn Fn()| {
        let before = event_loop.net().stats();
        put();
        event_loop.turn(&mut seen, None).expect("a turn");
        event_loop.net().stats().commands_failed - before.commands_failed
    };
    let to_closed = || handle.send_many([id, stranger], "x").expect("room");
    assert_eq!(failed(&to_closed), 1);
    let too_long = || handle.broadcast(|_| true, vec![0; 101]).expect("room");
    assert_eq!(failed(&too_long), 1);
    let too_much = || {
        handle.broadcast(|_| true, vec![0; 50]).expect("room");
        handle.broadcast(|_| true, "x").expect("room");
    };
    assert_eq!(failed(&too_much), 1);
}

#[test]
fn long_closure_counts_as_a_slow_callback() {
    let (mut event_loop, _) = listening_with(Config::default().slow_callback(Duration::ZERO));
    let handle = event_loop.handle();
    handle.post(|_, net| net.stop()).expect("there is room");
    event_loop.run(&mut Recorder::default()).expect("it runs");
    assert_eq!(event_loop.net().stats().slow_callbacks, 1);
}

/// The mailbox comes before the replies, and one write has both.
#[cfg(unix)]
#[test]
fn frames_sent_by_commands_and_callbacks_share_one_write() {
    let (mut event_loop, addr) = listening_with(Config::default());
    let mut seen = Recorder::echoing();
    let (mut peer, id) = join(&mut event_loop, addr, &mut seen);
    event_loop
        .turn(&mut seen, Some(Duration::ZERO))
        .expect("a turn");
    // It has arrived when the loop's descriptor is readable.
    let fd = std::os::fd::AsRawFd::as_raw_fd(&event_loop);
    let mut poll = mio::Poll::new().expect("a selector");
    let mut events = mio::Events::with_capacity(1);
    let mut source = mio::unix::SourceFd(&fd);
    poll.registry()
        .register(&mut source, mio::Token(0), mio::Interest::READABLE)
        .expect("a descriptor");
    peer.send(b"reply");
    poll.poll(&mut events, Some(support::PATIENCE))
        .expect("a poll");
    assert!(!events.is_empty());
    event_loop.handle().send(id, b"command").expect("room");
    let before = event_loop.net().stats().writes;
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(event_loop.net().stats().writes - before, 1);
    assert_eq!(peer.receive(), b"command");
    assert_eq!(peer.receive(), b"reply");
}

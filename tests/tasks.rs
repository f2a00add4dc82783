//! Tasks of async runtimes: they wait for room in a mailbox and for answers without blocking a thread.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use support::{Recorder, addr_of, join, listening_with, some_id, turn_until, within_patience};
use throng::{
    Answer, Backlog, Config, ConnectOptions, ConnectionId, DisconnectCause, EventLoop, Frame,
    Handle, Handler, MailboxError, Net,
};

/// Wakes the thread that runs a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_full(result: Result<(), MailboxError>) -> bool {
    matches!(result, Err(MailboxError::Full { .. }))
}

#[test]
fn every_command_has_a_form_that_never_blocks() {
    let (mut event_loop, addr) = listening_with(Config::default().max_pending_commands(1));
    let mut seen = Recorder::default();
    let joined: Vec<_> = (0..3)
        .map(|_| join(&mut event_loop, addr, &mut seen))
        .collect();
    let [first, second, third] = [0, 1, 2].map(|n| joined[n].1);
    let handle = event_loop.handle();
    let options = ConnectOptions::default;
    // In a full mailbox.
    handle.try_post(|_, _| {}).expect("there is room");
    assert!(is_full(handle.try_disconnect(first)));
    assert!(is_full(handle.try_abort(second)));
    let rejected = handle
        .try_disconnect_with(third, "bye", Backlog::Flush)
        .expect_err("it is full");
    assert_eq!(&rejected.value[..], b"bye");
    let connecting = handle.try_connect(addr, options(), |_, _, _| panic!("it was refused"));
    assert!(is_full(connecting));
    // Where there is room.
    let mut run = |put: &mut dyn FnMut() -> Result<(), MailboxError>| {
        turn_until(&mut event_loop, &mut seen, |_, _| put().is_ok());
        event_loop.turn(&mut seen, None).expect("a turn");
    };
    run(&mut || handle.try_disconnect(first));
    run(&mut || handle.try_abort(second));
    run(&mut || Ok(handle.try_disconnect_with(third, "bye", Backlog::Flush)?));
    let (tell, told) = mpsc::channel();
    run(&mut || {
        let tell = tell.clone();
        handle.try_connect(addr, options(), move |_, _, result| {
            tell.send(result.expect("it starts"))
                .expect("the test waits");
        })
    });
    let outbound = told.try_recv().expect("it was called");
    drop(joined);
    turn_until(&mut event_loop, &mut seen, |seen, net| {
        seen.ends().len() == 3 && net.is_connected(outbound)
    });
    for (id, reason) in seen.ends() {
        let is_right = match reason.cause {
            DisconnectCause::Aborted => id == second,
            _ => id != second,
        };
        assert!(is_right, "{id}: {reason}");
    }
}

#[test]
fn tasks_that_wait_for_room_lose_no_command() {
    const TASKS: u32 = 8;
    const EACH: u32 = 2000;
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(4));
    let handle: Handle<dyn Handler> = event_loop.handle();
    let (tell, told) = mpsc::channel();
    let run = within_patience(move || {
        for task in 0..TASKS {
            let (mut handle, tell) = (handle.clone(), tell.clone());
            thread::spawn(move || {
                block_on(async {
                    for i in 0..EACH {
                        handle.ready().await.expect("the loop is there");
                        let tell = tell.clone();
                        handle
                            .try_post(move |_, _| tell.send((task, i)).expect("the test waits"))
                            .expect("it was ready");
                    }
                });
            });
        }
        drop(tell);
        let mut run = Vec::new();
        let mut seen = Recorder::default();
        while run.len() < (TASKS * EACH) as usize {
            event_loop.turn(&mut seen, None).expect("a turn");
            run.extend(told.try_iter());
        }
        run
    });
    for task in 0..TASKS {
        let of_task = run.iter().filter(|it| it.0 == task).map(|it| it.1);
        assert!(of_task.eq(0..EACH), "out of order");
    }
}

/// The tries would take each place as soon as it is free, and the threads block for one.
#[test]
fn task_is_starved_neither_by_tries_nor_by_blocked_threads() {
    within_patience(|| {
        let config = Config::default().max_pending_commands(2);
        let (mut event_loop, _) = listening_with(config);
        let over = Arc::new(AtomicBool::new(false));
        let busy: [fn(&Handle<dyn Handler>); 3] = [
            |handle| _ = handle.try_post(|_, _| {}),
            |handle| _ = handle.post(|_, _| {}),
            |handle| _ = handle.post(|_, _| {}),
        ];
        let threads = busy.map(|put| {
            let (handle, over) = (event_loop.handle(), Arc::clone(&over));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    put(&handle);
                }
            })
        });
        let mut handle: Handle<dyn Handler> = event_loop.handle();
        let task = thread::spawn(move || {
            block_on(async {
                for _ in 0..300 {
                    handle.ready().await.expect("the loop is there");
                    handle.try_post(|_, _| {}).expect("it was ready");
                }
                handle.stop().expect("the loop is there");
            });
        });
        event_loop.run(&mut Recorder::default()).expect("it runs");
        over.store(true, Ordering::Relaxed);
        drop(event_loop);
        task.join().expect("no panic");
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn handle_that_is_ready_is_accepted_once_by_a_full_mailbox() {
    let (event_loop, _) = listening_with(Config::default().max_pending_commands(1));
    let mut handle = event_loop.handle();
    block_on(handle.ready()).expect("there is room");
    let other = handle.clone();
    other.try_send(some_id(), b"x").expect("there is room");
    other.try_send(some_id(), b"x").expect_err("it is full");
    // It stays ready until the command.
    block_on(handle.ready()).expect("it is ready");
    handle.try_send(some_id(), b"x").expect("it is ready");
    handle.try_send(some_id(), b"x").expect_err("it was ready");
}

#[test]
fn waiting_handle_is_woken_once_when_half_of_the_mailbox_is_free() {
    let config = Config::default()
        .max_pending_commands(4)
        .commands_per_turn(1);
    let (mut event_loop, _) = listening_with(config);
    let mut handle = event_loop.handle();
    for _ in 0..4 {
        handle.try_post(|_, _| {}).expect("there is room");
    }
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    // A future that is dropped loses nothing.
    assert!(pin!(handle.ready()).poll(&mut context).is_pending());
    let mut seen = Recorder::default();
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    assert!(handle.poll_ready(&mut context).is_pending());
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(handle.poll_ready(&mut context), Poll::Ready(Ok(())));
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}

/// While it waits, tries of others use the room aside. Afterwards they use all of it.
#[test]
fn handle_that_is_dropped_or_ready_no_longer_waits() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(1));
    let other = event_loop.handle();
    let mut handle = other.clone();
    other.try_post(|_, _| {}).expect("there is room");
    let mut context = Context::from_waker(Waker::noop());
    assert!(handle.poll_ready(&mut context).is_pending());
    drop(handle);
    other.try_post(|_, _| {}).expect_err("no task waits");
    let mut handle = other.clone();
    assert!(handle.poll_ready(&mut context).is_pending());
    other.try_post(|_, _| {}).expect("there is room aside");
    let mut seen = Recorder::default();
    event_loop.turn(&mut seen, None).expect("a turn");
    // It is ready, and waits no more.
    other.try_post(|_, _| {}).expect("there is room");
    other.try_post(|_, _| {}).expect_err("the mailbox is full");
}

#[test]
fn waiting_tasks_learn_that_the_loop_is_dropped() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(1));
    let mut handle = event_loop.handle();
    let answer: Answer<()> = handle.try_call(|_, _| panic!("it is not run"));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(
        handle
            .poll_ready(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let asked = thread::spawn(move || block_on(answer));
    event_loop.net().stop();
    drop(event_loop);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(block_on(handle.ready()), Err(MailboxError::Closed));
    let answer = within_patience(|| asked.join().expect("no panic"));
    assert_eq!(answer, Err(MailboxError::Closed));
    assert_eq!(
        block_on(handle.try_call(|_, _| ())),
        Err(MailboxError::Closed)
    );
}

#[test]
fn try_call_returns_what_the_closure_returns() {
    let (mut event_loop, _) = listening_with(Config::default().max_pending_commands(1));
    let handle = event_loop.handle();
    let (tell, told) = mpsc::channel();
    let asking = handle.try_call(move |_, net| {
        tell.send(()).expect("the test waits");
        net.connection_count()
    });
    let refused = block_on(handle.try_call(|_, net| net.connection_count()));
    assert!(matches!(refused, Err(MailboxError::Full { .. })));
    let mut seen = Recorder::default();
    event_loop.turn(&mut seen, None).expect("a turn");
    assert_eq!(block_on(asking), Ok(0));
    // It is run whether or not anything waits for it.
    told.try_recv().expect("it was run");
    let (tell, told) = mpsc::channel();
    drop(handle.try_call(move |_, _| tell.send(()).expect("the test waits")));
    event_loop.turn(&mut seen, None).expect("a turn");
    told.try_recv().expect("it was run");
}

#[test]
fn closure_that_panics_leaves_no_task_waiting() {
    let (mut event_loop, _) = listening_with(Config::default());
    let answer: Answer<()> = event_loop.handle().try_call(|_, _| panic!("as agreed"));
    let asked = thread::spawn(move || block_on(answer));
    let turn =
        std::panic::AssertUnwindSafe(|| event_loop.turn(&mut Recorder::default(), None).is_ok());
    std::panic::catch_unwind(turn).expect_err("it panics");
    let answer = within_patience(|| asked.join().expect("no panic"));
    assert_eq!(answer, Err(MailboxError::Closed));
}

/// Calls its own loop, and sends the result to the peer.
struct AsksItself {
    handle: Handle<AsksItself>,
    answer: Option<Answer<u32>>,
}

impl Handler for AsksItself {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        match self.answer.take() {
            None => {
                assert_eq!(self.handle.call(|_, _| 1), Err(MailboxError::InCallback));
                self.answer = Some(self.handle.try_call(|_, _| 42));
            }
            Some(answer) => {
                let answer = block_on(answer).expect("it was run");
                net.send(id, &answer.to_le_bytes()).expect("it is open");
            }
        }
    }
}

#[test]
fn callback_can_use_try_call_on_its_own_loop() {
    let mut event_loop = EventLoop::<AsksItself>::new(Config::default()).expect("a loop");
    let listener = event_loop.net().listen("127.0.0.1:0").expect("a port");
    let addr = addr_of(event_loop.net(), listener);
    let mut asks = AsksItself {
        handle: event_loop.handle(),
        answer: None,
    };
    let control = event_loop.handle();
    let serving = thread::spawn(move || event_loop.run(&mut asks));
    let mut peer = support::Peer::connect(addr);
    peer.send(b"first");
    // A turn is made for the command before the next frame is answered.
    while control.call(|asks, _| asks.answer.is_some()) != Ok(true) {
        thread::yield_now();
    }
    peer.send(b"second");
    assert_eq!(peer.receive(), 42_u32.to_le_bytes());
    control.stop().expect("the loop is there");
    serving.join().expect("no panic").expect("it runs");
}

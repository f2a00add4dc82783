//! Shards that start together or not at all, and the ends of shards: which are named, and what the others do.

mod support;

use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::shards::{Chat, Greeter, end, greeting, join_all, start, start_from, stop_shard};
use support::{PATIENCE, Peer, within_patience};
use throng::{
    Balance, Config, ConnectionId, Frame, Handler, ListenOptions, MailboxError, Net, Shard,
    ShardFailure, Shards,
};

/// The others might not run yet.
#[test]
fn blocking_command_while_a_handler_is_made_is_an_error() {
    let started = Shards::builder(Config::default().max_pending_commands(1))
        .shards(2)
        .start::<Chat>(|_, shard| {
            let other = shard.handles.get(1 - shard.index).expect("there are two");
            assert_eq!(other.call(|_, _| ()), Err(MailboxError::InCallback));
            while other.post(|_, _| {}).is_ok() {}
            Err(std::io::Error::other("that was all"))
        });
    let error = started.expect_err("none can be made");
    assert_eq!(error.to_string(), "shard 0 failed: that was all");
}

#[cfg(target_os = "linux")]
#[test]
fn panicked_shard_is_named_and_others_serve_on() {
    one_panics_and_the_other_serves_on(Balance::Kernel);
}

#[test]
fn panicked_shard_gets_no_peers() {
    one_panics_and_the_other_serves_on(Balance::HandOver);
}

fn one_panics_and_the_other_serves_on(balance: Balance) {
    let (shards, places) = start(balance, ListenOptions::default());
    let mut peers = join_all(&shards, &places);
    let addr = shards.local_addr(0).expect("it listens");
    let handles = shards.handles();
    handles
        .get(1)
        .expect("there are two")
        .post(|_, _| panic!("by command"))
        .expect("it is there");
    let deadline = Instant::now() + PATIENCE;
    while !handles.get(1).expect("there are two").is_closed() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::yield_now();
    }
    // Connections of the first shard are served, new peers get there, and a broadcast leaves out the other shard.
    assert_eq!(handles.broadcast("still here"), 1);
    // Its listener was closed before.
    let mut late = Peer::connect(addr);
    assert_eq!(late.receive(), b"welcome");
    let heard = peers
        .iter_mut()
        .filter_map(|peer| peer.try_receive().ok())
        .collect::<Vec<_>>();
    assert!(!heard.is_empty() && heard.iter().all(|frame| frame == b"still here"));
    handles.shutdown(Duration::ZERO);
    let error = shards.join().expect_err("one has panicked");
    assert_eq!(error.failed.len(), 1);
    assert_eq!(error.failed[0].shard, 1);
    assert!(
        matches!(&error.failed[0].failure, ShardFailure::Panicked(message) if message == "by command")
    );
    assert_eq!(error.to_string(), "shard 1 panicked: by command");
}

/// An address on which no other test listens, so that a closed port is not taken again at once.
const ALONE: &str = if cfg!(target_os = "linux") {
    "127.0.0.27:0"
} else {
    "127.0.0.1:0"
};

fn start_alone(balance: Balance) -> (Shards<Chat>, SocketAddr) {
    let builder = Shards::builder(Config::default())
        .shards(2)
        .balance(balance)
        .listen(ALONE, ListenOptions::default());
    let (shards, _) = start_from(builder.expect("an address"));
    let addr = shards.local_addr(0).expect("it listens");
    (shards, addr)
}

fn start_adopted() -> (Shards<Chat>, SocketAddr) {
    let listener = std::net::TcpListener::bind(ALONE).expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let builder = Shards::builder(Config::default()).shards(2);
    let (shards, _) = start_from(builder.adopt_listener(listener, ListenOptions::default()));
    (shards, addr)
}

type How = fn(&mut Chat, &mut Net);

fn panic_in_shard(_: &mut Chat, _: &mut Net) {
    panic!("by command");
}

fn stop_in_shard(_: &mut Chat, net: &mut Net) {
    net.stop();
}

/// Ends one of two shards and expects `join_next` to return that while the other one runs.
fn end_one(shards: &mut Shards<Chat>, shard: usize, how: How) {
    let handles = shards.handles();
    handles
        .get(shard)
        .expect("there are two")
        .post(how)
        .expect("it runs");
    match shards.join_next().expect("one has ended") {
        Ok(ended) => assert_eq!(ended, shard),
        Err(error) => assert_eq!(
            error.to_string(),
            format!("shard {shard} panicked: by command")
        ),
    }
    let other = handles.get(1 - shard).expect("there are two");
    other.call(|_, _| ()).expect("it runs");
}

fn expect_refused(addr: SocketAddr) {
    let refused = std::net::TcpStream::connect_timeout(&addr, PATIENCE).expect_err("it is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[cfg(target_os = "linux")]
#[test]
fn join_next_returns_the_first_end_with_kernel_balancing() {
    within_patience(|| {
        for how in [panic_in_shard, stop_in_shard] {
            for shard in [0, 1] {
                let (mut shards, addr) = start_alone(Balance::Kernel);
                end_one(&mut shards, shard, how);
                assert_eq!(Peer::connect(addr).receive(), b"welcome");
                shards.handles().shutdown(Duration::ZERO);
                assert_eq!(shards.join_next().expect("the other").ok(), Some(1 - shard));
                assert!(shards.join_next().is_none());
                shards.join().expect("all was returned");
                expect_refused(addr);
            }
        }
    });
}

/// Whether the socket is the shard's own, or was adopted.
#[test]
fn listener_is_closed_when_join_next_returns_the_accepting_shard() {
    within_patience(|| {
        for how in [panic_in_shard, stop_in_shard] {
            for (mut shards, addr) in [start_alone(Balance::HandOver), start_adopted()] {
                end_one(&mut shards, 0, how);
                expect_refused(addr);
                end(shards);
            }
        }
    });
}

#[test]
fn join_next_returns_the_end_of_a_shard_that_is_handed_peers() {
    within_patience(|| {
        for how in [panic_in_shard, stop_in_shard] {
            for (mut shards, addr) in [start_alone(Balance::HandOver), start_adopted()] {
                end_one(&mut shards, 1, how);
                for _ in 0..2 {
                    assert_eq!(Peer::connect(addr).receive(), b"welcome");
                }
                end(shards);
            }
        }
    });
}

#[test]
fn failed_handler_is_an_error_of_start() {
    let started = Shards::builder(Config::default())
        .shards(3)
        .start::<Chat>(|_, shard| {
            Err(std::io::Error::other(format!(
                "no world for {}",
                shard.index
            )))
        });
    let error = started.expect_err("none can be made");
    assert_eq!(error.to_string(), "shard 0 failed: no world for 0");
    let started =
        Shards::builder(Config::default())
            .shards(2)
            .start::<Chat>(|_, shard| match shard.index {
                1 => panic!("no"),
                _ => Err(std::io::Error::other("not this time")),
            });
    assert_eq!(started.expect_err("none can be made").shard, 0);
}

#[test]
fn address_in_use_is_an_error_of_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    for balance in [Balance::Kernel, Balance::HandOver] {
        if balance == Balance::Kernel && !cfg!(unix) {
            continue;
        }
        let started = Shards::builder(Config::default())
            .shards(2)
            .balance(balance)
            .listen(
                taken.local_addr().expect("its address"),
                ListenOptions::default(),
            )
            .expect("an address")
            .start::<Chat>(|_, _| Err(std::io::Error::other("not reached")));
        let error = started.expect_err("it is in use");
        assert!(matches!(error.failure, ShardFailure::Listen(_)), "{error}");
        assert_eq!(
            std::io::Error::from(error).kind(),
            std::io::ErrorKind::AddrInUse
        );
    }
}

/// Not those that another process has taken, as the option alone would let it.
#[test]
fn second_server_on_the_same_address_is_an_error_without_reuse_port() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let start = |addr: &str, options: ListenOptions| {
        Shards::builder(Config::default())
            .shards(2)
            .balance(Balance::Kernel)
            .listen(addr, options)
            .expect("an address")
            .start(|_, _| Ok(Greeter))
    };
    let alone = ListenOptions::default;
    let shared = || ListenOptions::default().reuse_port(true);
    for (options, is_shared) in [(alone(), false), (shared(), true)] {
        let first = start("127.0.0.1:0", options.clone()).expect("it starts");
        let addr = first.local_addr(0).expect("it listens").to_string();
        let second = start(&addr, options);
        assert_eq!(second.is_ok(), is_shared);
        for shards in [Some(first), second.ok()].into_iter().flatten() {
            shards.handles().shutdown(Duration::ZERO);
            shards.join().expect("none has failed");
        }
    }
}

/// A handler with a thread that works for it by asking its loop.
struct Boss(Option<thread::JoinHandle<()>>);

impl Handler for Boss {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

impl Drop for Boss {
    fn drop(&mut self) {
        if let Some(worker) = self.0.take() {
            worker.join().expect("no panic");
        }
    }
}

#[test]
fn handler_can_join_its_worker_in_drop() {
    within_patience(|| {
        let (worked, has_worked) = mpsc::channel();
        let worked = Mutex::new(worked);
        let shards = Shards::builder(Config::default()).shards(1);
        let shards = shards.start(move |_, shard: Shard<Boss>| {
            let handle = shard.handles.get(0).expect("itself").clone();
            let worked = worked.lock().expect("no panic").clone();
            Ok(Boss(Some(thread::spawn(move || {
                while handle.call(|_, _| ()).is_ok() {
                    let _ = worked.send(());
                }
            }))))
        });
        let shards = shards.expect("it starts");
        has_worked.recv().expect("it works");
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    });
}

#[test]
fn failed_handler_keeps_other_shards_from_serving() {
    let error = within_patience(|| {
        let started = Shards::builder(Config::default())
            .shards(2)
            .start(|_, shard| match shard.index {
                1 => Err(std::io::Error::other("not this one")),
                _ => Ok(Greeter),
            });
        started.expect_err("one cannot be made")
    });
    assert_eq!(error.to_string(), "shard 1 failed: not this one");
}

#[test]
fn no_shard_serves_before_all_handlers_are_made() {
    within_patience(|| {
        let (made, is_made) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let (made, may_go) = (Mutex::new(made), Mutex::new(may_go));
        let starting = thread::spawn(move || {
            let shards = Shards::builder(Config::default()).shards(2);
            shards.start(move |_, shard: Shard<Greeter>| {
                if shard.index == 1 {
                    let _ = may_go.lock().expect("no panic").recv();
                } else {
                    let handle = shard.handles.get(0).expect("itself").clone();
                    made.lock()
                        .expect("no panic")
                        .send(handle)
                        .expect("the test waits");
                }
                Ok(Greeter)
            })
        });
        let first = is_made.recv().expect("it is made");
        let (tell, told) = mpsc::channel();
        first
            .post(move |_, _| tell.send(()).expect("the test waits"))
            .expect("there is room");
        // Long enough to see it, if it served.
        told.recv_timeout(Duration::from_millis(50))
            .expect_err("it serves already");
        drop(go);
        told.recv().expect("it serves");
        let shards = starting.join().expect("no panic").expect("they start");
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    });
}

#[test]
fn shutdown_reaches_shards_behind_an_ended_one() {
    within_patience(|| {
        let shards = Shards::builder(Config::default()).shards(2);
        let shards = shards.start(|_, _| Ok(Greeter)).expect("they start");
        stop_shard(&shards, 0);
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    });
}

#[test]
fn ended_shard_gets_no_peers() {
    let gone = [(Balance::HandOver, 1), (Balance::Kernel, 0)];
    for (balance, shard) in gone {
        if balance == Balance::Kernel && !cfg!(target_os = "linux") {
            continue;
        }
        let (shards, addr) = greeting(balance);
        stop_shard(&shards, shard);
        for _ in 0..4 {
            assert_eq!(Peer::connect(addr).receive(), b"welcome");
        }
        shards.handles().shutdown(Duration::ZERO);
        shards.join().expect("none has failed");
    }
}

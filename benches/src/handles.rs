//! What other threads can ask of a loop: many threads send small frames through handles, over many connections, and at
//! the other ends each frame is checked to come in its turn.
//!
//! Nothing is lost on the way by design: the mailbox makes the senders wait, and no limit is set on what waits for a
//! connection, so that no send is refused. The other ends are a second loop, in a thread of this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Handle, Handler,
    MailboxError, Net,
};

use crate::problem::Problem;
use crate::report::{self, grouped};
use crate::values::seconds;
use crate::watch::{TICK, Watch};
use crate::{limits, usage};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// How many threads send.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// How many frames each of them sends.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Over how many connections.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8000))]
    connections: u32,
    /// Bytes of payload in each frame.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(10..=(1 << 20)))]
    size: u32,
    /// When to give up, in seconds.
    #[arg(long, default_value = "300", value_parser = seconds)]
    patience: Duration,
}

/// More commands for a wake-up are expected, where enough are sent.
const COMMANDS_PER_WAKE_UP: u64 = 100;
/// From so many frames of a thread on.
const ENOUGH: u64 = 100_000;

/// The side that sends.
#[derive(Default)]
struct Sending(Vec<ConnectionId>);

impl Handler for Sending {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.0.push(id);
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

/// The side that checks.
struct Receiving {
    /// For each connection by its index, and each thread, which number comes next.
    next: Vec<Vec<u64>>,
    received: u64,
    all: u64,
    wrong: u64,
    /// Why a connection ended, which none does before all has come.
    problem: Option<String>,
}

impl Handler for Receiving {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let (thread, number) = read(&frame);
        let next = self
            .next
            .get_mut(id.index())
            .and_then(|threads| threads.get_mut(thread));
        match next {
            Some(next) if *next == number => *next += 1,
            _ => self.wrong += 1,
        }
        self.received += 1;
        if self.received == self.all {
            net.stop();
        }
    }

    fn on_timer(&mut self, net: &mut Net, _: Expired) {
        net.stop();
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.problem
            .get_or_insert_with(|| format!("connection {id} ended: {reason}"));
        net.stop();
    }
}

/// A frame begins with the number of its thread, and how many of it went to this connection before.
fn write(payload: &mut [u8], thread: usize, number: u64) {
    payload[..2].copy_from_slice(&(thread as u16).to_le_bytes());
    payload[2..10].copy_from_slice(&number.to_le_bytes());
}

fn read(frame: &[u8]) -> (usize, u64) {
    let mut thread = [0; 2];
    let mut number = [0; 8];
    if frame.len() >= 10 {
        thread.copy_from_slice(&frame[..2]);
        number.copy_from_slice(&frame[2..10]);
    }
    (
        u16::from_le_bytes(thread).into(),
        u64::from_le_bytes(number),
    )
}

pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<(), Problem> {
    // Both ends of a connection are in this process.
    let options = &Options {
        connections: limits::fit_beside(options.connections, 2, 0),
        ..options.clone()
    };
    let (threads, frames) = (options.threads as usize, u64::from(options.frames));
    let all = threads as u64 * frames;
    let config = Config::default()
        .max_queued_bytes(u64::MAX)
        .high_watermark(u64::MAX / 2);
    let mut event_loop = EventLoop::<Sending>::new(config)?;
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").map_err(std::io::Error::from)?;
    let addr = net
        .listener(listener)
        .and_then(|it| it.local_addr())
        .ok_or_else(|| Problem::failed("no address"))?;
    let (options_, (done, is_done)) = (options.clone(), mpsc::channel());
    let checking = thread::spawn(move || {
        let result = check(addr, &options_, all);
        let _ = done.send(());
        result
    });

    let mut sending = Sending::default();
    let mut watch = Watch::new();
    while sending.0.len() < options.connections as usize {
        event_loop.turn(&mut sending, Some(TICK))?;
        if is_done.try_recv().is_ok() {
            received(checking)?;
            return Err(Problem::failed("the other end has ended early"));
        }
        let connected = sending.0.len() as u64;
        limits::expect_accepting(&event_loop.net().stats())?;
        watch.expect(connected, "no connection was established")?;
    }
    let before = usage::anonymous_bytes(std::process::id());
    let senders: Vec<_> = (0..threads)
        .map(|thread| {
            let (handle, ids) = (event_loop.handle(), sending.0.clone());
            let size = options.size as usize;
            thread::spawn(move || send(&handle, &ids, thread, frames, size))
        })
        .collect();
    let stalled = stall(&event_loop.handle(), &senders, before);
    let began = Instant::now();
    let mut commands_took = None;
    while is_done.try_recv().is_err() {
        event_loop.turn(&mut sending, Some(Duration::from_millis(100)))?;
        if commands_took.is_none() && event_loop.net().stats().commands >= all {
            commands_took = Some(began.elapsed());
        }
    }
    let took = began.elapsed();
    let (received, wrong) = received(checking)?;
    let stats = event_loop.net().stats();
    // Senders that still wait for room are told that there will be none.
    drop(event_loop);
    let sent = senders.into_iter().try_for_each(|sender| {
        sender
            .join()
            .map_err(|_| Problem::failed("a sender panicked"))?
    });
    let timed = all - stalled.commands.min(all);
    let per_second = timed as f64 / commands_took.unwrap_or(took).as_secs_f64();
    let per_wake_up = stats.commands as f64 / stats.wake_ups.max(1) as f64;
    report::say(format_args!(
        "{} commands of {threads} threads over {} connections: {} a second",
        grouped(stats.commands),
        options.connections,
        grouped(per_second as u64)
    ));
    report::say(format_args!(
        "{} wake-ups, one for {per_wake_up:.0} commands",
        grouped(stats.wake_ups)
    ));
    report::say(format_args!(
        "while the loop stood still {} commands with {} bytes of payload waited, in {} bytes of memory",
        grouped(stalled.commands),
        grouped(stalled.bytes),
        stalled
            .memory
            .map_or("an unknown number of".into(), grouped)
    ));
    report::say(format_args!(
        "{} frames arrived in {took:.1?}, {wrong} of them out of order",
        grouped(received)
    ));
    report::write_json(
        json,
        &json!({
            "threads": threads,
            "connections": options.connections,
            "commands": stats.commands,
            "commands_per_second": per_second,
            "wake_ups": stats.wake_ups,
            "commands_per_wake_up": per_wake_up,
            "commands_failed": stats.commands_failed,
            "received": received,
            "out_of_order": wrong,
            "seconds": took.as_secs_f64(),
            "stalled": {
                "commands": stalled.commands,
                "bytes": stalled.bytes,
                "memory": stalled.memory,
            },
        }),
    )?;
    if received != all || wrong > 0 || stats.commands_failed > 0 {
        return Err(Problem::failed(format!(
            "{received} of {all} frames arrived, {wrong} out of order"
        )));
    }
    sent?;
    if frames >= ENOUGH && stats.commands < stats.wake_ups * COMMANDS_PER_WAKE_UP {
        return Err(Problem::failed(format!(
            "a wake-up for {per_wake_up:.0} commands, where one for {COMMANDS_PER_WAKE_UP} is the most"
        )));
    }
    Ok(())
}

/// What the other end has received: how many frames, and how many not in their turn.
fn received(checking: JoinHandle<Result<(u64, u64), Problem>>) -> Result<(u64, u64), Problem> {
    checking
        .join()
        .map_err(|_| Problem::failed("the other end panicked"))?
}

/// What waits for a loop that stands still.
#[derive(Default)]
struct Stalled {
    commands: u64,
    bytes: u64,
    memory: Option<u64>,
}

/// Waits until the mailbox is full, or all have sent what they have.
fn stall<T>(handle: &Handle<Sending>, senders: &[JoinHandle<T>], before: Option<u64>) -> Stalled {
    loop {
        let all_sent = senders.iter().all(JoinHandle::is_finished);
        let (commands, bytes) = match handle.try_post(|_, _| {}).map_err(|post| post.error) {
            Err(MailboxError::Full { commands, bytes }) => (commands, bytes),
            _ if all_sent => return Stalled::default(),
            _ => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        let now = usage::anonymous_bytes(std::process::id());
        return Stalled {
            commands,
            bytes,
            memory: now
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before)),
        };
    }
}

fn send(
    handle: &Handle<Sending>,
    ids: &[ConnectionId],
    thread: usize,
    frames: u64,
    size: usize,
) -> Result<(), Problem> {
    let mut payload = vec![0; size];
    for frame in 0..frames {
        let at = frame as usize % ids.len();
        write(&mut payload, thread, frame / ids.len() as u64);
        handle
            .send(ids[at], &payload)
            .map_err(std::io::Error::from)?;
    }
    Ok(())
}

/// Receives all frames. Returns how many came, and how many not in their turn.
fn check(addr: SocketAddr, options: &Options, all: u64) -> Result<(u64, u64), Problem> {
    let mut event_loop = EventLoop::new(Config::default())?;
    for _ in 0..options.connections {
        event_loop
            .net()
            .connect(addr)
            .map_err(std::io::Error::from)?;
    }
    let mut receiving = Receiving {
        next: vec![vec![0; options.threads as usize]; options.connections as usize],
        received: 0,
        all,
        wrong: 0,
        problem: None,
    };
    event_loop.net().set_timer(options.patience, 0);
    event_loop.run(&mut receiving)?;
    match receiving.problem {
        Some(problem) => Err(Problem::failed(problem)),
        None => Ok((receiving.received, receiving.wrong)),
    }
}

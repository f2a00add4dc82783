//! The words on the command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::driver::Level;
use crate::problem::Problem;
use crate::report;
use crate::settings::Settings;

/// Thousands of framed TCP connections on one thread: see it, serve it, load it, compare it.
#[derive(Debug, Parser)]
#[command(name = "throng-bench", version)]
pub(crate) struct Cli {
    /// Writes the figures to this file, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts a server, connects thousands of clients to it and shows what they do (the default).
    Demo(DemoOptions),
    /// Serves until SIGINT or SIGTERM.
    Serve(Box<ServeOptions>),
    /// Loads any server that speaks the protocol and echoes.
    Load(LoadOptions),
    /// Measures this crate beside a raw epoll server.
    Compare(CompareOptions),
    /// Does to a server what peers on the internet do, and tells whether it bears it.
    Torture(TortureOptions),
    /// Sends from many threads through handles, and checks that all arrives in order.
    Handles(HandlesOptions),
    /// Measures how late a game's ticks are under echo load.
    Ticks(TicksOptions),
    /// Measures what timers cost.
    Timers(TimersOptions),
    /// Loads a server when standard input says so.
    #[command(hide = true)]
    Loader(LoadOptions),
    /// The raw epoll echo server that `compare` measures against.
    #[command(hide = true)]
    Yardstick(YardstickOptions),
}

impl Default for Command {
    fn default() -> Self {
        Self::Demo(DemoOptions::default())
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// How many connections; as many as the open-file limit allows, if that is less.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Frames in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pipeline: u32,
    /// Bytes of payload of a frame.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=(1 << 30)))]
    pub(crate) size: u32,
    /// How long the load lasts.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            connections: 10_000,
            pipeline: 1,
            size: 64,
            seconds: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Where to listen; port 0 for any free one.
    #[arg(long, default_value = "127.0.0.1:5000")]
    pub(crate) addr: String,
    /// What to do with a frame.
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    pub(crate) mode: Mode,
    /// What drives it.
    #[arg(long, value_enum, default_value_t = Level::Turn)]
    pub(crate) driver: Level,
    /// How many peers may wait to be accepted.
    #[arg(long)]
    pub(crate) backlog: Option<u32>,
    /// How long everybody has to read what is queued, after a signal.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) shutdown_timeout: Duration,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) parent: Parent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Send it back.
    Echo,
    /// Send it to everybody, its sender included.
    Broadcast,
    /// Forget it.
    Sink,
    /// Send it to one other: connections are paired in the order in which they come.
    Relay,
}

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:5000")]
    pub(crate) addr: String,
    /// How many connections; as many as the open-file limit allows, if that is less.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Frames in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pipeline: u32,
    /// So many frames a second, on all connections together, instead of a number in flight; latency counts from when a
    /// frame was due. Frames that cannot be sent are counted as errors.
    #[arg(long, conflicts_with = "pipeline", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Bytes of payload of a frame.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=(1 << 30)))]
    pub(crate) size: u32,
    /// How long the load lasts.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// How often each server is measured in each cell.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// The exit code is 1 if a cell's ratio is below this (large frames: below 0.80, if that is less).
    #[arg(long)]
    pub(crate) floor: Option<f64>,
    /// Compares the ways to embed the loop with `EventLoop::run`, instead of the loop with its peers.
    #[arg(long)]
    pub(crate) drivers: bool,
    /// Only these cells, as CONNECTIONS_PIPELINE_SIZE.
    #[arg(long, value_delimiter = ',', value_parser = crate::compare::Cell::parse)]
    pub(crate) cells: Vec<crate::compare::Cell>,
    /// How long each measurement lasts.
    #[arg(long, default_value = "1.5", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct TortureOptions {
    /// What to do; all of it, unless given.
    #[arg(value_enum)]
    pub(crate) cases: Vec<Case>,
    /// With a fraction of the bytes and the time: to see that it works, not what it costs.
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// A peer sends 400 MiB to an echo server and reads nothing.
    NeverReads,
    /// 500 peers promise a frame of 4 GiB each and send 100 bytes of it.
    Liars,
    /// Frames of 8 GiB through a relay, both ways at once; a frame of 1.1 GiB that is held whole.
    Giants,
    /// 2,000 peers begin a frame and send a byte now and then; others are slow and honest.
    Slowloris,
    /// 500 clients want to be served by a process that may have 64 descriptors.
    Descriptors,
    /// Six peers send as fast as they can.
    Firehoses,
}

#[derive(Debug, Args)]
pub(crate) struct YardstickOptions {
    #[arg(long)]
    pub(crate) addr: String,
    #[command(flatten)]
    pub(crate) parent: Parent,
}

/// `handles`
#[derive(Debug, Clone, Args)]
pub(crate) struct HandlesOptions {
    /// How many threads send.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: u32,
    /// How many frames each of them sends.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) frames: u32,
    /// Over how many connections.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) connections: u32,
    /// Bytes of payload in each frame.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(10..=(1 << 20)))]
    pub(crate) size: u32,
    /// When to give up, in seconds.
    #[arg(long, default_value = "300", value_parser = seconds)]
    pub(crate) patience: Duration,
}

/// `ticks`
#[derive(Debug, Args)]
pub(crate) struct TicksOptions {
    /// Ticks a second.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) hz: u32,
    /// For how long.
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// How many connections echo meanwhile, a frame in flight on each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
}

/// `timers`
#[derive(Debug, Args)]
pub(crate) struct TimersOptions {
    /// How many timers.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) count: u32,
    /// What becomes of them after they were set.
    #[arg(long, value_enum, default_value_t = Phase::Expire)]
    pub(crate) phase: Phase,
}

/// What is done with timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// They are set, and that is all.
    Insert,
    /// They are cancelled.
    Cancel,
    /// They fire.
    Expire,
}

/// Who started a server, if it should not outlive that process.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Parent {
    #[arg(long, hide = true, value_name = "PID")]
    child_of: Option<u32>,
}

impl Parent {
    /// Whether the process that started this one is gone. Windows does not tell.
    pub(crate) fn is_gone(self) -> bool {
        #[cfg(unix)]
        let present = Some(std::os::unix::process::parent_id());
        #[cfg(not(unix))]
        let present = self.child_of;
        self.child_of.is_some() && self.child_of != present
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    if !(0.01..=86_400.0).contains(&seconds) {
        return Err("expected between 0.01 and 86400 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// All addresses a text stands for; at least one.
pub(crate) fn resolve(addr: &str) -> Result<Vec<SocketAddr>, Problem> {
    let problem =
        |why: String| Problem::usage(format!("cannot resolve the address '{addr}': {why}"));
    let addrs = addr
        .to_socket_addrs()
        .map_err(|error| problem(error.to_string()))?;
    let addrs: Vec<_> = addrs.collect();
    if addrs.is_empty() {
        return Err(problem("it has none".into()));
    }
    Ok(addrs)
}

/// Help goes to standard output as it is; a mistake becomes one line, and exit code 2.
pub(crate) fn explain(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            report::say(format_args!("{}", error.to_string().trim_end()));
            ExitCode::SUCCESS
        }
        _ => {
            let text = error.to_string();
            let line: Vec<_> = text
                .lines()
                .map(str::trim)
                .take_while(|line| !line.is_empty())
                .collect();
            let line = line.join(" ");
            let message = line.strip_prefix("error: ").unwrap_or(&line);
            report::complain(&Problem::usage(format!("{message} (see --help)")));
            ExitCode::from(2)
        }
    }
}

//! Parses the command line and runs a command. The options of a command are in the module of that command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::problem::Problem;
use crate::{
    compare, demo, handles, load, loader, report, serve, soak, ticks, timers, torture, yardstick,
};

/// Thousands of framed TCP connections on one thread: see it, serve it, load it, compare it.
#[derive(Debug, Parser)]
#[command(name = "throng-bench", version)]
pub(crate) struct Cli {
    /// Writes the figures to this file, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// Runs the command that was chosen.
    pub(crate) fn run(self) -> Result<(), Problem> {
        let json = self.json.as_deref();
        match self.command.unwrap_or_default() {
            Command::Demo(options) => demo::run(&options, json),
            Command::Serve(options) => serve::run(&options, json),
            Command::Load(options) => load::run(&options, json),
            Command::Compare(options) => compare::run(&options, json),
            Command::Torture(options) => torture::run(&options, json),
            Command::Handles(options) => handles::run(&options, json),
            Command::Ticks(options) => ticks::run(&options, json),
            Command::Timers(options) => timers::run(&options, json),
            #[cfg(feature = "tls")]
            Command::Tls(options) => crate::tls::measure::run(&options, json),
            #[cfg(feature = "tls")]
            Command::TokioRustls(options) => crate::tls::tokio::run(&options),
            Command::Soak(options) => soak::run(&options, json),
            Command::SoakServer(options) => soak::serve(&options),
            Command::Loader(options) => loader::run(&options),
            Command::Yardstick(options) => yardstick::run(&options),
            #[cfg(all(feature = "peers", target_os = "linux"))]
            Command::Peer(options) => crate::peers::run(&options),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a server, connects thousands of clients to it and shows what they do (the default).
    Demo(demo::Options),
    /// Serves until SIGINT or SIGTERM.
    Serve(Box<serve::Options>),
    /// Loads any server that speaks the protocol and echoes.
    Load(load::Options),
    /// Measures this crate beside a raw epoll server.
    Compare(compare::Options),
    /// Does to a server what peers on the internet do, and tells whether it bears it.
    Torture(torture::Options),
    /// Lets clients of all kinds use a server for minutes, and checks every byte.
    Soak(soak::Options),
    /// The server of `soak`.
    #[command(hide = true)]
    SoakServer(soak::ServerOptions),
    /// Sends from many threads through handles, and checks that all arrives in order.
    Handles(handles::Options),
    /// Measures how late a game's ticks are under echo load.
    Ticks(ticks::Options),
    /// Measures what timers cost.
    Timers(timers::Options),
    /// Measures TLS beside a server with tokio-rustls.
    #[cfg(feature = "tls")]
    Tls(crate::tls::measure::Options),
    /// The echo server with tokio-rustls that `tls` measures.
    #[cfg(feature = "tls")]
    #[command(hide = true, name = "tokio-rustls")]
    TokioRustls(crate::tls::tokio::Options),
    /// Loads a server when standard input says so.
    #[command(hide = true)]
    Loader(load::Options),
    /// The raw epoll echo server that `compare` measures against.
    #[command(hide = true)]
    Yardstick(yardstick::Options),
    /// The echo server by other means that `compare` measures too.
    #[cfg(all(feature = "peers", target_os = "linux"))]
    #[command(hide = true)]
    Peer(crate::peers::Options),
}

impl Default for Command {
    fn default() -> Self {
        Self::Demo(demo::Options::default())
    }
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

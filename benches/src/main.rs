//! `throng-bench`: a demo, a server, a load generator and a comparison, in one binary.
//!
//! [`cli`] parses the command line and runs a command. Each command has a module, with its options at the top.

#[cfg(target_os = "linux")]
mod batch;
mod cli;
mod compare;
mod demo;
mod driver;
mod handles;
mod limits;
#[cfg(target_os = "linux")]
mod listen;
mod load;
mod loader;
mod modes;
mod parent;
mod pause;
#[cfg(all(feature = "peers", target_os = "linux"))]
mod peers;
mod pin;
mod problem;
mod process;
mod progress;
mod reply;
mod report;
mod serve;
mod settings;
mod soak;
mod ticks;
mod timers;
#[cfg(feature = "tls")]
mod tls;
mod torture;
mod usage;
mod values;
mod watch;
mod yardstick;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::explain(&error),
    };
    env_logger::init();
    limits::raise();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            report::complain(&problem);
            ExitCode::from(problem.code)
        }
    }
}

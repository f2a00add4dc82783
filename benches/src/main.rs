//! `throng-bench`: a demo, a server, a load generator and a comparison, in one binary.
//!
//! This file only chooses among them; [`cli`] says what the words on the command line mean.

mod cli;
mod compare;
mod demo;
mod driver;
mod handles;
mod limits;
mod load;
mod loader;
mod modes;
mod pause;
mod pin;
mod problem;
mod process;
mod progress;
mod report;
mod serve;
mod settings;
mod ticks;
mod timers;
mod torture;
mod usage;
mod watch;
mod yardstick;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::explain(&error),
    };
    env_logger::init();
    limits::raise();
    let json = cli.json.as_deref();
    let result = match cli.command.unwrap_or_default() {
        Command::Demo(options) => demo::run(&options, json),
        Command::Serve(options) => serve::run(&options, json),
        Command::Load(options) => load::run(&options, json),
        Command::Compare(options) => compare::run(&options, json),
        Command::Torture(options) => torture::run(&options, json),
        Command::Handles(options) => handles::run(&options, json),
        Command::Ticks(options) => ticks::run(&options, json),
        Command::Timers(options) => timers::run(&options, json),
        Command::Loader(options) => loader::run(&options),
        Command::Yardstick(options) => yardstick::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            report::complain(&problem);
            ExitCode::from(problem.code)
        }
    }
}

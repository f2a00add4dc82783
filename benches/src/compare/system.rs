//! The systems that are compared.

use std::path::PathBuf;

use super::cell::{Cell, Work};
use crate::problem::Problem;
use crate::process::Server;

/// A server, and how it is started.
#[derive(Debug, Clone)]
pub(super) struct System {
    pub(super) name: String,
    /// Another build of this program, if it is not this one.
    program: Option<PathBuf>,
    words: Vec<&'static str>,
    /// Whether it is this crate's, and therefore judged.
    pub(super) is_ours: bool,
}

/// This crate's server, in [`EventLoop::run`](throng::EventLoop::run).
const OURS: &[&str] = &["serve", "--driver", "run"];

impl System {
    fn new(name: &str, words: &[&'static str]) -> Self {
        Self {
            name: name.into(),
            program: None,
            words: words.to_vec(),
            is_ours: words.first() == Some(&"serve"),
        }
    }

    /// This crate's server in another build of this program.
    fn of_another_build(build: &Build) -> Self {
        Self {
            program: Some(build.path.clone()),
            is_ours: false,
            ..Self::new(&build.name, OURS)
        }
    }

    pub(super) fn start(&self, cell: &Cell) -> Result<Server, Problem> {
        let (subcommand, more) = self.words.split_first().unwrap_or((&"serve", &[]));
        let mut more = more.to_vec();
        if cell.work == Work::Broadcast {
            more.extend(["--mode", "broadcast"]);
        }
        match &self.program {
            Some(program) => Server::start_other(program, subcommand, &more),
            None => Server::start_with(subcommand, &more, None),
        }
    }
}

/// Another build of this program.
#[derive(Debug, Clone)]
pub(super) struct Build {
    name: String,
    path: PathBuf,
}

impl Build {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.into(),
                path: path.into(),
            }),
            _ => Err("expected NAME=PATH".into()),
        }
    }
}

/// The systems, the one first to which the others are compared.
pub(super) fn peers(builds: &[Build]) -> Vec<System> {
    let mut systems = vec![
        System::new("raw epoll", &["yardstick"]),
        System::new("throng", OURS),
    ];
    systems.extend(builds.iter().map(System::of_another_build));
    #[cfg(all(feature = "peers", target_os = "linux"))]
    systems.extend(crate::peers::NAMES.map(|name| System::new(name, &["peer", name])));
    systems
}

/// The ways to drive the loop, `EventLoop::run` first.
pub(super) fn drivers() -> Vec<System> {
    vec![
        System::new("run", OURS),
        System::new("turn, outer", &["serve", "--driver", "outer"]),
        System::new("attached", &["serve", "--driver", "attached"]),
    ]
}

/// The first, and those that are named, if any are.
pub(super) fn select(systems: Vec<System>, names: &[String]) -> Result<Vec<System>, Problem> {
    let all: Vec<_> = systems.iter().map(|system| system.name.clone()).collect();
    if let Some(name) = names.iter().find(|name| !all.contains(name)) {
        return Err(Problem::usage(format!(
            "--systems: there is no '{name}', but {}",
            all.join(", ")
        )));
    }
    let is_selected =
        |index, system: &System| index == 0 || names.is_empty() || names.contains(&system.name);
    let systems = systems.into_iter().enumerate();
    let systems = systems.filter(|(index, system)| is_selected(*index, system));
    Ok(systems.map(|(_, system)| system).collect())
}

//! The open-file limit: raised as far as it goes, and what fits under it.

use throng::Stats;

use crate::problem::Problem;
use crate::report;

/// Descriptors a process needs besides those of its connections.
const RESERVE: u64 = 64;

/// Raises the soft limit to the hard one.
#[cfg(unix)]
pub(crate) fn raise() {
    if let Some(mut limit) = get() {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a valid struct that lives through the call.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

#[cfg(not(unix))]
pub(crate) fn raise() {}

#[cfg(unix)]
fn get() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a valid struct that lives through the call.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0).then_some(limit)
}

/// How many files this process may have open, if that is limited.
#[cfg(unix)]
#[allow(clippy::unnecessary_cast, reason = "the type differs between systems")]
fn open_files() -> Option<u64> {
    get().map(|limit| limit.rlim_cur as u64)
}

#[cfg(not(unix))]
fn open_files() -> Option<u64> {
    None
}

/// Cuts a number of connections to what the limit allows, and says so.
pub(crate) fn fit(connections: u32) -> u32 {
    fit_beside(connections, 1, 0)
}

/// The same, where each connection takes `each` descriptors of this process, beside `others`.
pub(crate) fn fit_beside(connections: u32, each: u32, others: u32) -> u32 {
    let (each, others) = (u64::from(each), u64::from(others) + RESERVE);
    let Some(limit) = open_files() else {
        return connections;
    };
    let room = (limit.saturating_sub(others) / each).max(1);
    if u64::from(connections) <= room {
        return connections;
    }
    report::say(format_args!(
        "only {room} connections instead of {connections}: a process may have {limit} open files; raise that with `ulimit -Hn {}`",
        u64::from(connections) * each + others
    ));
    u32::try_from(room).unwrap_or(connections)
}

/// Fails if a loop has had to stop accepting: a client that waits for its connections would wait forever.
pub(crate) fn expect_accepting(stats: &Stats) -> Result<(), Problem> {
    if stats.accept_pauses == 0 {
        return Ok(());
    }
    Err(Problem::failed(
        "connections cannot be accepted: descriptors do not suffice (see `ulimit -n`), or memory",
    ))
}

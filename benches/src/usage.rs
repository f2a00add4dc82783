//! What a process has used: processor time, memory and descriptors. `None` where the system does not tell.

use std::time::Duration;

/// Processor time of a process so far, to the nanosecond.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers are to valid variables that live through the calls.
    let known = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    known.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_time(_: u32) -> Option<Duration> {
    None
}

/// Anonymous memory of a process that is resident, in bytes: heap, stacks and private mappings.
pub(crate) fn anonymous_bytes(pid: u32) -> Option<u64> {
    // The first is exact; the second, for systems without it, lags behind by some pages.
    of_line(&format!("/proc/{pid}/smaps_rollup"), "Anonymous:")
        .or_else(|| of_line(&format!("/proc/{pid}/status"), "RssAnon:"))
}

fn of_line(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The descriptors that a process has open.
pub(crate) fn descriptors(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

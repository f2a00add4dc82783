//! Which processor a process runs on, and with which priority, where that can be chosen.

/// Two processors this process may use: one for a server, one for its load. `None` where there is no choice.
#[cfg(target_os = "linux")]
pub(crate) fn two_processors() -> Option<(usize, usize)> {
    // SAFETY: an all-zero set is a valid, empty one; the call fills in as many bytes as it is told there are.
    let allowed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return None;
        }
        set
    };
    // SAFETY: the index is below the size of the set.
    let mut processors =
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) });
    let first = processors.next()?;
    Some((processors.next_back()?, first))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn two_processors() -> Option<(usize, usize)> {
    None
}

/// Binds a process (0: this thread) to a processor. Returns whether that was possible.
#[cfg(target_os = "linux")]
pub(crate) fn pin(pid: u32, processor: usize) -> bool {
    // SAFETY: an all-zero set is valid, and the processor was found in a set of the same size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(pid as libc::pid_t, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_: u32, _: usize) -> bool {
    false
}

/// Lets a process (0: this thread) run only while no other wants to, so that what it does to a server is not done to its
/// neighbours on the processor.
#[cfg(target_os = "linux")]
pub(crate) fn yield_to_all(pid: u32) {
    schedule(pid, libc::SCHED_IDLE, 0);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn yield_to_all(_: u32) {}

/// Lets a process run whenever it wants to, if this one has the right to do so: then what it measures is not that it has
/// to wait itself.
#[cfg(target_os = "linux")]
pub(crate) fn precede_all(pid: u32) {
    schedule(pid, libc::SCHED_FIFO, 1);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn precede_all(_: u32) {}

#[cfg(target_os = "linux")]
fn schedule(pid: u32, policy: i32, priority: i32) {
    let priority = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the pointer is to a valid variable that lives through the call.
    unsafe { libc::sched_setscheduler(pid as libc::pid_t, policy, &priority) };
}

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

/// Lets this thread run only while no other wants to, so that what it does to a server is not done to its neighbours on the
/// processor.
#[cfg(target_os = "linux")]
pub(crate) fn yield_to_all() {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a valid variable that lives through the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &priority) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn yield_to_all() {}

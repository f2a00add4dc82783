//! Waiting for events more precisely than by the millisecond, which is all a selector knows.

use std::time::Duration;

use throng::EventLoop;

/// Waits until the loop has something to do, or `wait` is over. Returns how long its next turn has to wait itself.
#[cfg(target_os = "linux")]
pub(crate) fn until_readable(event_loop: &EventLoop, wait: Duration) -> Duration {
    use std::os::fd::AsRawFd;
    let wait = event_loop.next_timeout().map_or(wait, |own| own.min(wait));
    let mut fd = libc::pollfd {
        fd: event_loop.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: wait.as_secs() as libc::time_t,
        tv_nsec: wait.subsec_nanos().into(),
    };
    // SAFETY: both pointers are to valid variables that live through the call; no signal mask is given.
    unsafe { libc::ppoll(&mut fd, 1, &timeout, std::ptr::null()) };
    Duration::ZERO
}

/// Elsewhere the turn waits, as precisely as it can: not at all for what is due within a millisecond.
#[cfg(not(target_os = "linux"))]
pub(crate) fn until_readable(_: &EventLoop, wait: Duration) -> Duration {
    wait.saturating_sub(Duration::from_millis(1))
}

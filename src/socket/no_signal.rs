//! Writes that raise no signal.
//!
//! On Unix a write to a broken connection raises SIGPIPE. It terminates a process that has not changed the default
//! action, such as a C program or a Python module that hosts a loop. The flag prevents this for each write. The
//! standard library passes it for plain writes to TCP, in newer versions also to Unix domain sockets, but not for
//! vectored writes.

/// `MSG_NOSIGNAL`, from the headers of each system. Apple's sockets have the option SO_NOSIGPIPE instead; Windows has
/// no such signal.
pub(super) const NO_SIGNAL: i32 = if cfg!(any(
    target_os = "android",
    target_os = "fuchsia",
    target_os = "linux"
)) {
    0x4000
} else if cfg!(target_os = "freebsd") {
    0x2_0000
} else if cfg!(any(
    target_os = "dragonfly",
    target_os = "hurd",
    target_os = "netbsd",
    target_os = "openbsd"
)) {
    0x400
} else if cfg!(any(target_os = "illumos", target_os = "solaris")) {
    0x200
} else if cfg!(target_os = "haiku") {
    0x800
} else if cfg!(target_os = "aix") {
    0x100
} else if cfg!(target_os = "cygwin") {
    0x20
} else {
    0
};

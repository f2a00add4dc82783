//! Kernel settings: buffer sizes, and the detection of unreachable peers. Settings that a platform does not support
//! return an error.

use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::config::ConnectionOptions;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Applies the options to a TCP socket.
pub(super) fn tune(socket: &Socket, options: &ConnectionOptions) -> io::Result<()> {
    size_buffers(socket, options)?;
    if let Some(bytes) = options.max_unsent_in_kernel {
        set_max_unsent(socket, bytes)?;
    }
    if let Some(after) = options.keepalive {
        // Most systems support whole seconds only.
        let after = rounded_up(after, SECOND);
        set_keepalive(socket, after, rounded_up(after / 4, SECOND))?;
    }
    if let Some(after) = options.user_timeout {
        // Less than a millisecond would become zero, which means no limit.
        set_user_timeout(socket, rounded_up(after, MILLISECOND))?;
    }
    Ok(())
}

/// Applies the options that any socket supports. TCP uses the receive buffer when it listens or connects to choose its
/// window scale.
pub(super) fn size_buffers(socket: &Socket, options: &ConnectionOptions) -> io::Result<()> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    Ok(())
}

/// Resets what a previous owner may have set: blocking mode, lingering on close, inheritance by child processes, and
/// signals on write.
pub(super) fn take_over(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_linger(None)?;
    #[cfg(unix)]
    socket.set_cloexec(true)?;
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    Ok(())
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn set_max_unsent(socket: &Socket, bytes: u64) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX))
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn set_max_unsent(_: &Socket, _: u64) -> io::Result<()> {
    let message =
        "max_unsent_in_kernel: this platform's TCP_NOTSENT_LOWAT is missing or cannot be reached";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

#[cfg(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    windows
))]
fn set_keepalive(socket: &Socket, after: Duration, every: Duration) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(after)
        .with_interval(every)
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(not(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    windows
)))]
fn set_keepalive(_: &Socket, _: Duration, _: Duration) -> io::Result<()> {
    let message = "this platform has no TCP_KEEPIDLE";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn set_user_timeout(socket: &Socket, after: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(after))
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn set_user_timeout(_: &Socket, _: Duration) -> io::Result<()> {
    let message = "this platform has no TCP_USER_TIMEOUT";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// Rounds a duration up to a multiple of `unit`: a system that counts in units would truncate it.
fn rounded_up(duration: Duration, unit: Duration) -> Duration {
    let units = duration.as_nanos().div_ceil(unit.as_nanos());
    unit * u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{Config, ListenOptions};

    /// Returns the kernel's keepalive time and interval, and its user timeout.
    fn told(config: Config) -> (Duration, Duration, Option<Duration>) {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let options = ListenOptions::default().connection(&config);
        tune(&socket, &options.expect("valid options")).expect("supported on Linux");
        (
            socket.tcp_keepalive_time().expect("an open socket"),
            socket.tcp_keepalive_interval().expect("an open socket"),
            socket.tcp_user_timeout().expect("an open socket"),
        )
    }

    #[test]
    fn times_are_rounded_up_to_what_the_kernel_counts() {
        let nanosecond = Duration::from_nanos(1);
        let shortest = Config::default()
            .keepalive(nanosecond)
            .user_timeout(nanosecond);
        assert_eq!(told(shortest), (SECOND, SECOND, Some(MILLISECOND)));
        let between = Config::default()
            .keepalive(4 * SECOND + MILLISECOND)
            .user_timeout(MILLISECOND + nanosecond);
        let expected = (5 * SECOND, 2 * SECOND, Some(2 * MILLISECOND));
        assert_eq!(told(between), expected);
    }

    #[test]
    fn longest_times_are_taken_by_the_kernel() {
        let keepalive = Duration::from_secs(32_767);
        let user_timeout = Duration::from_millis(2_147_483_647);
        let longest = Config::default()
            .keepalive(keepalive)
            .user_timeout(user_timeout);
        let (time, _, timeout) = told(longest);
        assert_eq!((time, timeout), (keepalive, Some(user_timeout)));
    }

    #[test]
    fn kernel_is_told_what_the_options_say() {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let config = Config::default().keepalive(60 * SECOND);
        let options = ListenOptions::default().user_timeout(1500 * MILLISECOND);
        let options = options.connection(&config).expect("valid options");
        tune(&socket, &options).expect("supported on Linux");
        assert!(socket.keepalive().expect("an open socket"));
        assert_eq!(socket.tcp_keepalive_retries().expect("an open socket"), 4);
        let config = config.user_timeout(1500 * MILLISECOND);
        let expected = (60 * SECOND, 15 * SECOND, Some(1500 * MILLISECOND));
        assert_eq!(told(config), expected);
    }
}

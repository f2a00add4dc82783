//! What the kernel is asked for: sizes of its buffers, and what it does about peers that have vanished. Not every platform
//! can do all of it, and one that cannot says so.

use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::config::ConnectionOptions;

/// Asks the kernel for what the options ask for, of a TCP socket.
pub(super) fn tune(socket: &Socket, options: &ConnectionOptions) -> io::Result<()> {
    size_buffers(socket, options)?;
    if let Some(bytes) = options.max_unsent_in_kernel {
        set_max_unsent(socket, bytes)?;
    }
    if let Some(after) = options.keepalive {
        set_keepalive(socket, after)?;
    }
    if let Some(after) = options.user_timeout {
        set_user_timeout(socket, after)?;
    }
    Ok(())
}

/// Asks for what any socket has. TCP looks at the receive buffer when it listens or connects, and chooses its window scale
/// by it.
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

/// Undoes what a socket of another owner may bring along: that calls block, that a close blocks, that child processes keep
/// it open, and that a write raises a signal.
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
fn set_keepalive(socket: &Socket, after: Duration) -> io::Result<()> {
    // Most systems know whole seconds only.
    let second = Duration::from_secs(1);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(after.max(second))
        .with_interval((after / 4).max(second))
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
fn set_keepalive(_: &Socket, _: Duration) -> io::Result<()> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{Config, ListenOptions};

    #[test]
    fn the_kernel_is_told_what_the_options_say() {
        let stream = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let stream = stream.expect("a socket");
        let config = Config::default().keepalive(Duration::from_secs(60));
        let options = ListenOptions::default().user_timeout(Duration::from_millis(1500));
        let options = options.connection(&config).expect("they are right");
        tune(&stream, &options).expect("it is Linux");
        assert!(stream.keepalive().expect("an open socket"));
        let seconds =
            |duration: io::Result<Duration>| duration.expect("an open socket").as_secs_f64();
        assert_eq!(seconds(stream.tcp_keepalive_time()), 60.0);
        assert_eq!(seconds(stream.tcp_keepalive_interval()), 15.0);
        assert_eq!(stream.tcp_keepalive_retries().expect("an open socket"), 4);
        assert_eq!(
            stream.tcp_user_timeout().expect("an open socket"),
            Some(Duration::from_millis(1500))
        );
    }
}

//! The yardstick: an echo server of the same protocol on raw epoll, with the least work that is correct.
//!
//! It has no limits, no deadlines, no reasons, no handler, and takes a peer at its word about the length of a frame. What
//! it does it does as well as is known: one shared read buffer, edge-triggered readiness, no read after a short one, one
//! write for all the replies of a read, a large frame read into a buffer of its own and written from there.

use clap::Args;

use crate::parent::Parent;
use crate::problem::Problem;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    addr: String,
    #[command(flatten)]
    parent: Parent,
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: &Options) -> Result<(), Problem> {
    Err(Problem::usage(
        "the raw server needs epoll, which only Linux has",
    ))
}

#[cfg(target_os = "linux")]
pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    linux::run(options)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, RawFd};
    use std::ptr;

    use super::{Options, Parent, Problem};
    use crate::{report, values};

    const BUFFER: usize = 64 * 1024;
    const HEADER: usize = 4;
    const EVENTS: usize = 1024;
    const BACKLOG: i32 = 4096;
    /// How long a wait for events is, in milliseconds, before it is looked whether anybody still wants this server.
    const LOOK_UP_EVERY: i32 = 1000;
    const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
    const WRITE: u32 = libc::EPOLLOUT as u32;
    const CLOSED: u32 = libc::EPOLLRDHUP as u32;

    pub(super) fn run(options: &Options) -> Result<(), Problem> {
        let listener = TcpListener::bind(&values::resolve(&options.addr)?[..])
            .and_then(|listener| prepare(&listener).map(|()| listener))
            .map_err(|error| {
                Problem::usage(format!("cannot listen on {}: {error}", options.addr))
            })?;
        report::say(format_args!("listening on {}", listener.local_addr()?));
        Ok(serve(listener.as_raw_fd(), options.parent)?)
    }

    /// A longer backlog, and TCP_NODELAY, which accepted sockets inherit.
    fn prepare(listener: &TcpListener) -> io::Result<()> {
        let fd = listener.as_raw_fd();
        let on = 1_i32;
        // SAFETY: the pointer is to a variable that lives through the call, and the size is its own.
        check(unsafe {
            libc::setsockopt(
                fd,
                libc::IPPROTO_TCP,
                libc::TCP_NODELAY,
                (&raw const on).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        })?;
        // SAFETY: no pointers are passed.
        check(unsafe { libc::listen(fd, BACKLOG) })?;
        listener.set_nonblocking(true)
    }

    fn serve(listener: RawFd, parent: Parent) -> io::Result<()> {
        // SAFETY: no pointers are passed.
        let epoll = check(unsafe { libc::epoll_create1(0) })?;
        control(epoll, libc::EPOLL_CTL_ADD, listener, libc::EPOLLIN as u32)?;
        let mut buffers = Buffers {
            read: vec![0; BUFFER],
            replies: Vec::with_capacity(BUFFER),
        };
        // By descriptor.
        let mut peers: Vec<Option<Box<Peer>>> = Vec::new();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        loop {
            // SAFETY: there is room for as many events as the call is told.
            let count = check(unsafe {
                libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, LOOK_UP_EVERY)
            });
            let count = match count {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count? as usize,
            };
            if count == 0 && parent.is_gone() {
                return Ok(());
            }
            for event in &events[..count] {
                let (fd, what) = (event.u64 as RawFd, event.events);
                if fd == listener {
                    accept(epoll, listener, &mut peers)?;
                } else if let Some(peer) = &mut peers[fd as usize]
                    && peer.serve(epoll, what, &mut buffers).is_err()
                {
                    peers[fd as usize] = None;
                }
            }
        }
    }

    fn accept(epoll: RawFd, listener: RawFd, peers: &mut Vec<Option<Box<Peer>>>) -> io::Result<()> {
        for _ in 0..64 {
            // SAFETY: null says that the address of the peer is not wanted.
            let accepted = check(unsafe {
                libc::accept4(
                    listener,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    libc::SOCK_NONBLOCK,
                )
            });
            let Ok(fd) = accepted else {
                break;
            };
            let slot = fd as usize;
            if peers.len() <= slot {
                peers.resize_with(slot + 1, || None);
            }
            peers[slot] = Some(Box::new(Peer {
                fd,
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
            }));
            control(epoll, libc::EPOLL_CTL_ADD, fd, READ)?;
        }
        Ok(())
    }

    /// What all connections share.
    struct Buffers {
        read: Vec<u8>,
        replies: Vec<u8>,
    }

    /// A connection. Its buffers are empty unless a frame came, or went, in pieces.
    struct Peer {
        fd: RawFd,
        /// The beginning of a frame, header included.
        input: Vec<u8>,
        /// Replies the socket did not take, and how much of them it took since.
        output: Vec<u8>,
        written: usize,
    }

    impl Peer {
        /// An error, or the end of the stream, is the end of the connection.
        fn serve(&mut self, epoll: RawFd, what: u32, buffers: &mut Buffers) -> io::Result<()> {
            if what & WRITE != 0 {
                self.write_on(epoll)?;
            }
            loop {
                let len = self.input.first_chunk().map(|len| u32::from_le_bytes(*len));
                let drained = match len {
                    Some(len) if HEADER + len as usize > BUFFER => {
                        self.read_large(HEADER + len as usize, epoll)?
                    }
                    _ => self.read_small(epoll, buffers)?,
                };
                if drained && what & CLOSED == 0 {
                    return Ok(());
                }
            }
        }

        /// Reads behind what is held, and replies to the frames that are whole. Returns whether the socket is empty.
        fn read_small(&mut self, epoll: RawFd, buffers: &mut Buffers) -> io::Result<bool> {
            let Buffers { read, replies } = buffers;
            let held = self.input.len();
            let Some(n) = receive(self.fd, &mut read[held..])? else {
                return Ok(true);
            };
            read[..held].copy_from_slice(&self.input);
            self.input.clear();
            let mut rest = &read[..held + n];
            replies.clear();
            while let Some((header, body)) = rest.split_first_chunk::<HEADER>()
                && let Some((payload, next)) =
                    body.split_at_checked(u32::from_le_bytes(*header) as usize)
            {
                replies.extend_from_slice(header);
                replies.extend_from_slice(payload);
                rest = next;
            }
            self.input.extend_from_slice(rest);
            if !replies.is_empty() {
                let sent = self.write(replies)?;
                self.keep(&replies[sent..], epoll)?;
            }
            Ok(n < read.len() - held)
        }

        /// Reads the rest of a large frame where it belongs, and sends it from there.
        fn read_large(&mut self, frame: usize, epoll: RawFd) -> io::Result<bool> {
            let room = frame - self.input.len();
            self.input.reserve_exact(room);
            let Some(n) = receive_behind(self.fd, &mut self.input, room)? else {
                return Ok(true);
            };
            if n == room {
                let sent = self.write(&self.input)?;
                if sent < frame && self.output.is_empty() {
                    std::mem::swap(&mut self.input, &mut self.output);
                    self.written = sent;
                    control(epoll, libc::EPOLL_CTL_MOD, self.fd, READ | WRITE)?;
                } else {
                    let frame = std::mem::take(&mut self.input);
                    self.keep(&frame[sent..], epoll)?;
                    self.input = frame;
                }
                self.input.clear();
            }
            Ok(n < room)
        }

        /// Sends at once what may be sent at once.
        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            if self.output.is_empty() {
                send(self.fd, bytes)
            } else {
                Ok(0)
            }
        }

        /// Keeps what was not sent until there is room for it.
        fn keep(&mut self, unsent: &[u8], epoll: RawFd) -> io::Result<()> {
            if unsent.is_empty() {
                return Ok(());
            }
            if self.output.is_empty() {
                control(epoll, libc::EPOLL_CTL_MOD, self.fd, READ | WRITE)?;
            }
            self.output.extend_from_slice(unsent);
            Ok(())
        }

        fn write_on(&mut self, epoll: RawFd) -> io::Result<()> {
            if self.written < self.output.len() {
                self.written += send(self.fd, &self.output[self.written..])?;
                if self.written == self.output.len() {
                    self.output.clear();
                    self.written = 0;
                    control(epoll, libc::EPOLL_CTL_MOD, self.fd, READ)?;
                }
            }
            Ok(())
        }
    }

    impl Drop for Peer {
        fn drop(&mut self) {
            // SAFETY: the descriptor was accepted for this peer and is used by nobody else.
            unsafe { libc::close(self.fd) };
        }
    }

    fn control(epoll: RawFd, operation: i32, fd: RawFd, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events,
            u64: fd as u64,
        };
        // SAFETY: the event lives through the call.
        check(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) })?;
        Ok(())
    }

    /// How many bytes were taken; none if there is no room.
    fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of a slice.
        let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => would_block(0),
        }
    }

    fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the pointer and the length are those of a slice.
        received(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
    }

    /// Appends up to `room` bytes to a buffer that has as much to spare.
    fn receive_behind(fd: RawFd, buffer: &mut Vec<u8>, room: usize) -> io::Result<Option<usize>> {
        let spare = buffer.spare_capacity_mut();
        let room = room.min(spare.len());
        // SAFETY: the call writes at most `room` bytes, which are there to spare.
        let result = received(unsafe { libc::recv(fd, spare.as_mut_ptr().cast(), room, 0) })?;
        if let Some(n) = result {
            // SAFETY: the call has written so many bytes behind the others.
            unsafe { buffer.set_len(buffer.len() + n) };
        }
        Ok(result)
    }

    /// `None` if there is nothing to read; the end of the stream is an error.
    fn received(n: isize) -> io::Result<Option<usize>> {
        match usize::try_from(n) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => Ok(Some(n)),
            Err(_) => would_block(None),
        }
    }

    fn would_block<T>(instead: T) -> io::Result<T> {
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(instead),
            _ => Err(error),
        }
    }

    fn check(result: i32) -> io::Result<i32> {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }
}

//! Peers that send as fast as they can, and read what comes back, beside others that want an answer now and then.
//!
//! They keep the processor busy that they share with the clients that measure, and these wait for it longer, whatever the
//! server does. So they never stop: while the server is without them, they send to another one, which runs on their own
//! processor. The difference is what the server makes of them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;

use socket2::SockRef;

use super::bench::Bench;
use super::verdict::Verdict;
use crate::pin;
use crate::problem::Problem;

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    let mut verdicts = Vec::new();
    for (count, size) in [(6, 16), (6, 1024), (6, 64 * 1024), (100, 1024)] {
        let (server, elsewhere) = (bench.serve(&[])?, bench.serve_aside()?);
        let start = |addr| {
            let firehoses = (0..count).map(|_| Firehose::start(addr, size));
            firehoses.collect::<Result<Vec<_>, _>>()
        };
        let mut firehoses = start(elsewhere.addr)?;
        let times = bench.disturbance(&server, |on| {
            firehoses.clear();
            firehoses = start(if on { server.addr } else { elsewhere.addr })?;
            Ok(())
        })?;
        let what = format!("{count} send frames of {size} bytes");
        verdicts.push(bench.slowdown(&what, times, 2.0));
    }
    Ok(verdicts)
}

/// What the kernel may buffer for a peer in each direction. With the megabytes that it allows by default, one system call
/// can move data for a millisecond or two, in which no client that measures gets the processor, whatever its priority.
const BUFFER: usize = 128 * 1024;

struct Firehose {
    stream: TcpStream,
    threads: Vec<JoinHandle<()>>,
}

impl Firehose {
    fn start(addr: SocketAddr, size: usize) -> Result<Self, Problem> {
        let stream = TcpStream::connect(addr)?;
        SockRef::from(&stream).set_send_buffer_size(BUFFER)?;
        SockRef::from(&stream).set_recv_buffer_size(BUFFER)?;
        let (mut writer, mut reader) = (stream.try_clone()?, stream.try_clone()?);
        let writer = std::thread::spawn(move || {
            pin::yield_to_all(0);
            let mut frame = (size as u32).to_le_bytes().to_vec();
            frame.resize(frame.len() + size, 7);
            let frames = frame.repeat((16 * 1024 / frame.len()).max(1));
            while writer.write_all(&frames).is_ok() {}
        });
        let reader = std::thread::spawn(move || {
            pin::yield_to_all(0);
            let mut buffer = vec![0; 32 * 1024];
            while matches!(reader.read(&mut buffer), Ok(1..)) {}
        });
        Ok(Self {
            stream,
            threads: vec![writer, reader],
        })
    }
}

impl Drop for Firehose {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

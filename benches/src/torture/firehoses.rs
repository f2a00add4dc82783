//! Peers that send as fast as they can, and read what comes back, beside others that want an answer now and then.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;

use super::bench::Bench;
use super::verdict::Verdict;
use crate::pin;
use crate::problem::Problem;

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    let mut verdicts = Vec::new();
    for (count, size) in [(6, 16), (6, 1024), (6, 64 * 1024), (100, 1024)] {
        let server = bench.serve(&[])?;
        let mut firehoses = Vec::new();
        let times = bench.disturbance(&server, |on| {
            if on {
                for _ in 0..count {
                    firehoses.push(Firehose::start(server.addr, size)?);
                }
            } else {
                firehoses.drain(..).for_each(Firehose::stop);
            }
            Ok(())
        })?;
        let what = format!("{count} send frames of {size} bytes");
        verdicts.push(bench.slowdown(&what, times, 2.0));
    }
    Ok(verdicts)
}

struct Firehose {
    stream: TcpStream,
    threads: [JoinHandle<()>; 2],
}

impl Firehose {
    fn start(addr: SocketAddr, size: usize) -> Result<Self, Problem> {
        let stream = TcpStream::connect(addr)?;
        let (mut writer, mut reader) = (stream.try_clone()?, stream.try_clone()?);
        let writer = std::thread::spawn(move || {
            pin::yield_to_all();
            let mut frame = (size as u32).to_le_bytes().to_vec();
            frame.resize(frame.len() + size, 7);
            let frames = frame.repeat((16 * 1024 / frame.len()).max(1));
            while writer.write_all(&frames).is_ok() {}
        });
        let reader = std::thread::spawn(move || {
            pin::yield_to_all();
            let mut buffer = vec![0; 32 * 1024];
            while matches!(reader.read(&mut buffer), Ok(1..)) {}
        });
        Ok(Self {
            stream,
            threads: [writer, reader],
        })
    }

    fn stop(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

//! A peer that sends and sends to an echo server, and reads nothing of what comes back.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;

use super::bench::Bench;
use super::peak::Peak;
use super::units::{KIB, MIB};
use super::verdict::Verdict;
use crate::pin;
use crate::problem::Problem;

/// Payload of a frame, in bytes.
const FRAME: u64 = 64 * KIB;
/// What the library lets wait unless it is told otherwise.
const MAX_QUEUED: u64 = 16 * MIB;

pub(super) fn run(bench: &Bench) -> Result<Vec<Verdict>, Problem> {
    let mut verdicts = Vec::new();
    for (settings, how) in [
        (&[][..], "is not read"),
        (&["--read-under-backpressure"], "is read all the same"),
    ] {
        let server = bench.serve(settings)?;
        let mut attacker: Option<Attacker> = None;
        let mut peak = None;
        let times = bench.disturbance(&server, |on| {
            if on {
                peak.get_or_insert(Peak::watch(&server)?);
                attacker = Some(Attacker::start(server.addr, bench.bytes(400 * MIB))?);
            } else if let Some(attacker) = attacker.take() {
                attacker.stop();
            }
            Ok(())
        })?;
        let growth = peak.as_ref().map_or(0, Peak::growth);
        // What is seen is the memory of the process: the allocator takes a little around each of 256 frames.
        let bound = (MAX_QUEUED + FRAME + 64 * KIB) * 102 / 100;
        verdicts.push(Verdict::memory(format!("it {how}: memory"), growth, bound));
        verdicts.push(bench.slowdown(&format!("it {how}: others"), times, 2.0));
    }
    Ok(verdicts)
}

struct Attacker {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Attacker {
    fn start(addr: SocketAddr, bytes: u64) -> Result<Self, Problem> {
        let stream = TcpStream::connect(addr)?;
        let mut writer = stream.try_clone()?;
        let thread = std::thread::spawn(move || {
            pin::yield_to_all(0);
            let mut frame = (FRAME as u32).to_le_bytes().to_vec();
            frame.resize(frame.len() + FRAME as usize, 7);
            for _ in 0..bytes / FRAME {
                // Blocks as soon as the server stops reading, until it is stopped.
                if writer.write_all(&frame).is_err() {
                    return;
                }
            }
        });
        Ok(Self { stream, thread })
    }

    fn stop(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.join();
    }
}

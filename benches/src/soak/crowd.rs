//! Clients that come and go, or come in numbers.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::metrics::{Control, PAUSES};
use super::server::{BROADCAST, ECHO, KICK, KICK_AND_DROP, LAST_WORDS, kicked_frames};
use super::wire::Wire;
use super::{DESCRIPTORS, PATIENCE, Tally, Work};
use crate::problem::Problem;

/// Connects, sends a little, and leaves in one of the ways in which peers leave.
pub(super) fn churn(mut work: Work<'_>) -> Result<Tally, Problem> {
    let mut tally = Tally::default();
    while work.goes_on() {
        tally.connections += 1;
        let mut wire = Wire::connect(work.addr, ECHO, 0)?;
        let random = &mut work.random;
        let count = 1 + random.below(4);
        let payloads: Vec<_> = (0..count).map(|_| random.frame(10_000)).collect();
        let way = random.below(7);
        if way == 0 {
            // Before anything was sent but the service.
            continue;
        }
        wire.send_all(payloads.iter().map(Vec::as_slice))?;
        match way {
            // A reset: replies are left unread.
            1 => wire.await_arrival()?,
            // Inside a frame.
            2 => wire.0.write_all(&[200, 0, 0, 0, 1, 2, 3])?,
            // A reset with a full queue: the server cannot write any more.
            3 => {
                let large = random.payload(200_000);
                wire.send_all(std::iter::repeat_n(&large[..], 5))?;
                wire.await_arrival()?;
            }
            // Everything comes back, then one side closes first.
            4 | 5 => {
                if way == 4 {
                    wire.0.shutdown(Shutdown::Write)?;
                }
                for payload in &payloads {
                    wire.expect(payload)?;
                    tally.frames += 1;
                    tally.bytes += payload.len() as u64 + 4;
                }
                if way == 4 {
                    wire.expect_end()?;
                }
            }
            // At once.
            _ => {}
        }
    }
    Ok(tally)
}

/// A room: what one member sends, all receive, in the same order.
pub(super) fn broadcast(mut work: Work<'_>) -> Result<Tally, Problem> {
    let mut tally = Tally::default();
    while work.goes_on() {
        let room = work.random.next();
        let mut members = Vec::new();
        for number in 0..12_u64 {
            let mut member = Wire::connect(work.addr, BROADCAST, room)?;
            // Its first frame comes back when it is in the room.
            member.send(&number.to_le_bytes())?;
            members.push(member);
            for member in &mut members {
                member.expect(&number.to_le_bytes())?;
            }
        }
        tally.connections += members.len() as u64;
        for _ in 0..50 {
            if !work.goes_on() {
                break;
            }
            let count = 1 + work.random.below(8);
            let payloads: Vec<_> = (0..count).map(|_| work.random.frame(20_000)).collect();
            let speaker = work.random.below(members.len() as u64) as usize;
            members[speaker].send_all(payloads.iter().map(Vec::as_slice))?;
            for member in &mut members {
                for payload in &payloads {
                    member.expect(payload)?;
                    tally.frames += 1;
                    tally.bytes += payload.len() as u64 + 4;
                }
            }
        }
    }
    Ok(tally)
}

/// Is disconnected with a last message, and must have received everything before it, or at least what was not dropped.
pub(super) fn kick(mut work: Work<'_>) -> Result<Tally, Problem> {
    let mut tally = Tally::default();
    while work.goes_on() {
        tally.connections += 1;
        let seed = work.random.next();
        let drops = work.random.below(2) == 0;
        let service = if drops { KICK_AND_DROP } else { KICK };
        let mut wire = Wire::connect(work.addr, service, seed)?;
        let mut expected = kicked_frames(seed);
        loop {
            let received = wire.receive()?;
            let received = received.ok_or_else(|| Problem::failed("no last words"))?;
            tally.frames += 1;
            tally.bytes += received.len() as u64 + 4;
            if received == LAST_WORDS {
                break;
            }
            if expected.next().as_ref() != Some(&received) {
                return Err(Problem::failed("a frame before the last words has changed"));
            }
        }
        let missing = expected.count();
        if !drops && missing > 0 {
            return Err(Problem::failed(format!(
                "{missing} frames are missing before the last words"
            )));
        }
        wire.expect_end()?;
    }
    Ok(tally)
}

/// More connections than the server has descriptors for: all of them are served, those that wait when others leave.
pub(super) fn exhaust_descriptors(mut work: Work<'_>) -> Result<Tally, Problem> {
    let mut tally = Tally::default();
    let mut control = Control::connect(work.addr)?;
    while work.goes_on() {
        let before = control.ask()?.value(PAUSES);
        let mut waiting = Vec::new();
        for number in 0..u64::from(DESCRIPTORS) + 40 {
            let mut wire = Wire::connect(work.addr, ECHO, 0)?;
            wire.send(&number.to_le_bytes())?;
            waiting.push(wire);
        }
        let deadline = Instant::now() + PATIENCE;
        while control.ask()?.value(PAUSES) == before {
            if Instant::now() > deadline {
                return Err(Problem::failed(
                    "the server does not run out of descriptors",
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for (number, mut wire) in waiting.into_iter().enumerate() {
            wire.expect(&(number as u64).to_le_bytes())?;
            tally.connections += 1;
            tally.frames += 1;
            tally.bytes += 12;
        }
        // Others have the descriptors meanwhile.
        let left = work.until.saturating_duration_since(Instant::now());
        let rest = Duration::from_millis(500 + work.random.below(3000));
        std::thread::sleep(rest.min(left));
    }
    Ok(tally)
}

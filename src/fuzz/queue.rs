//! The write queue, compared with a list of frames.

use super::input::Input;
use crate::frame::Framing;
use crate::write_queue::model::{Step, run};

/// Queues frames of all kinds, and writes them.
pub fn queue(data: &[u8]) {
    let mut input = Input(data);
    let framing = match input.flag() {
        true => Framing::default(),
        false => Framing::delimiter(b'\n'),
    };
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < 60 {
        steps.push(match input.below(10) {
            0 => Step::Send {
                shared: input.flag(),
                len: input.len(),
            },
            1 => {
                let len = input.len();
                let at_a_time = 1 + input.len() + len / 32;
                Step::Reader { len, at_a_time }
            }
            2 => Step::Begin { len: input.len() },
            3 => Step::Chunk { len: input.len() },
            4 => Step::Finish,
            5 | 6 => Step::Latest {
                slot: input.below(3) as u32,
                len: input.len(),
            },
            7 => Step::Wake,
            8 => Step::Write(input.len()),
            _ => Step::WriteFrame,
        });
    }
    run(framing, steps);
}

//! The cells of the matrix: shapes of load.

use std::fmt;
use std::time::Duration;

use crate::load::{Kind, Pace, Shape};
use crate::values;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) work: Work,
    pub(super) connections: u32,
    in_flight: u32,
    size: u32,
}

/// What the connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Each sends, and gets back what it has sent.
    Echo,
    /// The same, but only one in a hundred sends at all.
    Idle,
    /// One sends, and all get it.
    Broadcast,
    /// Each sends a frame, gets it back, and is replaced by another.
    Churn,
}

const MIB: u32 = 1 << 20;

/// What is measured unless cells are named.
pub(super) const CELLS: [Cell; 18] = [
    Cell::new(Work::Echo, 1, 1, 64),
    Cell::new(Work::Echo, 50, 1, 64),
    Cell::new(Work::Echo, 50, 1, 1024),
    Cell::new(Work::Echo, 50, 32, 64),
    Cell::new(Work::Echo, 50, 16, 512),
    Cell::new(Work::Echo, 1_000, 1, 64),
    Cell::new(Work::Echo, 1_000, 16, 64),
    Cell::new(Work::Echo, 10_000, 1, 64),
    Cell::new(Work::Echo, 10_000, 8, 64),
    Cell::new(Work::Echo, 50, 16, 4096),
    Cell::new(Work::Echo, 50, 8, 16_384),
    Cell::new(Work::Echo, 100, 4, 65_536),
    Cell::new(Work::Echo, 4, 2, MIB),
    Cell::new(Work::Echo, 1, 1, 64 * MIB),
    Cell::new(Work::Broadcast, 1_000, 1, 64),
    Cell::new(Work::Broadcast, 1_000, 8, 64),
    Cell::new(Work::Idle, 18_000, 1, 64),
    Cell::new(Work::Churn, 50, 1, 64),
];

/// From this many bytes on a frame is large, and judged by the floor below.
const LARGE_FROM: u32 = 256 * 1024;
const LARGE_FLOOR: f64 = 0.80;
/// How long one system is loaded before the next has its turn.
const SLICE: Duration = Duration::from_millis(100);

impl Cell {
    const fn new(work: Work, connections: u32, in_flight: u32, size: u32) -> Self {
        Self {
            work,
            connections,
            in_flight,
            size,
        }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (work, numbers) = match text.split_once('_') {
            Some(("idle", numbers)) => (Work::Idle, numbers),
            Some(("broadcast", numbers)) => (Work::Broadcast, numbers),
            Some(("churn", numbers)) => (Work::Churn, numbers),
            _ => (Work::Echo, text),
        };
        let numbers: Result<Vec<u64>, _> = numbers.split('_').map(values::bytes).collect();
        let numbers = numbers.unwrap_or_default();
        let numbers: Vec<u32> = numbers.into_iter().flat_map(u32::try_from).collect();
        match numbers[..] {
            [connections, in_flight, size]
                if connections > 0
                    && (1..=1024).contains(&in_flight)
                    && (in_flight == 1 || work != Work::Churn)
                    && size <= 1 << 30 =>
            {
                Ok(Self::new(work, connections, in_flight, size))
            }
            _ => Err(
                "expected CONNECTIONS_IN-FLIGHT_BYTES, such as 1000_1_64, or that after idle_, broadcast_ or churn_ (1 in flight)"
                    .into(),
            ),
        }
    }

    pub(super) fn with_connections(self, connections: u32) -> Self {
        Self {
            connections,
            ..self
        }
    }

    pub(super) fn shape(&self) -> Shape {
        let pace = Pace::InFlight(self.in_flight);
        Shape {
            kind: match self.work {
                Work::Echo | Work::Idle => Kind::Echo,
                Work::Broadcast => Kind::Broadcast,
                Work::Churn => Kind::Churn,
            },
            active: (self.work == Work::Idle).then_some(self.connections.div_ceil(100)),
            ..Shape::echo(self.connections, pace, self.size)
        }
    }

    /// How long one system is loaded before the next has its turn: long enough for many frames.
    pub(super) fn slice(&self) -> Duration {
        let factor = match self.size {
            // What a frame costs depends on how many receivers wake up at once.
            _ if self.work == Work::Broadcast => 4,
            _ if self.connections >= 5_000 => 3,
            0..MIB => 1,
            MIB..0x100_0000 => 3,
            _ => 6,
        };
        SLICE * factor
    }

    /// The ratio that is good enough, given the one asked for.
    pub(super) fn floor(&self, floor: f64) -> f64 {
        if self.size >= LARGE_FROM {
            floor.min(LARGE_FLOOR)
        } else {
            floor
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.work {
            Work::Echo => {}
            Work::Idle => f.write_str("idle_")?,
            Work::Broadcast => f.write_str("broadcast_")?,
            Work::Churn => f.write_str("churn_")?,
        }
        write!(f, "{}_{}_", self.connections, self.in_flight)?;
        match self.size {
            size if size > 0 && size.is_multiple_of(MIB) => write!(f, "{}MiB", size / MIB),
            size => write!(f, "{size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_is_parsed_from_its_display() {
        for cell in CELLS {
            assert_eq!(Cell::parse(&cell.to_string()), Ok(cell));
        }
        let expected = Cell::new(Work::Echo, 4, 2, 1 << 20);
        assert_eq!(Cell::parse("4_2_1048576"), Ok(expected));
        assert_eq!(expected.to_string(), "4_2_1MiB");
    }

    #[test]
    fn cell_is_not_parsed_from_anything_else() {
        for wrong in [
            "",
            "50_32",
            "0_1_64",
            "1_0_64",
            "1_2000_64",
            "a_b_c",
            "1_1_1_1",
            "1_1_2GiB",
            "idle_1_1",
            "churn_50_2_64",
            "fly_1_1_64",
        ] {
            assert!(Cell::parse(wrong).is_err(), "{wrong}");
        }
    }
}

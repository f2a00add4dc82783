//! The bodies of the fuzz targets in `fuzz/`. Each takes any bytes as instructions, carries them out, compares the outcome
//! with a slow and obvious model, and panics if they differ.
//!
//! The module exists in tests, which run the bodies on stored and random inputs, and with `--cfg fuzzing`, which
//! `cargo fuzz` sets.

mod decoder;
mod format;
mod input;
mod options;
mod queue;
#[cfg(unix)]
mod reactor;
mod round_trip;
#[cfg(test)]
mod tests;
mod timers;

pub use decoder::decoder;
pub use options::options;
pub use queue::queue;
#[cfg(unix)]
pub use reactor::reactor;
pub use round_trip::round_trip;
pub use timers::timers;

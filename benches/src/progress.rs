//! How far it is: a line that moves on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report;

/// How often a line is printed where nothing can move.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    printed: Instant,
}

impl Progress {
    /// Starts to show something that ends at `length`.
    pub(crate) fn new(length: u64) -> Self {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(length);
            if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan/blue} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            printed: Instant::now(),
        }
    }

    pub(crate) fn at(&mut self, position: u64, message: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(message());
            }
            None if self.printed.elapsed() >= PLAIN_EVERY => {
                self.printed = Instant::now();
                report::say(format_args!("{}", message()));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

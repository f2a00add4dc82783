//! What a load measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::schedule::Outcome;
use crate::report::{self, grouped};

/// What came of it, over some time.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) frames: u64,
    pub(crate) elapsed: Duration,
    /// Processor time of this process.
    pub(crate) own_cpu: Option<Duration>,
    /// From when a frame was sent, or due, to having it back, in nanoseconds.
    pub(super) latency: Option<Histogram<u64>>,
    /// What became of the frames that were due, if the time set the pace.
    pub(crate) open_loop: Option<Outcome>,
}

impl Figures {
    /// Adds those of a later stretch of the same load.
    pub(crate) fn add(&mut self, later: &Self) {
        self.frames += later.frames;
        self.elapsed += later.elapsed;
        let own_cpu = self.own_cpu.zip(later.own_cpu);
        self.own_cpu = own_cpu.map(|(one, other)| one + other);
        if let (Some(all), Some(more)) = (&mut self.latency, &later.latency) {
            // Both have the same bounds, so that all fit.
            let _ = all.add(more);
        }
    }

    /// Below which so much of the frames were, if that was measured.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let histogram = self.measured()?;
        Some(Duration::from_nanos(histogram.value_at_quantile(quantile)))
    }

    /// The latencies, unless no frame came back: then there is none to report.
    fn measured(&self) -> Option<&Histogram<u64>> {
        let latency = self.latency.as_ref();
        latency.filter(|histogram| !histogram.is_empty())
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn as_json(&self, size: u32) -> Value {
        let latency = self.measured().map(|histogram| {
            json!({
                "p50": histogram.value_at_quantile(0.5),
                "p99": histogram.value_at_quantile(0.99),
                "p99_9": histogram.value_at_quantile(0.999),
                "max": histogram.max(),
            })
        });
        json!({
            "frames": self.frames,
            "seconds": self.elapsed.as_secs_f64(),
            "frames_per_second": self.per_second(),
            "payload_bytes_per_second": self.per_second() * f64::from(size),
            "latency_ns": latency,
            "open_loop": self.open_loop.as_ref().map(Outcome::as_json),
        })
    }

    pub(crate) fn say(&self, size: u32) {
        report::say(format_args!(
            "throughput    {} frames/s, {:.1} MB/s each way",
            grouped(self.per_second() as u64),
            self.per_second() * f64::from(size) / 1e6,
        ));
        if let Some(histogram) = self.measured() {
            let at = |quantile| micros(histogram.value_at_quantile(quantile));
            report::say(format_args!(
                "latency       p50 {}, p99 {}, p99.9 {}, max {}",
                at(0.5),
                at(0.99),
                at(0.999),
                micros(histogram.max()),
            ));
        }
        if let Some(outcome) = &self.open_loop {
            outcome.say();
        }
    }
}

fn micros(nanos: u64) -> String {
    match nanos {
        0..10_000_000 => format!("{:.0} µs", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

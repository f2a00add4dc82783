//! What the measurements of a cell come to: medians, and how far apart the values are.

use std::time::Duration;

use serde_json::{Value, json};

use super::cell::Cell;
use super::round::{Measured, Slice};
use super::system::System;

/// A cell, and a line for each system.
pub(super) struct Summary {
    pub(super) cell: Cell,
    pub(super) lines: Vec<Line>,
}

/// One system in one cell.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) is_ours: bool,
    /// `None` if the system does not do this work.
    pub(super) figures: Option<Figures>,
}

pub(super) struct Figures {
    pub(super) frames_per_cpu_second: f64,
    /// To the first system, formed in each pass.
    pub(super) ratio: Spread,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) idle_bytes: Option<f64>,
    /// How busy the load generator's processor was, from 0 to 1.
    pub(super) load_share: f64,
}

/// The median of some values, and the quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) count: usize,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            median: quantile(&values, 0.5),
            lower: quantile(&values, 0.25),
            upper: quantile(&values, 0.75),
            count: values.len(),
        }
    }
}

impl Summary {
    pub(super) fn of(cell: Cell, systems: &[System], measured: &[Measured]) -> Self {
        let reference = measured.first().map_or(&[][..], |first| &first.slices);
        let lines = systems.iter().zip(measured).map(|(system, measured)| Line {
            name: system.name.clone(),
            is_ours: system.is_ours,
            figures: (!measured.slices.is_empty()).then(|| Figures::of(measured, reference)),
        });
        Self {
            cell,
            lines: lines.collect(),
        }
    }

    /// The lowest of this crate's ratios: the one that is judged.
    pub(super) fn ratio(&self) -> f64 {
        let ours = self.lines.iter().skip(1).filter(|line| line.is_ours);
        let ratios = ours.filter_map(|line| Some(line.figures.as_ref()?.ratio.median));
        ratios.min_by(f64::total_cmp).unwrap_or(f64::NAN)
    }

    pub(super) fn as_json(&self) -> Value {
        let lines = self.lines.iter();
        json!({
            "cell": self.cell.to_string(),
            "ratio": self.ratio(),
            "systems": lines.map(Line::as_json).collect::<Vec<_>>(),
        })
    }
}

impl Line {
    fn as_json(&self) -> Value {
        let figures = self.figures.as_ref().map(|figures| {
            json!({
                "frames_per_cpu_second": figures.frames_per_cpu_second,
                "ratio": {
                    "median": figures.ratio.median,
                    "lower_quartile": figures.ratio.lower,
                    "upper_quartile": figures.ratio.upper,
                    "passes": figures.ratio.count,
                },
                "p50_ns": figures.p50.as_nanos() as u64,
                "p99_ns": figures.p99.as_nanos() as u64,
                "bytes_per_idle_connection": figures.idle_bytes,
                "load_processor_share": figures.load_share,
            })
        });
        json!({ "name": self.name, "figures": figures })
    }
}

impl Figures {
    fn of(measured: &Measured, reference: &[Slice]) -> Self {
        let slices = &measured.slices;
        let ratios = slices
            .iter()
            .zip(reference)
            .map(|(slice, other)| slice.frames_per_cpu_second() / other.frames_per_cpu_second());
        let latency = |which: usize| {
            let latencies = measured.latencies.iter();
            let seconds = latencies.map(|latency| latency[which].as_secs_f64());
            Duration::from_secs_f64(median(seconds).max(0.0))
        };
        Self {
            frames_per_cpu_second: median(slices.iter().map(Slice::frames_per_cpu_second)),
            ratio: Spread::of(ratios.collect()),
            p50: latency(0),
            p99: latency(1),
            idle_bytes: (!measured.idle_bytes.is_empty())
                .then(|| median(measured.idle_bytes.iter().copied())),
            load_share: median(slices.iter().map(Slice::load_share)),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Spread::of(values.collect()).median
}

/// Between two neighbours where it does not fall on a value. The values are sorted.
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = quantile * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(below), Some(above)) => below + (above - below) * at.fract(),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_median_and_quartiles() {
        let spread = Spread::of(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        let Spread {
            median,
            lower,
            upper,
            count,
        } = spread;
        assert_eq!((lower, median, upper, count), (2.0, 3.0, 4.0, 5));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Spread::of(Vec::new()).median.is_nan());
    }
}

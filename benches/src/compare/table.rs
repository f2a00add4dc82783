//! The matrix as text: lines for a terminal, and tables in Markdown.

use std::fmt::Write;
use std::time::Duration;

use super::summary::{Figures, Line, Summary};
use crate::report::grouped;

pub(super) fn header() -> String {
    format!(
        "{:<20} {:<16} {:>13} {:>7} {:>16} {:>9} {:>9} {:>8} {:>8}",
        "cell", "system", "frames/CPU-s", "ratio", "quartiles", "p50", "p99", "idle B", "load CPU"
    )
}

/// A line for each system.
pub(super) fn lines(summary: &Summary) -> String {
    let cell = summary.cell.to_string();
    let lines = summary.lines.iter().map(|Line { name, figures, .. }| {
        let mut line = format!("{cell:<20} {name:<16} ");
        match figures {
            Some(figures) => line += &columns(figures),
            None => line += "does not do this",
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn columns(figures: &Figures) -> String {
    let ratio = &figures.ratio;
    format!(
        "{:>13} {:>7.3} {:>16} {:>9} {:>9} {:>8} {:>6.0} %",
        grouped(figures.frames_per_cpu_second as u64),
        ratio.median,
        format!("{:.3} to {:.3}", ratio.lower, ratio.upper),
        time(figures.p50),
        time(figures.p99),
        idle_bytes(figures).unwrap_or_default(),
        figures.load_share * 100.0,
    )
}

/// Three tables: ratios with their quartiles, latencies, and the absolute figures of the first system with what each idle
/// connection takes.
pub(super) fn markdown(summaries: &[Summary]) -> String {
    let names: Vec<&str> = match summaries.first() {
        Some(first) => first.lines.iter().map(|line| line.name.as_str()).collect(),
        None => Vec::new(),
    };
    let Some((&reference, others)) = names.split_first() else {
        return String::new();
    };
    let ratio = |figures: &Figures| {
        let ratio = &figures.ratio;
        format!(
            "{:.3} ({:.3} to {:.3})",
            ratio.median, ratio.lower, ratio.upper
        )
    };
    let latency = |figures: &Figures| format!("{} / {}", time(figures.p50), time(figures.p99));
    let absolute = |line: &Line| {
        let frames = |figures: &Figures| grouped(figures.frames_per_cpu_second as u64);
        line.figures.as_ref().map_or_else(none, frames)
    };
    let mut text = format!("Frames per server CPU-second, relative to {reference}:\n\n");
    let heads: Vec<_> = [&[reference], others].concat();
    table(&mut text, &heads, summaries, |summary| {
        let mut columns = summary.lines.iter();
        let reference = columns.next().map(absolute);
        reference
            .into_iter()
            .chain(columns.map(|line| cell(line, ratio)))
            .collect()
    });
    text += "\nLatency, median / 99th percentile:\n\n";
    table(&mut text, &names, summaries, |summary| {
        summary
            .lines
            .iter()
            .map(|line| cell(line, latency))
            .collect()
    });
    let idle: Vec<_> = summaries
        .iter()
        .flat_map(|summary| &summary.lines)
        .filter_map(|line| {
            let bytes = idle_bytes(line.figures.as_ref()?)?;
            Some(format!("| {} | {bytes} |\n", line.name))
        })
        .collect();
    if !idle.is_empty() {
        text += "\n| system | bytes per idle connection |\n|---|---|\n";
        text += &idle.concat();
    }
    text
}

fn table(
    text: &mut String,
    heads: &[&str],
    summaries: &[Summary],
    columns: impl Fn(&Summary) -> Vec<String>,
) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "| cell | {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(heads.len()));
    for summary in summaries {
        let columns = columns(summary).join(" | ");
        let _ = writeln!(text, "| {} | {columns} |", summary.cell);
    }
}

fn cell(line: &Line, show: impl Fn(&Figures) -> String) -> String {
    line.figures.as_ref().map_or_else(none, show)
}

fn none() -> String {
    "–".into()
}

fn idle_bytes(figures: &Figures) -> Option<String> {
    let bytes = figures.idle_bytes?;
    Some(grouped(bytes.round() as u64))
}

fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..100.0 => format!("{micros:.1} µs"),
        ..10_000.0 => format!("{micros:.0} µs"),
        _ => format!("{:.1} ms", micros / 1e3),
    }
}

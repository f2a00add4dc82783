//! What is told to a person and what is written for a program.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::problem::Problem;

/// Prints a line. If the pipe is closed, the program ends: that is no error.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a problem, as one line.
pub(crate) fn complain(problem: &Problem) {
    // If that fails too, the problem cannot be reported.
    let _ = writeln!(io::stderr(), "throng-bench: {problem}");
}

/// Writes figures to a file, if one was asked for.
pub(crate) fn write_json(path: Option<&Path>, figures: &Value) -> Result<(), Problem> {
    let Some(path) = path else {
        return Ok(());
    };
    write(path, &format!("{figures:#}\n"))
}

/// Writes a file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(path, text)
        .map_err(|error| Problem::usage(format!("cannot write {}: {error}", path.display())))
}

/// A count with a comma between thousands.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn grouped_separates_thousands() {
        let numbers = [0, 999, 1000, 12_345, 1_234_567].map(super::grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}

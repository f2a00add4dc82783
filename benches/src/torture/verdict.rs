//! Whether a bound was kept.

use std::fmt;

use super::units::MIB;

/// A bound, and what was seen.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) what: String,
    pub(super) seen: f64,
    pub(super) bound: f64,
    pub(super) unit: &'static str,
    /// More is better.
    is_least: bool,
}

impl Verdict {
    /// Not more than `bound`.
    pub(super) fn at_most(
        what: impl Into<String>,
        seen: f64,
        bound: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            seen,
            bound,
            unit,
            is_least: false,
        }
    }

    /// Not less than `bound`.
    pub(super) fn at_least(
        what: impl Into<String>,
        seen: f64,
        bound: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            is_least: true,
            ..Self::at_most(what, seen, bound, unit)
        }
    }

    pub(super) fn memory(what: impl Into<String>, seen: u64, bound: u64) -> Self {
        let mebibytes = |bytes| bytes as f64 / MIB as f64;
        Self::at_most(what, mebibytes(seen), mebibytes(bound), "MiB")
    }

    pub(super) fn is_kept(&self) -> bool {
        if self.is_least {
            self.seen >= self.bound
        } else {
            self.seen <= self.bound
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = (&self.what, self.unit);
        let relation = if self.is_least { "least" } else { "most" };
        write!(f, "{what:<54} {:>9.2} {unit}", self.seen)?;
        if self.bound.is_infinite() {
            return f.write_str(", not judged");
        }
        let outcome = if self.is_kept() { "kept" } else { "NOT KEPT" };
        write!(f, ", at {relation} {:.2}: {outcome}", self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_at_its_bound_is_kept() {
        let most = |seen| Verdict::at_most("peers left", seen, 2.0, "peers");
        let least = |seen| Verdict::at_least("peers served", seen, 2.0, "peers");
        assert!(most(2.0).is_kept() && !most(2.1).is_kept());
        assert!(least(2.0).is_kept() && !least(1.9).is_kept());
        assert!(
            most(f64::NAN)
                .to_string()
                .ends_with("at most 2.00: NOT KEPT")
        );
    }
}

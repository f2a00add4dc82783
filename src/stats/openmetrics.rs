//! The text formats of monitoring systems: OpenMetrics, and the older one of Prometheus.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use super::Stats;
use super::turn_times::Seconds;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

/// The kind of a field, named as in the list of fields.
#[allow(non_camel_case_types, reason = "the words of the list")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    counter,
    histogram,
    gauge,
    peak,
}

/// A value of [`Stats`].
pub(super) trait Value: Copy {
    /// The end of the name.
    const UNIT: &str = "";

    fn plus(self, other: Self) -> Self;
    fn minus(self, earlier: Self) -> Self;
    fn write(&self, family: &mut Family<'_>, stats: &Stats) -> fmt::Result;
}

impl Value for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn minus(self, earlier: Self) -> Self {
        self.saturating_sub(earlier)
    }

    fn write(&self, family: &mut Family<'_>, _: &Stats) -> fmt::Result {
        family.sample("", self)
    }
}

impl Value for Duration {
    const UNIT: &str = "_seconds";

    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn minus(self, earlier: Self) -> Self {
        self.saturating_sub(earlier)
    }

    fn write(&self, family: &mut Family<'_>, _: &Stats) -> fmt::Result {
        family.sample("", Seconds(*self))
    }
}

/// The text of all metrics.
pub(super) struct Text<'w> {
    out: &'w mut dyn Write,
    format: Format,
}

/// A metric with its samples.
pub(super) struct Family<'t> {
    out: &'t mut dyn Write,
    name: &'static str,
    unit: &'static str,
    /// Appended to the name of each sample.
    suffix: &'static str,
}

impl<'w> Text<'w> {
    pub(super) fn new(out: &'w mut dyn Write, format: Format) -> Self {
        Self { out, format }
    }

    /// Writes the description of a metric. Its samples have to follow.
    pub(super) fn family<V: Value>(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
    ) -> Result<Family<'_>, fmt::Error> {
        let (shown, suffix) = match kind {
            Kind::counter => ("counter", "_total"),
            Kind::histogram => ("histogram", ""),
            Kind::gauge | Kind::peak => ("gauge", ""),
        };
        let unit = V::UNIT;
        // In OpenMetrics the suffix belongs to the samples, in the older format to the name of the metric.
        let end = match self.format {
            Format::OpenMetrics => "",
            Format::Prometheus => suffix,
        };
        let help = Plain(help.trim_start());
        writeln!(self.out, "# HELP throng_{name}{unit}{end} {help}")?;
        writeln!(self.out, "# TYPE throng_{name}{unit}{end} {shown}")?;
        Ok(Family {
            out: self.out,
            name,
            unit,
            suffix,
        })
    }

    pub(super) fn end(&mut self) -> fmt::Result {
        match self.format {
            Format::OpenMetrics => self.out.write_str("# EOF\n"),
            Format::Prometheus => Ok(()),
        }
    }
}

impl Family<'_> {
    /// Writes a sample without a label. `part` is for the parts of a histogram.
    pub(super) fn sample(&mut self, part: &str, value: impl Display) -> fmt::Result {
        let Self {
            name, unit, suffix, ..
        } = self;
        writeln!(self.out, "throng_{name}{unit}{part}{suffix} {value}")
    }

    pub(super) fn labelled(
        &mut self,
        part: &str,
        label: &str,
        labelled: impl Display,
        value: impl Display,
    ) -> fmt::Result {
        let Self {
            name, unit, suffix, ..
        } = self;
        let label = format_args!("{{{label}=\"{labelled}\"}}");
        writeln!(self.out, "throng_{name}{unit}{part}{suffix}{label} {value}")
    }
}

/// A doc comment without its Markdown: code is not marked, and links have no targets.
struct Plain<'d>(&'d str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['`', '[', ']']) {
            f.write_str(&rest[..at])?;
            let (mark, after) = rest[at..].split_at(1);
            rest = match after
                .strip_prefix('(')
                .and_then(|link| link.split_once(')'))
            {
                Some((_, after)) if mark == "]" => after,
                _ => after,
            };
        }
        f.write_str(rest)
    }
}

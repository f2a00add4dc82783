//! Warnings that peers can cause. A peer can repeat them at will, so after the first of each kind they are counted; see
//! [`Flood`].

use std::fmt;

use log::{debug, warn};

use super::{Deadline, Net};
use crate::flood::{Flood, Line};

/// The kinds of warnings. Each kind is counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    /// A peer was refused, because of `max_connections`.
    Full,
    /// A peer was refused, because of `accept_again_below`.
    Recovering,
    /// A peer was refused, because of `max_connections_per_ip`.
    TooManyFrom,
    /// A peer was refused, because of `max_accepts_per_second_per_ip`.
    TooFast,
    /// A peer was refused by `on_accept`.
    NotAdmitted,
    /// A peer was refused because its listener was closed meanwhile.
    ListenerClosed,
    /// A proxy was refused because it sent no valid PROXY header.
    #[cfg(feature = "proxy")]
    NoHeader,
    /// A peer had closed before it was accepted, or its socket could not be used.
    AcceptFailed,
    /// Accepting was paused.
    AcceptPaused,
    /// An attempt to connect failed.
    ConnectFailed,
}

impl Warning {
    const ALL: &[Self] = &[
        Self::Full,
        Self::Recovering,
        Self::TooManyFrom,
        Self::TooFast,
        Self::NotAdmitted,
        Self::ListenerClosed,
        #[cfg(feature = "proxy")]
        Self::NoHeader,
        Self::AcceptFailed,
        Self::AcceptPaused,
        Self::ConnectFailed,
    ];
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "peers refused: max_connections is reached",
            Self::Recovering => "peers refused: there are not fewer than accept_again_below yet",
            Self::TooManyFrom => "peers refused: max_connections_per_ip is reached",
            Self::TooFast => "peers refused: max_accepts_per_second_per_ip is reached",
            Self::NotAdmitted => "peers refused: not admitted",
            Self::ListenerClosed => "peers refused: the listener is closed",
            #[cfg(feature = "proxy")]
            Self::NoHeader => "peers refused: no valid PROXY header",
            Self::AcceptFailed => "accepts that failed",
            Self::AcceptPaused => "pauses of accepting",
            Self::ConnectFailed => "attempts to connect that failed",
        })
    }
}

/// The counts of each kind.
#[derive(Debug, Default)]
pub(super) struct Warnings([Flood; Warning::ALL.len()]);

/// Reports the last counts.
impl Drop for Warnings {
    fn drop(&mut self) {
        for warning in Warning::ALL {
            let count = self.0[*warning as usize].counted();
            if count > 0 {
                warn!("{count} more {warning}");
            }
        }
    }
}

impl Net {
    /// Logs a warning, or counts it and logs it at debug level.
    #[cold]
    pub(crate) fn warn(&mut self, warning: Warning, line: fmt::Arguments<'_>) {
        match self.warnings.0[warning as usize].line(self.now) {
            Line::Log => warn!("{line}"),
            Line::Counted { report_at } => {
                debug!("{line}");
                if let Some(at) = report_at {
                    self.timers.insert(at, Deadline::Report(warning));
                }
            }
        }
    }

    /// Logs how many warnings were counted.
    pub(crate) fn report_warnings(&mut self, warning: Warning) {
        if let Some((count, time)) = self.warnings.0[warning as usize].report(self.now) {
            warn!("{count} more {warning}, in {time:.1?}");
        }
    }
}

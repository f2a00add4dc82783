//! Errors of parsing an id.

use std::{error, fmt, io};

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseIdError {
    /// An example of what was expected: `17#3`.
    pub expected: &'static str,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an id in the form {}", self.expected)
    }
}

impl error::Error for ParseIdError {}

impl From<ParseIdError> for io::Error {
    fn from(error: ParseIdError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

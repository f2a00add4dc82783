//! What can go wrong: a line for a person, and an exit code for a script.

use std::fmt;

/// Why the program ends without having done what it was asked.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    /// 2 if the request was at fault, 1 if its outcome was.
    pub(crate) code: u8,
}

impl Problem {
    /// The request cannot be carried out.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 2,
        }
    }

    /// It was carried out, and did not go well.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

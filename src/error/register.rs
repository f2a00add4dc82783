//! Errors of registering user sources.

use std::{error, fmt, io};

/// Why a user source could not be registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// The token has the top bit set; such tokens are reserved for the loop.
    TokenReserved {
        /// The requested token.
        token: mio::Token,
    },
    /// The selector refused.
    Os(io::Error),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenReserved { token } => write!(
                f,
                "expected a token without the top bit, got {:#x}: such tokens are reserved for the loop",
                token.0
            ),
            Self::Os(error) => write!(f, "the selector refused a source: {error}"),
        }
    }
}

impl error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::TokenReserved { .. } => None,
            Self::Os(error) => Some(error),
        }
    }
}

impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> Self {
        let kind = match &error {
            RegisterError::TokenReserved { .. } => io::ErrorKind::InvalidInput,
            RegisterError::Os(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

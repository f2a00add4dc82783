//! Errors of shards, with the shard they concern.

use std::any::Any;
use std::{error, fmt, io};

use crate::error::OpenError;

/// A shard that could not start, or that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShardError {
    /// The index of the shard, from 0.
    pub shard: usize,
    /// The failure.
    pub failure: ShardFailure,
}

/// How a shard failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShardFailure {
    /// The shard could not listen.
    Listen(OpenError),
    /// The loop returned an error, or the handler could not be created.
    Failed(io::Error),
    /// The shard panicked, with this message.
    Panicked(String),
}

/// The shards that have failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct JoinError {
    /// In order of their indices; at least one.
    pub failed: Vec<ShardError>,
}

impl ShardError {
    pub(super) fn new(shard: usize, failure: ShardFailure) -> Self {
        Self { shard, failure }
    }

    pub(super) fn panicked(shard: usize, panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        Self::new(shard, ShardFailure::Panicked(message))
    }
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = self.shard;
        match &self.failure {
            ShardFailure::Listen(error) => write!(f, "shard {shard}: {error}"),
            ShardFailure::Failed(error) => write!(f, "shard {shard} failed: {error}"),
            ShardFailure::Panicked(message) => write!(f, "shard {shard} panicked: {message}"),
        }
    }
}

impl error::Error for ShardError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.failure {
            ShardFailure::Listen(error) => Some(error),
            ShardFailure::Failed(error) => Some(error),
            ShardFailure::Panicked(_) => None,
        }
    }
}

impl From<ShardError> for io::Error {
    fn from(error: ShardError) -> Self {
        let kind = match &error.failure {
            ShardFailure::Listen(error) => error.kind(),
            ShardFailure::Panicked(_) => io::ErrorKind::Other,
            ShardFailure::Failed(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.failed.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl error::Error for JoinError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.failed.first().map(|error| error as _)
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}

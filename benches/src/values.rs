//! Parses values of the command line: times, sizes, addresses.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::problem::Problem;

/// A number of seconds: `5`, `0.25`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    if !(0.01..=86_400.0).contains(&seconds) {
        return Err("expected between 0.01 and 86400 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A number of minutes: `30`, `0.1`.
pub(crate) fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "expected a number of minutes")?;
    if !(0.001..=10_000.0).contains(&minutes) {
        return Err("expected between 0.001 and 10000 minutes".into());
    }
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

/// A number of bytes: `4096`, `64KiB`, `16MiB`, `8GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .unwrap_or((text, 0));
    let number: Option<u64> = digits.trim().parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "expected a number of bytes, such as 4096, 64KiB or 1GiB".into())
}

/// The same, as the size of a buffer or the like.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    usize::try_from(bytes(text)?).map_err(|_| "expected fewer bytes".into())
}

/// Resolves an address. Returns at least one.
pub(crate) fn resolve(addr: &str) -> Result<Vec<SocketAddr>, Problem> {
    let problem =
        |why: String| Problem::usage(format!("cannot resolve the address '{addr}': {why}"));
    let addrs = addr
        .to_socket_addrs()
        .map_err(|error| problem(error.to_string()))?;
    let addrs: Vec<_> = addrs.collect();
    if addrs.is_empty() {
        return Err(problem("it has none".into()));
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_parsed_with_units() {
        let read = ["0", "4096", "64KiB", "1 MiB", "8GiB"].map(super::bytes);
        assert_eq!(read, [0, 4096, 65_536, 1 << 20, 8 << 30].map(Ok));
        for wrong in ["", "KiB", "1kb", "-1", "99999999999GiB"] {
            assert!(super::bytes(wrong).is_err(), "{wrong}");
        }
    }
}

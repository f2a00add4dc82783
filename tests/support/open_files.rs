//! Tests that need more open files than a process may have by default.

use std::process::Command;

/// Files that a test process has open besides its connections.
const RESERVE: usize = 100;
/// Set in the process whose limit is raised, to the new limit.
const FILES: &str = "THRONG_TEST_OPEN_FILES";

/// Runs the test `test` again, in a process that may open enough files for both ends of `wanted` connections. Passes
/// the number of connections to `body`: fewer if the hard limit does not allow as many. `test` is the name that cargo
/// prints.
pub fn with_connections(test: &str, wanted: usize, body: impl FnOnce(usize)) {
    if cfg!(not(unix)) {
        return body(wanted);
    }
    if let Ok(files) = std::env::var(FILES) {
        let files: usize = files.parse().unwrap_or(usize::MAX);
        let possible = files.saturating_sub(RESERVE) / 2;
        if possible < wanted {
            eprintln!(
                "{possible} connections instead of {wanted}: the limit is {files} open files"
            );
        }
        return body(wanted.min(possible));
    }
    let files = 2 * wanted + RESERVE;
    let script = format!(
        r#"ulimit -S -n {files} 2>/dev/null || ulimit -S -n "$(ulimit -H -n)" 2>/dev/null
        export {FILES}="$(ulimit -n)"; exec "$0" "$@""#
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().expect("the path of this binary"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .output()
        .expect("a process");
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    eprintln!("{said}");
    assert!(output.status.success(), "{test} failed in its own process");
    assert!(said.contains(" 1 passed"), "there is no test named {test}");
}

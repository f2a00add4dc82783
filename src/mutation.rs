//! Faults that are planted on purpose, to see whether the simulated tests find them.
//!
//! `RUSTFLAGS='--cfg throng_mutations'` compiles them in, and the environment variable `THRONG_MUTATION` names the one
//! that is active. Otherwise `mutated!` is `false`, and nothing of it is compiled. `tests/mutations.py` runs the
//! tests with each of them.

/// Returns whether a planted fault is active.
#[cfg(throng_mutations)]
macro_rules! mutated {
    ($name:literal) => {
        crate::mutation::is_active($name)
    };
}

#[cfg(not(throng_mutations))]
macro_rules! mutated {
    ($name:literal) => {
        false
    };
}

#[cfg(throng_mutations)]
pub(crate) fn is_active(name: &str) -> bool {
    use std::sync::OnceLock;
    static ACTIVE: OnceLock<Option<String>> = OnceLock::new();
    let active = ACTIVE.get_or_init(|| std::env::var("THRONG_MUTATION").ok());
    active.as_deref() == Some(name)
}

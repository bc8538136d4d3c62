//! How thorough the program's own tests are.

/// What a test tries one by one: all of it, or each nth if `IOTSOCKETD_EVERY` says so, from the first on. That is for
/// machines that are emulated (`cross/test`): every seed and every place of a cut is tried where it is fast.
pub(crate) fn every<T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let step = std::env::var("IOTSOCKETD_EVERY").map_or(1, |step| step.parse().unwrap());
    all.into_iter().step_by(step)
}

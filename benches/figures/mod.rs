//! What the benches make of their measurements.

#![allow(dead_code, reason = "not every bench needs all of it")]

use std::time::Instant;

/// How long it has taken.
pub(crate) fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Prints two medians side by side, and their ratio.
pub(crate) fn compare(what: &str, other: &str, ours: &[f64], theirs: &[f64]) {
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "{what:<32} {ours:>9.2}   {other:<26} {theirs:>9.2}   ratio {:.2}",
        ours / theirs
    );
}

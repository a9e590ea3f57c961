//! What is measured by turns: medians, and one beside the other.

#![allow(dead_code, reason = "each bench uses a part")]

use std::time::Instant;

use deltapoll::clock;

/// Since then.
pub fn seconds(since: Instant) -> f64 {
    clock::now().duration_since(since).as_secs_f64()
}

/// The one in the middle, or between the two there.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    low.midpoint(high)
}

/// A ratio, beside what is aimed at.
pub fn aim(what: &str, ratio: f64, least: f64) -> String {
    let met = if ratio >= least { "met" } else { "missed" };
    format!("{what}: {ratio:.2}, aim at least {least}: {met}")
}

//! The table of faults and outcomes: a line for each on stderr, for a script to collect.

use std::io::Write;

/// `FAULT fault | outcome`. In one write, past the capture of tests' output, so that a passing test
/// shows it and lines of parallel tests do not mix.
pub fn row(fault: &str, outcome: &str) {
    let line = format!("FAULT {fault} | {outcome}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// How often a case repeats its fault: `DELTAPOLL_TORTURE`, once without it.
pub fn repetitions() -> u32 {
    std::env::var("DELTAPOLL_TORTURE").map_or(1, |n| n.parse().unwrap())
}

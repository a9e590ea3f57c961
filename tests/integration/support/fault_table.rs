//! The table of faults: a line for each, whatever test met it.

/// One row: what was done, and what came of it.
pub fn row(fault: &str, outcome: &str) {
    eprintln!("FAULT {fault} | {outcome}");
}

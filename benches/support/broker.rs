//! Benches that need a broker.

use std::process::ExitCode;

/// Says that `bench` needs a broker which it was not told of. That is no failure: `cargo bench` runs all of
/// them, and cannot know of one.
pub fn not_measured(bench: &str) -> ExitCode {
    eprintln!(
        "{bench}: not measured: it needs a broker; run scripts/bench-broker, which says HOST:PORT, then\n\
         cargo bench --bench {bench} -- --bootstrap HOST:PORT"
    );
    ExitCode::SUCCESS
}

//! How long a start takes, phase by phase: told once, since after a crash it is what a user waits for.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;

/// The phases so far.
#[derive(Debug)]
pub struct Phases {
    since: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Phases {
    /// Begins the first phase.
    #[must_use]
    pub fn begin() -> Phases {
        Phases {
            since: clock::now(),
            done: Vec::new(),
        }
    }

    /// Ends a phase; the next one begins.
    pub fn end(&mut self, name: &'static str) {
        let now = clock::now();
        self.done.push((name, now.duration_since(self.since)));
        self.since = now;
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Duration = self.done.iter().map(|(_, took)| *took).sum();
        write!(f, "{:.3} s", all.as_secs_f64())?;
        for (at, (name, took)) in self.done.iter().enumerate() {
            let before = if at == 0 { ": " } else { ", " };
            write!(f, "{before}{name} {:.3} s", took.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_in_order_with_their_sum() {
        let seconds = |name, tenths: u64| (name, Duration::from_millis(tenths * 100));
        let phases = Phases {
            since: clock::now(),
            done: vec![seconds("journal", 5), seconds("state", 7)],
        };
        assert_eq!(
            phases.to_string(),
            "1.200 s: journal 0.500 s, state 0.700 s"
        );
        let mut phases = Phases::begin();
        phases.end("one");
        assert!(phases.to_string().contains(": one 0."));
    }
}

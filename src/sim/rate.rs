//! The rate limit of one platform: fixed windows, as the headers of the real API show them.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// Requests per seconds, in several windows at once: `20:1,100:120`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate(Vec<(u64, u64)>);

impl Default for Rate {
    /// What the headers show when nothing is enforced: more than anybody asks for.
    fn default() -> Rate {
        Rate(vec![(30_000, 10), (1_800_000, 600)])
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let window = |part: &str| {
            let (count, seconds) = part.trim().split_once(':')?;
            let window: (u64, u64) = (count.parse().ok()?, seconds.parse().ok()?);
            (window.0 > 0 && window.1 > 0).then_some(window)
        };
        text.split(',')
            .map(window)
            .collect::<Option<Vec<_>>>()
            .map(Rate)
            .ok_or_else(|| format!("rate {text:?}: write requests:seconds, as in 20:1,100:120"))
    }
}

/// Counts the requests of one platform.
#[derive(Debug)]
pub(super) struct Meter {
    rate: Rate,
    windows: Vec<(Instant, u64)>,
}

impl Meter {
    pub(super) fn new(rate: Rate, now: Instant) -> Meter {
        let windows = vec![(now, 0); rate.0.len()];
        Meter { rate, windows }
    }

    /// Counts a request. Says how long to wait if it is one too many.
    pub(super) fn count(&mut self, now: Instant) -> Option<Duration> {
        let mut wait = None;
        for (&(limit, seconds), (since, count)) in self.rate.0.iter().zip(&mut self.windows) {
            let length = Duration::from_secs(seconds);
            if now.duration_since(*since) >= length {
                (*since, *count) = (now, 0);
            }
            *count += 1;
            if *count > limit {
                wait = wait.max(Some(length.saturating_sub(now.duration_since(*since))));
            }
        }
        wait
    }

    /// `20:1,100:120`
    pub(super) fn limits(&self) -> String {
        list(self.rate.0.iter().copied())
    }

    /// `1:1,7:120`
    pub(super) fn counts(&self) -> String {
        let counts = self.windows.iter().map(|(_, count)| *count);
        list(counts.zip(self.rate.0.iter().map(|(_, seconds)| *seconds)))
    }
}

fn list(pairs: impl Iterator<Item = (u64, u64)>) -> String {
    let pairs: Vec<String> = pairs
        .map(|(count, seconds)| format!("{count}:{seconds}"))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_rate_is_requests_per_seconds() {
        assert_eq!("20:1, 100:120".parse(), Ok(Rate(vec![(20, 1), (100, 120)])));
        for wrong in ["", "20", "20:0", "0:1", "x:1", "20:1,"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn one_too_many_waits_for_the_end_of_its_longest_window() {
        let start = clock::now();
        let mut meter = Meter::new("2:1,3:10".parse().unwrap(), start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(meter.count(at(0)), None);
        assert_eq!(meter.count(at(100)), None);
        assert_eq!(meter.count(at(200)), Some(Duration::from_millis(800)));
        assert_eq!(meter.counts(), "3:1,3:10");
        assert_eq!(meter.count(at(1_000)), Some(Duration::from_millis(9_000)));
        assert_eq!(meter.counts(), "1:1,4:10");
        assert_eq!(meter.count(at(10_000)), None);
        assert_eq!(meter.limits(), "2:1,3:10");
    }
}

//! Rate limits as Riot's gateway keeps and announces them.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::clock;

/// Requests per seconds, written as `20:1,100:120`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits(Vec<(usize, u64)>);

impl Default for Limits {
    fn default() -> Limits {
        Limits(vec![(20, 1), (100, 120)])
    }
}

impl FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Limits, String> {
        let limit = |part: &str| {
            let (count, seconds) = part.split_once(':')?;
            Some((count.trim().parse().ok()?, seconds.trim().parse().ok()?))
        };
        let limits: Option<Vec<_>> = text.split(',').map(limit).collect();
        limits
            .map(Limits)
            .ok_or_else(|| format!("'{text}' is not COUNT:SECONDS, such as 20:1,100:120"))
    }
}

/// Requests of the last while.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    enforced: bool,
    seen: VecDeque<Instant>,
}

impl Window {
    /// Counts against `limits`, or only announces the usual ones.
    #[must_use]
    pub fn new(limits: Option<Limits>) -> Window {
        Window {
            enforced: limits.is_some(),
            limits: limits.unwrap_or_default(),
            seen: VecDeque::new(),
        }
    }

    /// Counts a request; `Err`: too many, come back in so many seconds.
    ///
    /// # Errors
    /// When a limit is enforced and reached.
    pub fn request(&mut self) -> Result<(), u64> {
        let now = clock::now();
        let longest = self
            .limits
            .0
            .iter()
            .map(|(_, seconds)| *seconds)
            .max()
            .unwrap_or(1);
        while self
            .seen
            .front()
            .is_some_and(|at| now - *at >= Duration::from_secs(longest))
        {
            self.seen.pop_front();
        }
        if self.enforced {
            for &(most, seconds) in &self.limits.0 {
                let within = self.within(now, seconds);
                if within >= most {
                    let first = self.seen[self.seen.len() - within];
                    let wait = Duration::from_secs(seconds).saturating_sub(now - first);
                    return Err(wait.as_secs() + 1);
                }
            }
        }
        self.seen.push_back(now);
        Ok(())
    }

    /// `20:1,100:120`.
    #[must_use]
    pub fn limits(&self) -> String {
        let limits = self
            .limits
            .0
            .iter()
            .map(|(count, seconds)| format!("{count}:{seconds}"));
        limits.collect::<Vec<_>>().join(",")
    }

    /// `1:1,7:120`.
    #[must_use]
    pub fn counts(&self) -> String {
        let now = clock::now();
        let counts = self
            .limits
            .0
            .iter()
            .map(|(_, s)| format!("{}:{s}", self.within(now, *s)));
        counts.collect::<Vec<_>>().join(",")
    }

    fn within(&self, now: Instant, seconds: u64) -> usize {
        let window = Duration::from_secs(seconds);
        self.seen
            .iter()
            .rev()
            .take_while(|at| now - **at < window)
            .count()
    }
}

//! Who asked us to wait, and for how long.
//!
//! A 429 holds back every cell of the same host: limits are per key and region, and ignoring them gets
//! a key banned. A missing `Retry-After` is taken as a doubling pause.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::clock;

const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(120);
/// The most that a server may ask for: a wrong date must not silence a host for years.
const ASKED_LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Until when each host wants to be left alone.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<String, Pause>>);

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// 429 answers in a row.
    times: u32,
}

impl Pace {
    /// Until when `host` must not be asked, if it must not be asked now.
    #[must_use]
    pub fn paused_until(&self, host: &str) -> Option<Instant> {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts
            .get(host)
            .map(|pause| pause.until)
            .filter(|until| *until > clock::now())
    }

    /// `host` answered 429; returns how long it is left alone.
    pub fn too_many(&self, host: &str, retry_after: Option<Duration>) -> Duration {
        let now = clock::now();
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = hosts.entry(host.to_owned()).or_insert(Pause {
            until: now,
            times: 0,
        });
        pause.times += 1;
        let doubled = PAUSE_FIRST.saturating_mul(1 << (pause.times - 1).min(16));
        let wait = retry_after.unwrap_or(doubled.min(PAUSE_LONGEST));
        pause.until = pause.until.max(now + wait);
        pause.until.saturating_duration_since(now)
    }

    /// `host` answered something else. An answer to a question from before the pause does not end it.
    pub fn answered(&self, host: &str) {
        let now = clock::now();
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.get(host).is_some_and(|pause| pause.until <= now) {
            hosts.remove(host);
        }
    }
}

/// `Retry-After` in seconds or as a date.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds).min(ASKED_LONGEST));
    }
    let date = humantime_http(text)?;
    let wait = date.saturating_sub(Duration::from_millis(clock::unix_ms()));
    Some(wait.min(ASKED_LONGEST))
}

/// `Tue, 24 Nov 2026 08:12:31 GMT` as time since 1970.
fn humantime_http(text: &str) -> Option<Duration> {
    let mut parts = text.split_whitespace().skip(1);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? / 3 + 1;
    let written = format!("{year}-{month:02}-{day:0>2}T{time}Z");
    humantime::parse_rfc3339(&written)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let header = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(header("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            header("Thu, 01 Jan 1970 00:00:10 GMT"),
            Some(Duration::ZERO),
            "long past"
        );
        let far = header("Fri, 01 Jan 2100 00:00:00 GMT");
        assert_eq!(far, Some(ASKED_LONGEST), "no longer than that");
        assert_eq!(header("soon"), None);
    }

    #[test]
    fn a_host_that_says_429_is_left_alone_longer_each_time() {
        let pace = Pace::default();
        let waits: Vec<_> = (0..3).map(|_| pace.too_many("kr", None)).collect();
        assert!(waits[0] <= PAUSE_FIRST && waits[1] > waits[0] && waits[2] > waits[1]);
        assert!(pace.paused_until("kr").is_some() && pace.paused_until("euw1").is_none());
    }

    #[test]
    fn an_answer_that_was_under_way_does_not_end_a_pause() {
        let pace = Pace::default();
        pace.too_many("kr", Some(Duration::from_secs(60)));
        pace.answered("kr");
        assert!(pace.paused_until("kr").is_some(), "asked before the 429");
        pace.too_many("euw1", Some(Duration::ZERO));
        pace.answered("euw1");
        let first = pace.too_many("euw1", None);
        assert!(
            first <= PAUSE_FIRST,
            "a good answer after the pause starts over"
        );
    }
}

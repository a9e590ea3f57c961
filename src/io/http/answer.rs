//! From a response to a snapshot, or the reason why there is none (G4: a failed, truncated or
//! malformed poll changes nothing).
//!
//! The body is hashed as it arrives. Where the last body came byte-identical, this one is held until
//! its hash is known, and only cut and scanned if it differs: a body that never changes costs no more
//! than receiving and hashing it. Otherwise that is done while it arrives.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use deltapoll_state::fail;
use futures_util::FutureExt;
use reqwest::header::{ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, sleep_until, timeout};
use xxhash_rust::xxh3::Xxh3;

use crate::config::secret;
use crate::io::json::cutter::{Cutter, PIECE_BYTES};
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::{Scan, Scanner};
use crate::snapshot::Piece;

use super::budget::Reservation;
use super::client::{SILENCE_TIMEOUT, describe};
use super::pace::retry_after;
use super::validators::Validators;

/// How much of an error's body is shown.
const EXCERPT_BYTES: usize = 120;

/// How an answer is to be read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Where the list is.
    pub records: Pointer,
    /// What its entries are known by.
    pub scan: Scan,
    /// The longest body, after decompression.
    pub body_max: u64,
    /// How long a body may take: one that drips would hold its memory, and hold others back (R29).
    pub timeout: Duration,
    /// Hash of the cell's effective configuration.
    pub config: u64,
}

/// What an answer says.
#[derive(Debug)]
pub enum Answer {
    /// A body that may hold something new.
    Body {
        /// Whole entries, in order.
        pieces: Vec<Piece>,
        /// Of this body.
        validators: Validators,
        /// Bytes in all.
        bytes: u64,
        /// Memory in all.
        held: u64,
    },
    /// 304, or the very bytes of the last time.
    Unchanged {
        /// Bytes in all.
        bytes: u64,
    },
    /// 429, with what the server says about waiting.
    TooMany {
        /// How long to wait, if the server says.
        retry_after: Option<std::time::Duration>,
        /// Which limit, if the server says.
        what: String,
    },
    /// Anything else: the reason.
    Failed(String),
}

/// Reads an answer to its end.
pub async fn read(
    mut response: Response,
    reading: &Reading,
    known: Option<&Validators>,
    expect_same: bool,
    reservation: &mut Reservation,
) -> Answer {
    match response.status() {
        StatusCode::OK => {}
        // Only an answer to a question (R9): one that was not asked says nothing.
        StatusCode::NOT_MODIFIED
            if known.is_some_and(Validators::conditional) || fail::broken("r09") =>
        {
            return Answer::Unchanged { bytes: 0 };
        }
        StatusCode::TOO_MANY_REQUESTS => return too_many(response.headers()),
        status => return Answer::Failed(refused(status, response).await),
    }
    let headers = response.headers().clone();
    let expect_same = expect_same && known.is_some();
    let mut body = Body::new(reading, expect_same);
    let mut patience = Patience::new(reading.timeout);
    let mut look = pin!(sleep_until(patience.least()));
    loop {
        // Mostly it lies ready: then nobody waits, and need not know what time it is.
        let ready = response.chunk().now_or_never();
        let chunk = match ready {
            Some(chunk) => chunk,
            None => {
                patience.since = Instant::now();
                loop {
                    tokio::select! {
                        chunk = response.chunk() => break chunk,
                        () = &mut look => {}
                    }
                    if let Some(why) = patience.lost() {
                        let bytes = body.bytes;
                        return Answer::Failed(format!("{why}, {bytes} bytes of it had come"));
                    }
                    look.as_mut().reset(patience.least());
                }
            }
        };
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Answer::Failed(describe(&error)),
        };
        if body.bytes + chunk.len() as u64 > reading.body_max {
            let most = crate::config::quantity::Bytes(reading.body_max);
            return Answer::Failed(format!(
                "the answer is longer than limits.body_max = {most}"
            ));
        }
        let held = body.held() + chunk.len() as u64;
        if !reservation.try_grow(held) {
            // That wait is not the API's fault.
            let since = Instant::now();
            reservation.grow_to(held).await;
            patience.end += since.elapsed();
        }
        if let Err(what) = body.push(chunk) {
            return Answer::Failed(what);
        }
    }
    body.finish(reading, &headers, known, reservation).await
}

/// How long an answer is waited for.
struct Patience {
    timeout: Duration,
    end: Instant,
    /// When the present wait for a piece of it began.
    since: Instant,
}

impl Patience {
    fn new(timeout: Duration) -> Patience {
        let now = Instant::now();
        Patience {
            timeout,
            end: now + timeout,
            since: now,
        }
    }

    /// When to look again, if nothing comes.
    fn least(&self) -> Instant {
        self.end.min(self.since + SILENCE_TIMEOUT)
    }

    /// Why it is waited for no longer.
    fn lost(&self) -> Option<String> {
        let now = Instant::now();
        let [timeout, silence] = [self.timeout, SILENCE_TIMEOUT].map(humantime::format_duration);
        if now >= self.end {
            return Some(format!("the answer was not at its end after {timeout}"));
        }
        (now >= self.since + SILENCE_TIMEOUT)
            .then(|| format!("timed out: nothing more of the answer came within {silence}"))
    }
}

struct Body<'r> {
    cutter: Cutter<'r>,
    scanner: Scanner<'r>,
    hash: Xxh3,
    bytes: u64,
    /// Chunks that are not cut yet.
    held: Option<Vec<Bytes>>,
}

impl<'r> Body<'r> {
    fn new(reading: &'r Reading, hold: bool) -> Body<'r> {
        Body {
            cutter: Cutter::new(&reading.records, PIECE_BYTES, &reading.scan.keys),
            scanner: reading.scan.begin(),
            hash: Xxh3::with_seed(reading.scan.seed),
            bytes: 0,
            held: hold.then(Vec::new),
        }
    }

    /// Memory of all of it so far.
    fn held(&self) -> u64 {
        self.bytes + self.scanner.bytes()
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), String> {
        self.bytes += chunk.len() as u64;
        self.hash.update(&chunk);
        match &mut self.held {
            Some(held) => {
                held.push(chunk);
                Ok(())
            }
            None => self.scan(&chunk),
        }
    }

    fn scan(&mut self, chunk: &[u8]) -> Result<(), String> {
        let cut = self.cutter.push(chunk, &mut self.scanner);
        cut.map_err(|what| what.to_string())
    }

    async fn finish(
        mut self,
        reading: &Reading,
        headers: &HeaderMap,
        known: Option<&Validators>,
        reservation: &mut Reservation,
    ) -> Answer {
        let text = |name: HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let validators = Validators {
            config: reading.config,
            etag: text(ETAG),
            modified: text(LAST_MODIFIED),
            body: format!("{:032x}", self.hash.digest128()),
        };
        let bytes = self.bytes;
        if known.is_some_and(|known| known.body == validators.body) {
            return Answer::Unchanged { bytes };
        }
        for chunk in self.held.take().unwrap_or_default() {
            if let Err(what) = self.scan(&chunk) {
                return Answer::Failed(what);
            }
            reservation.grow_to(self.held()).await;
            // Nobody waits for this, and others share the thread.
            tokio::task::yield_now().await;
        }
        match self.cutter.finish() {
            Ok(()) => {
                let held = bytes + self.scanner.bytes();
                reservation.grow_to(held).await;
                Answer::Body {
                    pieces: self.scanner.finish(),
                    validators,
                    bytes,
                    held,
                }
            }
            Err(what) => Answer::Failed(what.to_string()),
        }
    }
}

fn too_many(headers: &HeaderMap) -> Answer {
    let what = headers
        .get("X-Rate-Limit-Type")
        .and_then(|value| value.to_str().ok());
    let what = what.map_or_else(String::new, |what| format!(" ({what} limit)"));
    Answer::TooMany {
        retry_after: retry_after(headers),
        what,
    }
}

async fn refused(status: StatusCode, mut response: Response) -> String {
    let remedy = match status.as_u16() {
        401 => ": the API wants credentials: check the source's headers",
        403 => ": the API refuses the credentials: they may have expired",
        404 => ": nothing is at the source's url",
        300..=399 => {
            ": redirects are not followed, they would carry the headers along: set the url to where it leads"
        }
        204 => ": no content is not an empty list",
        _ => "",
    };
    // Only for a person to read: as much as arrived with the head.
    let body = match timeout(SILENCE_TIMEOUT, response.chunk()).await {
        Ok(Ok(Some(chunk))) if remedy.is_empty() => excerpt(&chunk),
        _ => String::new(),
    };
    format!("the API answered {status}{remedy}{body}")
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_BYTES)]);
    // An API may repeat what it was sent: cut first, a secret would no longer be recognised.
    let text = secret::redact_cut(&text);
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!(": {}", shown.trim())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::super::budget::Budget;
    use super::*;
    use crate::snapshot::{Seen, Span};

    fn reading() -> Reading {
        Reading {
            records: Pointer::parse("").unwrap(),
            scan: Scan {
                workers: 2,
                ..Scan::of_keys(vec![Pointer::parse("/id").unwrap()])
            },
            body_max: 1 << 20,
            timeout: Duration::from_secs(60),
            config: 0,
        }
    }

    /// An answer with these pieces, each after a pause.
    fn response(pieces: Vec<(Duration, &'static str)>) -> Response {
        let pieces = futures_util::stream::iter(pieces).then(|(pause, piece)| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(piece)
        });
        axum::http::Response::new(reqwest::Body::wrap_stream(pieces)).into()
    }

    #[tokio::test(start_paused = true)]
    async fn r29_a_wait_for_memory_is_not_the_apis_fault() {
        let second = Duration::from_secs(1);
        let budget = Budget::new(100);
        let oldest = budget.reserve(100).await;
        let mut reservation = budget.reserve(0).await;
        let reading = reading();
        let pieces = response(vec![(second, "["), (20 * second, "]")]);
        let answer = read(pieces, &reading, None, false, &mut reservation);
        let freed = async {
            tokio::time::sleep(100 * second).await;
            drop(oldest);
        };
        let (answer, ()) = tokio::join!(answer, freed);
        assert!(matches!(answer, Answer::Body { .. }), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_falls_silent_or_never_ends_is_given_up() {
        let second = Duration::from_secs(1);
        let reading = reading();
        let lines = (0..20).map(|_| (7 * second, "\n")).collect();
        let cases = [
            (vec![(second, "["), (29 * second, "]")], None),
            (
                vec![(second, "["), (31 * second, "]")],
                Some("nothing more of the answer came within 30s, 1 bytes"),
            ),
            (lines, Some("not at its end after 1m, 8 bytes")),
        ];
        for (pieces, why) in cases {
            let mut reservation = Budget::new(1 << 20).reserve(0).await;
            let answer = read(response(pieces), &reading, None, false, &mut reservation).await;
            match (&answer, why) {
                (Answer::Body { .. }, None) => {}
                (Answer::Failed(said), Some(why)) => assert!(said.contains(why), "{said}"),
                _ => panic!("{why:?}: {answer:?}"),
            }
        }
    }

    #[tokio::test]
    async fn r29_what_entries_are_known_by_counts_whether_or_not_the_body_was_held() {
        let reading = reading();
        let other = Validators {
            config: 0,
            etag: None,
            modified: None,
            body: "of another body".into(),
        };
        let entries: Vec<String> = (0..1_000).map(|id| format!("{{\"id\":{id}}}")).collect();
        let text = format!("[{}]", entries.join(","));
        for hold in [false, true] {
            let budget = Budget::new(1 << 20);
            let mut reservation = budget.reserve(0).await;
            let response = axum::http::Response::new(text.clone()).into();
            let answer = read(response, &reading, Some(&other), hold, &mut reservation).await;
            let Answer::Body { bytes, held, .. } = answer else {
                panic!("a body: {answer:?}");
            };
            let known = 1_000 * (size_of::<Seen>() + size_of::<Span>()) as u64;
            assert_eq!(bytes, text.len() as u64);
            // Memory that is used again may be twice as large.
            let columns = held - bytes;
            assert!(
                (known..=2 * known).contains(&columns),
                "{columns} for {known}"
            );
            assert_eq!(budget.used(), held, "held: {hold}");
        }
    }
}

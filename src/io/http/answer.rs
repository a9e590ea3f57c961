//! From a response to a snapshot, or the reason why there is none (G4: a failed, truncated or
//! malformed poll changes nothing).
//!
//! The body is hashed as it arrives. Where the last body came byte-identical, this one is held until
//! its hash is known, and only cut into pieces if it differs: a body that never changes costs no more
//! than receiving and hashing it. Otherwise it is cut while it arrives.

use std::time::Duration;

use bytes::Bytes;
use deltapoll_state::fail;
use reqwest::header::{ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use reqwest::{Response, StatusCode};
use tokio::time::timeout_at;
use xxhash_rust::xxh3::Xxh3;

use crate::clock;
use crate::config::secret;
use crate::io::json::cutter::{Cutter, PIECE_BYTES};
use crate::io::json::pointer::Pointer;

use super::budget::Reservation;
use super::client::describe;
use super::pace::retry_after;
use super::validators::Validators;

/// How much of an error's body is shown.
const EXCERPT_BYTES: usize = 120;

/// How an answer is to be read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Where the list is.
    pub records: Pointer,
    /// The longest body, after decompression.
    pub body_max: u64,
    /// How long a body may take: one that drips would hold its memory, and hold others back (R29).
    pub timeout: Duration,
    /// Seed of the body's hash.
    pub seed: u64,
    /// Hash of the cell's effective configuration.
    pub config: u64,
}

/// What an answer says.
#[derive(Debug)]
pub enum Answer {
    /// A body that may hold something new.
    Body {
        /// Whole entries, in order.
        pieces: Vec<Bytes>,
        /// Of this body.
        validators: Validators,
        /// Bytes in all.
        bytes: u64,
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
    let mut deadline = clock::now() + reading.timeout;
    loop {
        let chunk = match timeout_at(deadline.into(), response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Answer::Failed(describe(&error)),
            Err(_) => {
                return Answer::Failed(format!(
                    "the answer was not at its end after {}, {} bytes of it had come",
                    humantime::format_duration(reading.timeout),
                    body.bytes
                ));
            }
        };
        if body.bytes + chunk.len() as u64 > reading.body_max {
            let most = crate::config::quantity::Bytes(reading.body_max);
            return Answer::Failed(format!(
                "the answer is longer than limits.body_max = {most}"
            ));
        }
        let since = clock::now();
        reservation.grow_to(body.bytes + chunk.len() as u64).await;
        // The wait for memory is not the API's fault.
        deadline += clock::now() - since;
        if let Err(what) = body.push(chunk) {
            return Answer::Failed(what);
        }
    }
    body.finish(reading, &headers, known)
}

struct Body {
    cutter: Cutter,
    hash: Xxh3,
    bytes: u64,
    /// Chunks that are not cut yet.
    held: Option<Vec<Bytes>>,
    pieces: Vec<Bytes>,
}

impl Body {
    fn new(reading: &Reading, hold: bool) -> Body {
        Body {
            cutter: Cutter::new(&reading.records, PIECE_BYTES),
            hash: Xxh3::with_seed(reading.seed),
            bytes: 0,
            held: hold.then(Vec::new),
            pieces: Vec::new(),
        }
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), String> {
        self.bytes += chunk.len() as u64;
        self.hash.update(&chunk);
        match &mut self.held {
            Some(held) => {
                held.push(chunk);
                Ok(())
            }
            None => self
                .cutter
                .push(&chunk, &mut self.pieces)
                .map_err(|what| what.to_string()),
        }
    }

    fn finish(
        mut self,
        reading: &Reading,
        headers: &HeaderMap,
        known: Option<&Validators>,
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
            if let Err(what) = self.cutter.push(&chunk, &mut self.pieces) {
                return Answer::Failed(what.to_string());
            }
        }
        match self.cutter.finish(&mut self.pieces) {
            Ok(()) => Answer::Body {
                pieces: self.pieces,
                validators,
                bytes,
            },
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
    let body = match response.chunk().await {
        Ok(Some(chunk)) if remedy.is_empty() => excerpt(&chunk),
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

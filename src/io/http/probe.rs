//! One request, for `check`: what a first poll of a cell would find. Nothing is kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Client;

use crate::clock;
use crate::config::secret::Text;
use crate::io::json::extract;
use crate::io::json::hash::RecordKey;
use crate::io::json::pointer::Pointer;

use super::answer::{self, Answer, Reading};
use super::budget::Budget;
use super::client;

/// The longest that anybody wants to look at a check.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cell to ask once.
pub struct Probe {
    /// The address, vars filled in.
    pub url: String,
    /// Request headers.
    pub headers: Vec<(String, Text)>,
    /// How the answer is read.
    pub reading: Reading,
    /// Pointers to an entry's key.
    pub keys: Vec<Pointer>,
    /// What the record key has before it.
    pub key_prefix: String,
    /// What the record key has after it.
    pub key_suffix: String,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Entries in the answer.
    pub entries: u64,
    /// Entries without a usable key.
    pub keyless: u64,
    /// Bytes of the body, after decompression.
    pub bytes: u64,
    /// From the request to the last byte.
    pub took: Duration,
    /// The record key of the first entry that has a key.
    pub example: Option<String>,
}

/// Sends the request and reads the answer to its end.
///
/// # Errors
/// The reason why a poll would fail.
pub async fn probe(client: &Client, probe: &Probe) -> Result<Found, String> {
    let started = clock::now();
    let asked = tokio::time::timeout(PATIENCE, ask(client, probe));
    let Ok(answer) = asked.await else {
        return Err(format!("no whole answer within {}s", PATIENCE.as_secs()));
    };
    match answer {
        Answer::Body { pieces, bytes, .. } => found(probe, &pieces, bytes, started),
        Answer::TooMany { what, .. } => Err(format!(
            "the API answered 429 Too Many Requests{what}: try again later"
        )),
        Answer::Failed(reason) => Err(reason),
        Answer::Unchanged { .. } => Err("the API answered a question that was not asked".into()),
    }
}

async fn ask(client: &Client, probe: &Probe) -> Answer {
    let mut reservation = Budget::new(probe.reading.body_max).reserve(0).await;
    match client::get(client, &probe.url, &probe.headers, None).await {
        Ok(response) => answer::read(response, &probe.reading, None, false, &mut reservation).await,
        Err(reason) => Answer::Failed(reason),
    }
}

fn found(probe: &Probe, pieces: &[Bytes], bytes: u64, started: Instant) -> Result<Found, String> {
    let took = clock::now().duration_since(started);
    let mut found = Found {
        entries: 0,
        keyless: 0,
        bytes,
        took,
        example: None,
    };
    let mut record_key = RecordKey::new(&probe.key_prefix, &probe.key_suffix);
    for piece in pieces {
        let counts = extract::scan(piece, &probe.keys, |entry| {
            if let (None, Some(key)) = (&found.example, entry.key) {
                let key = String::from_utf8_lossy(record_key.of(key));
                found.example = Some(key.into_owned());
            }
        });
        let counts = counts.map_err(|malformed| malformed.to_string())?;
        found.entries += counts.entries;
        found.keyless += counts.keyless;
    }
    Ok(found)
}

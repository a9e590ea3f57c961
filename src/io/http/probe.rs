//! One request, for `check`: what a first poll of a cell would find. Nothing is kept.

use std::time::{Duration, Instant};

use reqwest::Client;

use crate::clock;
use crate::config::secret::Text;
use crate::io::json::extract;
use crate::io::json::hash::RecordKey;
use crate::snapshot::Piece;

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
        Answer::Body { pieces, bytes, .. } => Ok(found(probe, &pieces, bytes, started)),
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

fn found(probe: &Probe, pieces: &[Piece], bytes: u64, started: Instant) -> Found {
    let took = clock::now().duration_since(started);
    let mut counts = extract::Counts::default();
    pieces.iter().for_each(|piece| counts.add(piece.counts));
    Found {
        entries: counts.entries,
        keyless: counts.keyless,
        bytes,
        took,
        example: pieces.iter().find_map(|piece| example(probe, piece)),
    }
}

/// The record key of the first entry of a piece that has a key.
fn example(probe: &Probe, piece: &Piece) -> Option<String> {
    let scan = &probe.reading.scan;
    let span = piece.owned.iter().find_map(|owned| owned.spans.first())?;
    let entry = &piece.bytes[span.offset as usize..][..span.length as usize];
    let mut keys = extract::Keys::new(&scan.keys);
    let mut record_key = RecordKey::new(&scan.key_prefix, &scan.key_suffix);
    let key = record_key.of(keys.of(entry)?);
    Some(String::from_utf8_lossy(key).into_owned())
}

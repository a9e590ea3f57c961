//! Answers of the league API from memory, read as those that come from outside.

use std::time::Duration;

use bytes::Bytes;
use deltapoll::io::http::answer::{Answer, Reading, read};
use deltapoll::io::http::budget::Budget;
use deltapoll::io::http::validators::Validators;
use deltapoll::io::json::pointer::Pointer;
use deltapoll::io::json::scan::Scan;

/// Of all hashes, and of what is random.
pub const SEED: u64 = 7;
/// As hyper hands them out.
const CHUNK_BYTES: usize = 16 << 10;
const BODY_MAX: u64 = 1 << 30;

/// An entry of the league API, with its 78-byte key.
pub fn player(number: usize) -> String {
    player_of(number, 0)
}

/// The same player after some games: other bytes for each number of them below 1,000.
pub fn player_of(number: usize, games: usize) -> String {
    format!(
        "{{\"puuid\":\"{number:0>78}\",\"leaguePoints\":{},\"rank\":\"I\",\"wins\":{},\"losses\":{},\
         \"veteran\":false,\"inactive\":false,\"freshBlood\":true,\"hotStreak\":false}}",
        number % 2000,
        number % 311 + games,
        number % 293
    )
}

/// An answer with these entries, in the chunks in which a client gets it.
pub fn chunks(players: &[String]) -> Vec<Bytes> {
    let body = Bytes::from(format!("{{\"entries\":[{}]}}", players.join(",")));
    let starts = (0..body.len()).step_by(CHUNK_BYTES);
    starts
        .map(|at| body.slice(at..body.len().min(at + CHUNK_BYTES)))
        .collect()
}

/// Reads an answer with this body, scanned for so many workers; `known`: of the last one, whose bytes
/// are expected again.
pub async fn answer(body: &[Bytes], known: Option<&Validators>, workers: usize) -> Answer {
    let chunks: Vec<Result<Bytes, std::io::Error>> = body.iter().cloned().map(Ok).collect();
    let chunks = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let reading = Reading {
        records: Pointer::parse("/entries").expect("a pointer"),
        scan: scan(workers),
        body_max: BODY_MAX,
        timeout: Duration::from_secs(600),
        config: 1,
    };
    // As the program does: what the last one took.
    let expected = known.map_or(0, |_| body.iter().map(Bytes::len).sum::<usize>());
    let mut reservation = Budget::new(BODY_MAX).reserve(expected as u64).await;
    let response = axum::http::Response::new(chunks);
    let same = known.is_some();
    read(response.into(), &reading, known, same, &mut reservation).await
}

/// What entries are known by.
pub fn scan(workers: usize) -> Scan {
    Scan {
        keys: vec![Pointer::parse("/puuid").expect("a pointer")],
        key_prefix: "kr:".into(),
        key_suffix: String::new(),
        seed: SEED,
        workers,
    }
}

/// Where answers are read: on the thread that asks.
pub fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime")
}

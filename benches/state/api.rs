//! An API that makes up its answers while it sends them.
//!
//! An entry depends on its cell, its number and the answer's: what has changed can be said without
//! remembering anything.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::get;
use bytes::Bytes;
use deltapoll::clock;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub const KEY_BYTES: usize = 78;
const CHUNK_BYTES: usize = 256 << 10;
/// An odd number that spreads; the order of an answer is made of it, too.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// What one million is to a fraction.
const MILLION: u64 = 1_000_000;

/// It ends with this.
pub struct Api {
    _runtime: Runtime,
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    keys: u64,
    /// Of a million entries, those that change from answer to answer.
    churn: AtomicU64,
    answers: AtomicU64,
    /// When the first question came since it was last looked at.
    first: Mutex<Option<Instant>>,
    body_bytes: AtomicU64,
}

impl Api {
    /// Starts to listen; each cell has so many keys, and nothing changes.
    pub fn start(keys: usize) -> io::Result<Api> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            keys: keys as u64,
            churn: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            first: Mutex::new(None),
            body_bytes: AtomicU64::new(0),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/{cell}", get(answer))
            .with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Api {
            _runtime: runtime,
            address,
            shared,
        })
    }

    /// From now on this fraction of the entries changes from answer to answer.
    pub fn churn(&self, fraction: f64) {
        let churn = (fraction * MILLION as f64) as u64;
        self.shared.churn.store(churn, Ordering::Relaxed);
    }

    /// When the first question came since this was asked.
    pub fn take_first(&self) -> Option<Instant> {
        let first = self.shared.first.lock();
        first.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Of the last answer.
    pub fn body_bytes(&self) -> u64 {
        self.shared.body_bytes.load(Ordering::Relaxed)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Path(cell): Path<u64>) -> Body {
    let first = shared.first.lock();
    (first.unwrap_or_else(PoisonError::into_inner)).get_or_insert_with(clock::now);
    let number = shared.answers.fetch_add(1, Ordering::Relaxed);
    let writer = Writer {
        cell,
        number,
        churn: shared.churn.load(Ordering::Relaxed),
        step: step(shared.keys),
        done: 0,
        bytes: 0,
        shared,
    };
    Body::from_stream(stream::iter(writer.map(Ok::<_, io::Error>)))
}

/// An odd stride that visits every number below `keys` once.
fn step(keys: u64) -> u64 {
    let common = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let from = (MIX % keys.max(1)) | 1;
    (from..)
        .step_by(2)
        .find(|step| common(*step, keys) == 1)
        .unwrap_or(1)
}

/// An answer, chunk by chunk.
struct Writer {
    shared: Arc<Shared>,
    cell: u64,
    number: u64,
    churn: u64,
    step: u64,
    done: u64,
    bytes: u64,
}

impl Iterator for Writer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let keys = self.shared.keys;
        if self.done > keys {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 512);
        if self.done == 0 {
            chunk.extend_from_slice(b"{\"entries\":[");
        }
        while self.done < keys && chunk.len() < CHUNK_BYTES {
            if self.done > 0 {
                chunk.push(b',');
            }
            let at = self.done.wrapping_add(self.number);
            let entry = u128::from(at) * u128::from(self.step) % u128::from(keys);
            self.entry(&mut chunk, entry as u64);
            self.done += 1;
        }
        if self.done == keys && chunk.len() < CHUNK_BYTES {
            chunk.extend_from_slice(b"]}");
            self.done += 1;
        }
        self.bytes += chunk.len() as u64;
        self.shared.body_bytes.store(self.bytes, Ordering::Relaxed);
        Some(chunk.into())
    }
}

impl Writer {
    fn entry(&self, out: &mut Vec<u8>, entry: u64) {
        let seed = mix(entry ^ (self.cell << 40));
        out.extend_from_slice(b"{\"puuid\":\"");
        key(out, seed);
        out.extend_from_slice(b"\",\"leaguePoints\":");
        digits(out, 1000 + seed % 1000);
        out.extend_from_slice(b",\"rank\":\"I\",\"wins\":");
        digits(out, 100 + self.games(seed));
        out.extend_from_slice(
            b",\"losses\":123,\"veteran\":false,\"inactive\":false,\"freshBlood\":true,\"hotStreak\":false}",
        );
    }

    /// The last answer at which it changed.
    fn games(&self, seed: u64) -> u64 {
        if self.churn == 0 {
            return 0;
        }
        let changes = |number: u64| mix(seed ^ number) % MILLION < self.churn;
        let since = self.number.saturating_sub(GAMES_MAX);
        let last = (since..=self.number).rev().find(|number| changes(*number));
        last.unwrap_or(0)
    }
}

/// Who did not play in so many answers has no games again.
const GAMES_MAX: u64 = 64;

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(MIX);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn key(out: &mut Vec<u8>, seed: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut word = seed;
    for at in 0..KEY_BYTES {
        if at % 16 == 0 {
            word = mix(word ^ at as u64);
        }
        out.push(DIGITS[(word >> (at % 16 * 4)) as usize & 15]);
    }
}

/// Of a number below 100,000,000.
fn digits(out: &mut Vec<u8>, number: u64) {
    let mut text = [0; 8];
    let mut left = number;
    let mut at = text.len();
    while left > 0 || at == text.len() {
        at -= 1;
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend_from_slice(&text[at..]);
}

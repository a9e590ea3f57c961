//! What does each path cost by itself, from a body's bytes to an archived record?
//!
//! ```text
//! cargo bench --bench paths [-- FILTER]
//! ```
//!
//! Input: a league answer of [`ENTRIES`] players, each with a 78-byte key, about 220 bytes of JSON an
//! entry, in chunks as a client receives them. `scan` and `canonical` are throughputs of those bytes;
//! `pages` and `murmur2` count keys; `journal` appends batches of [`BATCH_BYTES`] and syncs after each,
//! so that it measures the disk under the temporary directory; `avro` counts bytes of values.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use deltapoll::change::{CellId, Epoch, Fingerprint, KeyHash, Kind, Seq};
use deltapoll::config::Codec;
use deltapoll::io::avro::container::{Blocks, sync_marker};
use deltapoll::io::avro::schema::Record;
use deltapoll::io::json::canonical::Canonical;
use deltapoll::io::json::cutter::Cutter;
use deltapoll::io::json::hash;
use deltapoll::io::json::pointer::Pointer;
use deltapoll::io::json::scan::Scan;
use deltapoll::io::kafka::murmur2::partition_of;
use deltapoll::snapshot::Piece;
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::{Pages, Update};
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;
use deltapoll_state::store::SledStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ENTRIES: usize = 50_000;
const SEED: u64 = 7;
const CHUNK_BYTES: usize = 16 << 10;
const PIECE_BYTES: usize = 256 << 10;
const BATCH_BYTES: usize = 64 << 10;
const CACHE_BYTES: u64 = 32 << 20;
/// Of the keys, for `pages/merge`.
const CHURN: f64 = 0.01;
const PARTITIONS: u32 = 12;
const CELL: CellId = CellId(1);

fn players() -> Vec<(String, String)> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut player = || {
        let key: String = (0..78)
            .map(|_| char::from(rng.random_range(b'a'..=b'z')))
            .collect();
        let entry = format!(
            "{{\"puuid\":\"{key}\",\"leaguePoints\":{},\"rank\":\"I\",\"wins\":{},\"losses\":{},\
             \"veteran\":false,\"inactive\":false,\"freshBlood\":true,\"hotStreak\":false}}",
            rng.random_range(0..2000),
            rng.random_range(0..400),
            rng.random_range(0..400),
        );
        (key, entry)
    };
    (0..ENTRIES).map(|_| player()).collect()
}

/// In one pass while it arrives: cut, found and hashed.
fn read(body: &[u8], scan: &Scan) -> Vec<Piece> {
    let records = Pointer::parse("/entries").expect("a pointer");
    let mut cutter = Cutter::new(&records, PIECE_BYTES, &scan.keys);
    let mut scanner = scan.begin();
    for chunk in body.chunks(CHUNK_BYTES) {
        cutter.push(chunk, &mut scanner).expect("sound");
    }
    cutter.finish().expect("whole");
    scanner.finish()
}

fn scan(criterion: &mut Criterion) {
    let entries: Vec<String> = players().into_iter().map(|(_, entry)| entry).collect();
    let body = format!("{{\"entries\":[{}]}}", entries.join(","));
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let scan = Scan {
        keys: vec![Pointer::parse("/puuid").expect("a pointer")],
        key_prefix: "kr:".into(),
        key_suffix: String::new(),
        seed: SEED,
        workers: 1,
    };
    group.bench_function("cut, extract and hash", |b| {
        b.iter(|| read(black_box(body.as_bytes()), &scan));
    });
    let pieces: Vec<Bytes> = read(body.as_bytes(), &scan)
        .into_iter()
        .map(|piece| piece.bytes)
        .collect();
    group.bench_function("extract and hash", |b| {
        b.iter(|| {
            let mut scanner = scan.begin();
            for piece in &pieces {
                scanner.take(black_box(piece).clone()).expect("sound");
            }
            scanner.finish()
        });
    });
    group.bench_function("canonical fingerprint", |b| {
        let mut canonical = Canonical::new(&[], SEED);
        b.iter(|| {
            let prints = entries
                .iter()
                .map(|entry| canonical.fingerprint(black_box(entry.as_bytes())));
            prints.fold(0, |sum, print| sum ^ print.expect("sound"))
        });
    });
    group.finish();
}

fn print(of: u64) -> Option<Fingerprint> {
    Some(Fingerprint {
        raw: of,
        canon: !of,
        rule: 1,
    })
}

/// The key is given once, with its first fingerprint.
fn update((hash, key): &(KeyHash, String), round: u64) -> Update<'_> {
    Update {
        hash: *hash,
        print: print(hash.top() ^ round),
        key: if round == 0 { key.as_bytes() } else { &[] },
    }
}

/// Pages in a sled store of their own, which the directory holds.
fn open_pages() -> (tempfile::TempDir, Pages) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(dir.path(), CACHE_BYTES).expect("a store");
    (dir, Pages::new(Arc::new(store)))
}

fn pages(criterion: &mut Criterion) {
    let mut keyed: Vec<(KeyHash, String)> = players()
        .into_iter()
        .map(|(key, _)| (hash::key(SEED, key.as_bytes()), key))
        .collect();
    keyed.sort_unstable();
    let all = Range::of(0, 1);
    let load: Vec<Update<'_>> = keyed.iter().map(|one| update(one, 0)).collect();
    let mut group = criterion.benchmark_group("pages");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("load", |b| {
        b.iter_batched(
            open_pages,
            |(dir, pages)| {
                pages.merge(CELL, all, &load).expect("merges");
                (dir, pages)
            },
            BatchSize::PerIteration,
        );
    });
    let (_dir, pages) = open_pages();
    pages.merge(CELL, all, &load).expect("merges");
    group.bench_function("walk", |b| {
        let state = RangeState::new(pages.clone(), all);
        b.iter(|| {
            let walk = state.walk(CELL).expect("pages");
            walk.fold(0, |sum, one| sum ^ one.expect("sound").1.raw)
        });
    });
    let step = (1.0 / CHURN) as usize;
    group.throughput(Throughput::Elements((ENTRIES / step) as u64));
    group.bench_function("merge", |b| {
        let mut round = 0;
        b.iter(|| {
            round += 1;
            let some = keyed.iter().skip(round as usize % step).step_by(step);
            let updates: Vec<Update<'_>> = some.map(|one| update(one, round)).collect();
            pages.merge(CELL, all, &updates).expect("merges")
        });
    });
    group.finish();
}

fn journal(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(dir.path(), Options::default()).expect("opens");
    let body = vec![b'x'; BATCH_BYTES];
    let mut epoch = 0;
    let mut group = criterion.benchmark_group("journal");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(BATCH_BYTES as u64));
    group.bench_function("append and sync", |b| {
        b.iter(|| {
            epoch += 1;
            let seq = journal.append(Epoch(epoch), black_box(&body), Some(&[]));
            journal.sync().expect("syncs");
            journal.retire(Seq(seq.expect("appends").0.saturating_sub(1)))
        });
    });
    group.finish();
}

fn avro(criterion: &mut Criterion) {
    let players = players();
    let bytes: usize = players.iter().map(|(_, entry)| entry.len()).sum();
    let mut group = criterion.benchmark_group("avro");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(bytes as u64));
    for codec in [Codec::Null, Codec::Snappy, Codec::Zstandard] {
        group.bench_function(format!("encode {codec:?}"), |b| {
            b.iter(|| {
                let mut blocks = Blocks::new(codec, sync_marker("bench", "object"));
                for (key, entry) in &players {
                    let record = Record {
                        key,
                        kind: Kind::Changed,
                        epoch: Epoch(1_700_000_000_000),
                        seq: Seq(123_456),
                        polled_at: 1_700_000_000_000,
                        print: SEED,
                        value: Some(entry),
                    };
                    blocks.push(&record).expect("compresses");
                }
                blocks.file(&[]).expect("compresses")
            });
        });
    }
    group.finish();
}

fn murmur2(criterion: &mut Criterion) {
    let keys: Vec<String> = players().into_iter().map(|(key, _)| key).collect();
    let mut group = criterion.benchmark_group("murmur2");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("partition of 78-byte keys", |b| {
        b.iter(|| {
            let partitions = keys
                .iter()
                .map(|key| partition_of(black_box(key.as_bytes()), PARTITIONS));
            partitions.fold(0, |sum, partition| sum ^ partition)
        });
    });
    group.finish();
}

criterion_group!(paths, scan, pages, journal, avro, murmur2);
criterion_main!(paths);

//! How much disk and memory does the state of many keys take, and how fast is a walk over it?
//!
//! `cargo run -p deltapoll-state --example footprint [KEYS]`: loads keys of 78 bytes in ten writes,
//! then changes 1 % at random, twenty times; after each write the store is flushed.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;
use deltapoll_state::range_state::{Note, RangeState};
use deltapoll_state::store::{PageStore, SledStore};
use deltapoll_state::word::{CellId, Epoch, Fingerprint, KeyHash};

const KEY_BYTES: usize = 78;
const CACHE_BYTES: u64 = 32 << 20;
const CELL: CellId = CellId(1);
const ROUNDS: u64 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let keys: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let open = || SledStore::open(dir.path(), CACHE_BYTES);
    let store = Arc::new(open()?);
    let mut state = RangeState::new(Pages::new(store.clone()), Range::ALL);
    println!(
        "{:>8} {:>10} {:>10} {:>9} {:>8}",
        "", "written", "disk/key", "time", "memory"
    );
    let mut epoch = 0;
    let mut step = |state: &mut RangeState, numbers: &[u64], first| -> Result<(), Box<dyn Error>> {
        epoch += 1;
        let key = [b'k'; KEY_BYTES];
        let note = |number: &u64| Note {
            hash: hash(*number),
            print: Some(Fingerprint {
                raw: epoch,
                canon: *number,
                rule: 1,
            }),
            key: if first { &key } else { &[] },
        };
        state.note(CELL, Epoch(epoch), numbers.iter().map(note).collect());
        let start = Instant::now();
        let written = state.write(Epoch(epoch))?;
        store.flush()?;
        println!(
            "{:>8} {:>7} kB {:>10.1} {:>6} ms {:>5} MB",
            if first { "load" } else { "change" },
            written.bytes / 1000,
            store.bytes()? as f64 / keys as f64,
            start.elapsed().as_millis(),
            resident_kib()? / 1024,
        );
        Ok(())
    };
    for part in 0..10 {
        let numbers: Vec<u64> = (0..keys).filter(|n| n % 10 == part).collect();
        step(&mut state, &numbers, true)?;
    }
    for round in 0..ROUNDS {
        let numbers: Vec<u64> = (0..keys)
            .filter(|n| top(*n ^ (round << 40)).is_multiple_of(100))
            .collect();
        step(&mut state, &numbers, false)?;
    }
    walk(&state, "walk")?;
    drop((state, store));
    let start = Instant::now();
    let state = RangeState::new(Pages::new(Arc::new(open()?)), Range::ALL);
    println!("reopened in {} ms", start.elapsed().as_millis());
    walk(&state, "cold")?;
    walk(&state, "again")?;
    println!("memory {} MB", resident_kib()? / 1024);
    Ok(())
}

fn walk(state: &RangeState, name: &str) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (mut count, mut sum) = (0_u64, 0);
    for item in state.walk(CELL)? {
        let (hash, print) = item?;
        count += 1;
        sum ^= hash.top() ^ print.raw;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{name}: {count} entries, {rate:.1} M/s ({sum:x})");
    Ok(())
}

fn hash(number: u64) -> KeyHash {
    KeyHash(u128::from(top(number)) << 64 | u128::from(number))
}

fn top(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ number
}

fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

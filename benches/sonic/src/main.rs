//! What does the baseline of `unchanged` take by itself, built for this machine?
//!
//! ```text
//! RUSTFLAGS="-Ctarget-cpu=native -Cno-vectorize-slp" \
//!   cargo run --release --manifest-path benches/sonic/Cargo.toml
//! ```
//!
//! sonic-rs chooses its vector instructions when it is compiled: in `unchanged` it has those that every x86-64
//! processor has, since all of that is built as what users get. Here it may have all. The same body, the same
//! loop: 500,000 players in a new order for each run; the list iterated lazily and checked, each entry's key,
//! XXH3 of key and entry. What is told is the median of seven runs.

use std::hint::black_box;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sonic_rs::JsonValueTrait;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

const SEED: u64 = 7;
const ENTRIES: usize = 500_000;
const RUNS: usize = 7;

fn main() {
    let mut players: Vec<usize> = (0..ENTRIES).collect();
    let mut random = StdRng::seed_from_u64(SEED);
    let mut took = Vec::new();
    // The first round warms up and is not told.
    for round in 0..=RUNS {
        players.shuffle(&mut random);
        let texts: Vec<String> = players.iter().copied().map(player).collect();
        let body = format!("{{\"entries\":[{}]}}", texts.join(","));
        drop(texts);
        let since = Instant::now();
        assert_eq!(baseline(body.as_bytes()), ENTRIES);
        if round > 0 {
            took.push(since.elapsed().as_secs_f64());
        }
    }
    took.sort_by(f64::total_cmp);
    let median = took[RUNS / 2];
    let avx2 = cfg!(target_feature = "avx2");
    println!(
        "{ENTRIES} entries, built with AVX2: {avx2}: {median:.3} s, {:.2} M entries/s",
        ENTRIES as f64 / median / 1e6
    );
}

/// As in `benches/support/body.rs`.
fn player(number: usize) -> String {
    format!(
        "{{\"puuid\":\"{number:0>78}\",\"leaguePoints\":{},\"rank\":\"I\",\"wins\":{},\"losses\":{},\
         \"veteran\":false,\"inactive\":false,\"freshBlood\":true,\"hotStreak\":false}}",
        number % 2000,
        number % 311,
        number % 293
    )
}

/// As in `benches/unchanged.rs`.
fn baseline(body: &[u8]) -> usize {
    let list = sonic_rs::get(body, ["entries"].iter()).expect("there is a list");
    let mut entries = 0;
    for entry in sonic_rs::to_array_iter(list.as_raw_str()) {
        let entry = entry.expect("it is JSON");
        let key = entry.get("puuid").expect("it has a key");
        let key = key.as_str().expect("it is text");
        black_box(xxh3_128_with_seed(key.as_bytes(), SEED));
        black_box(xxh3_64_with_seed(entry.as_raw_str().as_bytes(), SEED));
        entries += 1;
    }
    entries
}

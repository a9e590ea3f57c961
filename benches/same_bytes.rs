//! What does a body cost whose bytes are those of the last one, against hashing them alone?
//!
//! ```text
//! cargo bench --bench same_bytes [-- --entries N] [--runs N]
//! ```
//!
//! The body: a ladder of `entries` players, about 214 bytes an entry, in memory, in chunks of 16 KiB as a
//! client receives them. Deltapoll: `read`, from the response to the verdict; chunks are hashed as they
//! come, held, and dropped when the hash turns out to be known. Nothing enters the graph. The baseline
//! walks over the same chunks with the same hash, XXH3-128. Runs take turns; what is told is medians.

use std::hint::black_box;

use bytes::Bytes;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::clock;
use deltapoll::io::http::answer::Answer;
use xxhash_rust::xxh3::Xxh3;

use body::{SEED, answer, chunks, player, runtime};
use tell::tell_machine;
use turns::{aim, median, seconds};

#[path = "support/body.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod body;
#[path = "support/tell.rs"]
mod tell;
#[path = "support/turns.rs"]
mod turns;

/// Of the baseline's rate.
const AIM: f64 = 0.9;

#[derive(Parser)]
#[command(name = "same_bytes")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = 500_000)]
    entries: usize,
    /// Runs of each
    #[arg(long, default_value_t = 15, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let players: Vec<String> = (0..args.entries).map(player).collect();
    let body = chunks(&players);
    drop(players);
    let bytes: usize = body.iter().map(Bytes::len).sum();
    let runtime = runtime();
    let Answer::Body { validators, .. } = runtime.block_on(answer(&body, None, 1)) else {
        panic!("a body");
    };
    let (mut ours, mut hashes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up and is not told.
    for round in 0..=args.runs {
        let since = clock::now();
        let same = runtime.block_on(answer(&body, Some(&validators), 1));
        let took = seconds(since);
        assert!(matches!(same, Answer::Unchanged { .. }));
        let since = clock::now();
        black_box(hash(&body));
        let hashed = seconds(since);
        let since = clock::now();
        black_box(sum(&body));
        let read = seconds(since);
        if round > 0 {
            ours.push(took);
            hashes.push(hashed);
            reads.push(read);
        }
    }
    tell_machine();
    println!(
        "{} entries, {:.0} bytes each, in memory, the bytes of the last time",
        args.entries,
        bytes as f64 / args.entries as f64
    );
    let (ours, hashed) = (median(ours), median(hashes));
    for (name, took) in [
        ("deltapoll, read", ours),
        ("XXH3-128 alone", hashed),
        ("reading it alone", median(reads)),
    ] {
        println!(
            "{name:<20}{:>8.4} s{:>8.1} M entries/s{:>8.2} GB/s",
            took,
            args.entries as f64 / took / 1e6,
            bytes as f64 / took / 1e9
        );
    }
    println!("{}", aim("read against hash alone", hashed / ours, AIM));
}

/// Reads every byte: how fast memory is.
fn sum(body: &[Bytes]) -> u64 {
    let words = body.iter().flat_map(|chunk| chunk.as_chunks::<8>().0);
    words.fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

fn hash(body: &[Bytes]) -> u128 {
    let mut hash = Xxh3::with_seed(SEED);
    for chunk in body {
        hash.update(chunk);
    }
    hash.digest128()
}

//! How many instructions do the main paths take, for the same input each time?
//!
//! ```text
//! scripts/bench-gate [--record]
//! ```
//!
//! Instructions are the same in each run, where times are not; so few of them more are noticed. The
//! script runs this program under valgrind, which counts what is done inside of [`measured`] alone:
//!
//! ```text
//! gate list           names of all works
//! gate environment    what this processor, or valgrind's, has
//! gate WORK           does it once, after what it needs
//! ```
//!
//! Input: ladders of [`ENTRIES`] players with 78-byte keys, about 214 bytes an entry. Everything runs on
//! one thread; the store is in memory, and fsyncs, the page cache and the network do not show.
//!
//! Layout: [`decide`] a poll, from the body's chunks to encoded batches; [`parts`] the rest.

mod decide;
#[path = "../support/graph.rs"]
mod graph;
mod parts;

use std::hint::black_box;
use std::process::ExitCode;

/// Players of a ladder.
const ENTRIES: usize = 20_000;

/// A work by its name.
type Work = (&'static str, fn());

const WORKS: [Work; 9] = [
    // Find, cut, check, hash, look up.
    ("unchanged", decide::unchanged),
    // Receive and hash.
    ("same-bytes", parts::same_bytes),
    ("one-percent", decide::one_percent),
    // With it canonical fingerprints, partitions, encoding.
    ("all-changed", decide::all_changed),
    ("journal", parts::journal),
    ("pages", parts::pages),
    ("partition", parts::partition),
    // What each follower does with a sealed batch.
    ("batch", parts::batch),
    ("avro", parts::avro),
];

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        "list" => WORKS.iter().for_each(|(name, _)| println!("{name}")),
        "environment" => println!("{}", environment()),
        // From `cargo bench`, which counts nothing.
        "--bench" => println!("gate: run by scripts/bench-gate, which counts instructions"),
        name => {
            let Some((_, work)) = WORKS.iter().find(|(known, _)| *known == name) else {
                eprintln!("gate: say list, environment or a work; it is run by scripts/bench-gate");
                return ExitCode::from(2);
            };
            work();
        }
    }
    ExitCode::SUCCESS
}

/// Does what is counted: valgrind knows this function by its name.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // The call above must return here.
    black_box(());
}

/// Vector instructions decide which code of memchr, simdutf8 and libc runs.
#[cfg(target_arch = "x86_64")]
fn environment() -> String {
    let mut has = vec!["x86_64"];
    macro_rules! look {
        ($($feature:tt)*) => {
            $(if std::arch::is_x86_feature_detected!($feature) {
                has.push($feature);
            })*
        };
    }
    look!("sse4.2" "pclmulqdq" "avx" "avx2" "bmi2" "avx512f" "avx512bw");
    has.join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn environment() -> String {
    std::env::consts::ARCH.to_owned()
}

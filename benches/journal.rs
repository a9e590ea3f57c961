//! How near does the journal come to a plain file that is written and synced?
//!
//! ```text
//! cargo bench --bench journal [-- --epochs N --runs N]
//! ```
//!
//! Each epoch is a number of batches and one sync. The journal frames them, with checksums, starts a new
//! segment every 64 MiB and retires the one before; the baseline appends the same bytes to a file and
//! calls `fdatasync`, as the journal does. Shapes and both sides take turns, also in who is
//! first, under the temporary directory; what is told is medians.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::clock;
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::word::{Epoch, Seq};

use tell::tell_machine;
use turns::{aim, median, seconds};

#[path = "support/tell.rs"]
mod tell;
#[path = "support/turns.rs"]
mod turns;

/// An epoch: what it is, its batches, and the bytes of each.
const SHAPES: [(&str, usize, usize); 3] = [
    ("a small change", 1, 1 << 10),
    ("1 % of 20,000 entries", 1, 64 << 10),
    ("30,000 changes", 8, 1 << 20),
];
/// Written in each run, at most.
const BYTES: usize = 256 << 20;
const AIM: f64 = 0.8;

#[derive(Parser)]
#[command(name = "journal")]
struct Args {
    /// Epochs of a run, at most
    #[arg(long, default_value_t = 4000)]
    epochs: usize,
    /// Runs of each
    #[arg(long, default_value_t = 6, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    tell_machine();
    for (name, batches, bytes) in SHAPES {
        let epochs = args.epochs.min(BYTES / (batches * bytes));
        let body = vec![b'x'; bytes];
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        // The first round warms up and is not told.
        for round in 0..=args.runs {
            let dir = tempfile::tempdir().expect("a directory");
            // Who comes first shares the disk with what the round before has left to be removed.
            let ours_first = round % 2 == 0;
            let mut journal = || journal(dir.path(), epochs, batches, &body);
            let early = ours_first.then(&mut journal);
            let file = file(dir.path(), epochs, batches, &body);
            let journal = early.unwrap_or_else(journal);
            if round > 0 {
                ours.push(journal);
                plain.push(file);
            }
        }
        let (ours, plain) = (median(ours), median(plain));
        println!("{name}: {epochs} epochs of {batches} x {bytes} bytes");
        for (name, took) in [("journal", ours), ("plain file", plain)] {
            println!(
                "  {name:<12}{:>9.3} ms an epoch{:>9.1} MB/s",
                took / epochs as f64 * 1e3,
                (epochs * batches * bytes) as f64 / took / 1e6
            );
        }
        println!("  {}", aim("journal against plain file", plain / ours, AIM));
    }
}

fn journal(dir: &Path, epochs: usize, batches: usize, body: &[u8]) -> f64 {
    let mut journal = Journal::open(&dir.join("journal"), Options::default()).expect("opens");
    let since = clock::now();
    for epoch in 1..=epochs as u64 {
        for batch in 1..=batches {
            let end: Option<&[_]> = (batch == batches).then_some(&[]);
            journal.append(Epoch(epoch), body, end).expect("appends");
        }
        let sealed = journal.sync().expect("syncs");
        journal
            .retire(Seq(sealed.seq.0.saturating_sub(1)))
            .expect("retires");
    }
    seconds(since)
}

fn file(dir: &Path, epochs: usize, batches: usize, body: &[u8]) -> f64 {
    let mut file = File::create(dir.join("plain")).expect("a file");
    let since = clock::now();
    for _ in 0..epochs {
        for _ in 0..batches {
            file.write_all(body).expect("writes");
        }
        file.sync_data().expect("syncs");
    }
    seconds(since)
}

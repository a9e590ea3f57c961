//! What does a transaction a second cost, against no transactions at all?
//!
//! ```text
//! cargo bench --bench checkpoint -- --bootstrap HOST:PORT [--entries N] [--polls N] [--min D] [--runs N]
//! ```
//!
//! Bodies of one ladder, in memory, of which every entry changes with every poll, go through the real graph:
//! journal, state, and a broker. Once published by the program, with `checkpoint.min` as given and the
//! default headers; once, with no `min`, by a follower that hands the same records with the same headers
//! to an idempotent producer and commits nothing. Both read the journal in the same way, behind the seal.
//! From the poll after the load until the last change is acknowledged (or committed); both take turns,
//! each with a new directory and topic; what is told is medians.
//!
//! `min` also limits throughput, to a cell's entries for each `min`: `entries` must be so many that a poll
//! takes longer.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::change::{Batch, Seq};
use deltapoll::clock;
use deltapoll::fault::Fault;
use deltapoll::follower::{Follower, Log, Logs, SealedBatch};
use deltapoll::ledger::Ledger;
use deltapoll::snapshot::Verdict;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rdkafka::producer::{BaseProducer, BaseRecord};

use graph::body::player_of;
use graph::{Graph, Shape, chunks};
use producer::{Kind, drain, fresh_name, headers, producer, send};
use tell::tell_machine;
use turns::{aim, median, seconds};
use used::used;

#[path = "support/broker.rs"]
mod broker;
#[path = "support/graph.rs"]
mod graph;
#[path = "support/producer.rs"]
mod producer;
#[path = "support/publisher.rs"]
mod publisher;
#[path = "support/tell.rs"]
mod tell;
#[path = "support/turns.rs"]
mod turns;
#[path = "support/used.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod used;

const CACHE_BYTES: u64 = 32 << 20;
const PARTITIONS: u32 = 6;
/// At most 5 % less.
const AIM: f64 = 0.95;
/// Delivery reports are served once in so many records.
const SERVE_EVERY: u64 = 512;

#[derive(Parser)]
#[command(name = "checkpoint")]
struct Args {
    /// A broker
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Players of the ladder
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Polls after the one that loads
    #[arg(long, default_value_t = 5)]
    polls: u64,
    /// Shortest time between two seals
    #[arg(long, value_name = "D", default_value = "1s", value_parser = humantime::parse_duration)]
    min: Duration,
    /// Runs of each
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn broker(&self) -> &str {
        self.bootstrap.as_deref().expect("asked for first")
    }
}

/// What one run took.
struct Run {
    seconds: f64,
    cpu_seconds: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.bootstrap.is_none() {
        return broker::not_measured("checkpoint");
    }
    let body = |games| {
        let players: Vec<String> = (0..args.entries).map(|n| player_of(n, games)).collect();
        chunks(&players)
    };
    let bodies = [body(0), body(1)];
    let (mut exactly_once, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        exactly_once.push(run(&args, &bodies, true));
        plain.push(run(&args, &bodies, false));
    }
    let count = args.entries as f64 * args.polls as f64;
    let min = humantime::format_duration(args.min);
    tell_machine();
    println!(
        "{} entries, all changed by each of {} polls, {PARTITIONS} partitions",
        args.entries, args.polls
    );
    let mut rates = Vec::new();
    for (name, runs) in [
        (format!("checkpoint.min {min}"), &exactly_once),
        ("no transactions".into(), &plain),
    ] {
        let rate = count / median(runs.iter().map(|run| run.seconds).collect());
        let cpu = median(runs.iter().map(|run| run.cpu_seconds).collect());
        println!(
            "{name:<22}{:>9.3} M changes/s{:>8.2} CPU s per million",
            rate / 1e6,
            cpu / count * 1e6
        );
        rates.push(rate);
    }
    let what = format!("checkpoint.min {min} against no transactions");
    println!("{}", aim(&what, rates[0] / rates[1], AIM));
    ExitCode::SUCCESS
}

/// From the poll after the load until all is published.
fn run(args: &Args, bodies: &[Vec<Bytes>; 2], transactions: bool) -> Run {
    let name = fresh_name();
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(&dir.path().join("pages"), CACHE_BYTES).expect("a store");
    let pages = Pages::new(Arc::new(store));
    let shape = Shape {
        min: if transactions {
            args.min
        } else {
            Duration::ZERO
        },
        topic: name.clone(),
        partitions: PARTITIONS,
        ..Shape::default()
    };
    let graph = Graph::publishing(dir.path(), &pages, shape, |ledger| {
        let config = publisher::config(&name, args.broker(), PARTITIONS, true);
        // It makes the topic, too.
        let ours = publisher::publisher(config, ledger).expect("Kafka answers");
        match transactions {
            true => Box::new(ours),
            false => Box::new(Plain::open(args.broker(), ledger).expect("Kafka answers")),
        }
    });
    let loaded = graph.poll(1, &bodies[0]);
    assert_eq!(loaded.verdict, Verdict::Sealed);
    graph.published();
    let cpu = || used("self").expect("as on Linux").cpu_seconds;
    let (since, before) = (clock::now(), cpu());
    for poll in 2..2 + args.polls {
        let outcome = graph.poll(poll, &bodies[(poll - 1) as usize % 2]);
        assert_eq!(outcome.tally.changed, args.entries as u64);
    }
    graph.published();
    let run = Run {
        seconds: seconds(since),
        cpu_seconds: cpu() - before,
    };
    graph.close();
    run
}

/// Publishes without transactions: a restart would repeat, and readers see parts of a poll.
struct Plain {
    producer: BaseProducer,
    log: Box<dyn Log>,
    position: Seq,
    sent: u64,
}

impl Plain {
    fn open(bootstrap: &str, ledger: &Ledger) -> io::Result<Plain> {
        Ok(Plain {
            producer: producer(bootstrap, Kind::Idempotent)?,
            log: Logs::after(ledger, Seq(0)).map_err(io::Error::other)?,
            position: Seq(0),
            sent: 0,
        })
    }

    fn send(&mut self, sealed: &SealedBatch) -> io::Result<()> {
        let batch = Batch::read(&sealed.body).map_err(io::Error::other)?;
        let head = &batch.head;
        let numbers = [sealed.epoch.0, sealed.seq.0, head.polled_at].map(|n| n.to_string());
        for change in batch.changes() {
            let change = change.map_err(io::Error::other)?;
            let [epoch, seq, polled_at] = [&numbers[0], &numbers[1], &numbers[2]];
            let texts = [epoch, seq, polled_at, &head.source, &head.label];
            let mut record = BaseRecord::to(&head.topic)
                .partition(i32::try_from(change.partition).expect("a few"))
                .key(change.key.as_bytes())
                .headers(headers(change.kind.as_str(), texts.map(String::as_str)));
            record.payload = change.value;
            send(&self.producer, record)?;
            self.sent += 1;
            if self.sent.is_multiple_of(SERVE_EVERY) {
                self.producer.poll(Duration::ZERO);
            }
        }
        Ok(())
    }
}

impl Follower for Plain {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        let failed = |error: io::Error| Fault::failed(error.to_string());
        while self.position < upto {
            let sealed = self.log.next()?.expect("what was sealed");
            self.send(&sealed).map_err(failed)?;
            self.position = sealed.seq;
        }
        drain(&self.producer, 0).map_err(failed)?;
        Ok(self.position)
    }
}

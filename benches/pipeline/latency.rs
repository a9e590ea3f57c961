//! How long from a poll to a committed record?
//!
//! For every record that a `read_committed` consumer gets: now, minus the record's header `polled_at`,
//! which is when the last byte of the response had arrived. Both are Unix milliseconds of one clock: a
//! figure below some milliseconds says that it is small, not more. A record's timestamp is when it was
//! handed to the producer, and parts deciding and sealing from publishing.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use deltapoll::clock;
use rdkafka::{Message, Offset};
use serde_json::{Value, json};

use crate::bare::{self, Single};
use crate::producer::{Kind, fresh_name};
use crate::program::{Program, Setup};
use crate::reader::{Reader, number};
use crate::spread::Spread;
use crate::support::Simulation;
use crate::turns::median;

pub const PLATFORMS: [&str; 4] = ["kr", "euw1", "na1", "br1"];
pub const ENTRIES: u64 = 300;
/// 3 of 300.
pub const CHURN: f64 = 0.01;
/// What the program may add to an fsync and a bare transaction, at the median.
const BESIDE_MS: f64 = 3.0;
/// The aim for 99 of 100 records.
const P99_MS: f64 = 40.0;
/// Between two polls of a cell.
pub const EVERY: Duration = Duration::from_millis(100);
/// What is measured.
pub const MEASURED: Duration = Duration::from_secs(20);
/// What was polled before that does not count: the load, and whatever starts.
const WARM_UP: Duration = Duration::from_secs(2);
/// After the end of the program, what is on its way has arrived when nothing came for so long.
const QUIET: Duration = Duration::from_secs(1);
/// Between two looks whether the program has ended.
const STEP: Duration = Duration::from_millis(100);
const FSYNCS: usize = 200;
pub const TRANSACTIONS: usize = 200;

/// From poll to reader.
pub struct Latency {
    pub spread: Spread,
    /// The first part of it: until the record was handed to the producer.
    until_sent: Spread,
    /// The rest of it.
    from_sent: Spread,
    /// Epochs that the records are of.
    pub epochs: usize,
}

impl Latency {
    pub fn json(&self) -> Value {
        json!({
            "milliseconds": self.spread.json(),
            "until_sent_milliseconds": self.until_sent.json(),
            "from_sent_milliseconds": self.from_sent.json(),
            "epochs": self.epochs,
        })
    }
}

/// Measures for about `measured` on cells that are polled every 100 ms; or as often as
/// `setup.checkpoint_min` lets them.
pub fn measure(measured: Duration, mut setup: Setup, dir: &Path) -> io::Result<Latency> {
    let api = Simulation::start(ENTRIES, CHURN, dir)?;
    let between = EVERY.max(setup.checkpoint_min);
    let rounds = (WARM_UP + measured).as_secs_f64() / between.as_secs_f64();
    (setup.port, setup.platforms, setup.every) = (api.port, &PLATFORMS, EVERY);
    // One that loads.
    setup.rounds = rounds.ceil() as u64 + 1;
    let mut program = Program::start(&setup, dir)?;
    let reader = Reader::open(setup.bootstrap, &setup.name, Offset::Beginning)?;
    let (mut times, mut until_sent, mut from_sent) = (Vec::new(), Vec::new(), Vec::new());
    let (mut epochs, mut warm) = (Vec::new(), None);
    let mut ended = false;
    loop {
        let Some(message) = reader.next(if ended { QUIET } else { STEP })? else {
            if ended {
                break;
            }
            ended = program.has_ended()?;
            continue;
        };
        let now = clock::unix_ms();
        let polled_at = number(&message, "polled_at")
            .ok_or_else(|| io::Error::other("a record without polled_at"))?;
        let warm = *warm.get_or_insert(polled_at + WARM_UP.as_millis() as u64);
        if polled_at >= warm {
            times.push(now as f64 - polled_at as f64);
            let sent = message.timestamp().to_millis();
            until_sent.extend(sent.map(|sent| sent as f64 - polled_at as f64));
            from_sent.extend(sent.map(|sent| now as f64 - sent as f64));
            epochs.extend(number(&message, "epoch"));
        }
    }
    let said = program.end()?;
    epochs.sort_unstable();
    epochs.dedup();
    let spread = |times| {
        Spread::of(times)
            .ok_or_else(|| io::Error::other(format!("no record was to be measured:\n{said}")))
    };
    Ok(Latency {
        spread: spread(times)?,
        until_sent: spread(until_sent)?,
        from_sent: spread(from_sent)?,
        epochs: epochs.len(),
    })
}

/// Poll to reader, beside what disk and broker take.
struct Beside {
    latency: Latency,
    fsyncs: Spread,
    transactions: Single,
    /// With a record for every partition.
    across: Single,
    back_to_back: Spread,
}

/// All of it several times.
pub struct Runs(Vec<Beside>);

/// Measures so many times, each on a program and a name of its own.
pub fn runs(setup: &Setup, runs: usize, dir: &Path) -> io::Result<Runs> {
    let run = |run| {
        let dir = dir.join(format!("{run}"));
        std::fs::create_dir(&dir)?;
        let name = fresh_name();
        beside(
            &Setup {
                name,
                ..setup.clone()
            },
            &dir,
        )
    };
    (0..runs).map(run).collect::<io::Result<_>>().map(Runs)
}

impl Runs {
    /// Of all runs: the median of the p50 less what may be at most, and of both aims.
    fn medians(&self) -> [f64; 3] {
        let of = |figure: &dyn Fn(&Beside) -> f64| median(self.0.iter().map(figure).collect());
        let p50 = of(&|run| run.latency.spread.p50);
        [p50, of(&Beside::most), of(&|run| run.latency.spread.p99)]
    }

    pub fn text(&self) -> String {
        let [p50, most, p99] = self.medians();
        let each: Vec<String> = self.0.iter().map(Beside::text).collect();
        format!(
            "{}\nmedians of {} runs: p50 {p50:.1} ms, aim at most {most:.1}; p99 {p99:.1} ms, aim at most \
             {P99_MS}\n",
            each.join("\n"),
            self.0.len(),
        )
    }

    pub fn json(&self) -> Value {
        let [p50, most, p99] = self.medians();
        json!({
            "medians": {
                "p50_milliseconds": p50,
                "p50_aim_milliseconds": most,
                "p99_milliseconds": p99,
                "p99_aim_milliseconds": P99_MS,
            },
            "runs": self.0.iter().map(Beside::json).collect::<Vec<_>>(),
        })
    }
}

/// Measures all three in one run.
fn beside(setup: &Setup, dir: &Path) -> io::Result<Beside> {
    // Half of them before, half after.
    let mut fsyncs = bare::fsyncs(dir, FSYNCS / 2)?;
    let latency = measure(MEASURED, setup.clone(), dir)?;
    let single = |partitions| {
        let kind = Kind::Transactional;
        bare::singles(setup.bootstrap, &setup.name, kind, partitions, TRANSACTIONS)
    };
    let (transactions, across) = (single(1)?, single(setup.partitions)?);
    let back_to_back = bare::back_to_back(setup.bootstrap, &setup.name, TRANSACTIONS)?;
    fsyncs.extend(bare::fsyncs(dir, FSYNCS / 2)?);
    let fsyncs = Spread::of(fsyncs).ok_or_else(|| io::Error::other("no fsync was measured"))?;
    Ok(Beside {
        latency,
        fsyncs,
        transactions,
        across,
        back_to_back,
    })
}

impl Beside {
    /// The aim for the median, in milliseconds.
    fn most(&self) -> f64 {
        self.fsyncs.p50 + self.transactions.visible.p50 + BESIDE_MS
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "milliseconds                            count       p50       p99       max\n",
        );
        for (name, spread) in [
            ("poll to visible", &self.latency.spread),
            (
                "of it, until handed to the producer",
                &self.latency.until_sent,
            ),
            ("of it, from there on", &self.latency.from_sent),
            ("a bare transaction, committed", &self.transactions.answered),
            ("a bare transaction, visible", &self.transactions.visible),
            (
                "the same across partitions, committed",
                &self.across.answered,
            ),
            ("the same across partitions, visible", &self.across.visible),
            ("bare transactions back to back", &self.back_to_back),
            ("fsync of 4 KiB", &self.fsyncs),
        ] {
            writeln!(text, "{name:<38}{}", spread.text()).expect("strings take everything");
        }
        let seen = &self.latency.spread;
        let most = self.most();
        text + &format!(
            "the records are of {} epochs\n\
             p50 {:.1} ms, aim at most {most:.1} (fsync + bare transaction + {BESIDE_MS}); p99 {:.1} ms, aim at most {P99_MS}\n",
            self.latency.epochs, seen.p50, seen.p99,
        )
    }

    fn json(&self) -> Value {
        json!({
            "poll_to_visible": self.latency.json(),
            "bare_transaction": self.transactions.json(),
            "bare_back_to_back_milliseconds": self.back_to_back.json(),
            "bare_across_partitions": self.across.json(),
            "fsync_milliseconds": self.fsyncs.json(),
        })
    }
}

//! What does exactly-once cost, against `checkpoint.min` and the number of partitions?
//!
//! Throughput: one ladder of which every entry changes with every poll, without a pause between polls;
//! from the poll after the one that loads (and, where `min` is below a second, when that is published) to the
//! end of the process, which is when everything is committed and written. Latency: as in [`latency`], without that load. Beside them, on the same topic,
//! an idempotent producer without transactions: the records that the program had published, as many of
//! them, from the first send to the last acknowledgement; and single records of it until a reader has
//! them.
//!
//! A cell is polled again when its last snapshot is sealed: `min` is a limit, of entries / `min` changes
//! a second for each cell. Where the throughput is that limit, CPU seconds say what it costs.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bare;
use crate::cost::{self, Load};
use crate::latency;
use crate::plot::{Line, Panel};
use crate::producer::{Kind, fresh_name};
use crate::program::Setup;

/// Every entry changes.
pub const LOAD: Load = Load {
    entries: 50_000,
    churn: 1.0,
};
/// `checkpoint.min`, and rounds of the throughput, so that none takes long.
const MINS: [(Duration, u64); 5] = [
    (Duration::ZERO, 10),
    (Duration::from_millis(100), 10),
    (Duration::from_secs(1), 5),
    (Duration::from_secs(10), 1),
    (Duration::from_secs(30), 1),
];
const PARTITIONS: [u32; 3] = [1, 6, 24];
/// How long latency is measured, at least: some epochs.
const MEASURED: Duration = Duration::from_secs(6);
const EPOCHS: u32 = 2;
const SINGLES: usize = 100;

/// A point of the sweep.
struct Point {
    min: Duration,
    partitions: u32,
    changes: u64,
    per_second: f64,
    cpu_per_million: f64,
    transactions: Option<u64>,
    latency: latency::Latency,
    bare_per_second: f64,
    bare_cpu_per_million: f64,
    bare_visible_p50: f64,
}

/// The whole sweep.
pub struct Sweep(Vec<Point>);

/// Measures every point once, those of one `min` after each other.
pub fn sweep(setup: &Setup) -> io::Result<Sweep> {
    let mut points = Vec::new();
    for (min, rounds) in MINS {
        for partitions in PARTITIONS {
            let setup = Setup {
                checkpoint_min: min,
                partitions,
                ..setup.clone()
            };
            points.push(point(&setup, rounds)?);
            eprintln!("{} of {}", points.len(), MINS.len() * PARTITIONS.len());
        }
    }
    Ok(Sweep(points))
}

fn point(setup: &Setup, rounds: u64) -> io::Result<Point> {
    let named = || Setup {
        name: fresh_name(),
        ..setup.clone()
    };
    let (loaded, quiet) = (named(), named());
    let (bootstrap, topic) = (setup.bootstrap, loaded.name.as_str());
    let dir = tempfile::tempdir()?;
    let cost = cost::measure(LOAD, rounds, loaded.clone(), dir.path())?;
    let (changes, per_second, cpu_per_million) = cost.after_load();
    let records = bare::records(bootstrap, topic, LOAD.entries as usize)?;
    let count = changes as usize;
    let (bare_per_second, bare_cpu_per_million) =
        bare::throughput(bootstrap, topic, &records, count)?;
    let single = bare::singles(bootstrap, topic, Kind::Idempotent, 1, SINGLES)?;
    let dir = tempfile::tempdir()?;
    let measured = MEASURED.max(setup.checkpoint_min * EPOCHS);
    let quiet = Setup {
        name: format!("{}-quiet", quiet.name),
        ..quiet
    };
    Ok(Point {
        min: setup.checkpoint_min,
        partitions: setup.partitions,
        changes,
        per_second,
        cpu_per_million,
        transactions: cost.transactions,
        latency: latency::measure(measured, quiet, dir.path())?,
        bare_per_second,
        bare_cpu_per_million,
        bare_visible_p50: single.visible.p50,
    })
}

impl Sweep {
    pub fn text(&self) -> String {
        let mut text = String::from(
            "                          exactly once                                        idempotent only\n\
             min     partitions   changes/s   CPU s/M   transactions   p50 ms   p99 ms   records/s   CPU s/M   p50 ms\n",
        );
        for point in &self.0 {
            writeln!(
                text,
                "{:<8}{:>10}{:>12.0}{:>10.2}{:>15}{:>9.0}{:>9.0}{:>12.0}{:>10.2}{:>9.1}",
                humantime::format_duration(point.min).to_string(),
                point.partitions,
                point.per_second,
                point.cpu_per_million,
                point.transactions.map_or("?".into(), |n| n.to_string()),
                point.latency.spread.p50,
                point.latency.spread.p99,
                point.bare_per_second,
                point.bare_cpu_per_million,
                point.bare_visible_p50,
            )
            .expect("strings take everything");
        }
        text
    }

    pub fn json(&self) -> Value {
        let point = |point: &Point| {
            json!({
                "checkpoint_min_seconds": point.min.as_secs_f64(),
                "partitions": point.partitions,
                "changes": point.changes,
                "changes_per_second": point.per_second,
                "cpu_seconds_per_million": point.cpu_per_million,
                "transactions": point.transactions,
                "latency": point.latency.json(),
                "idempotent": {
                    "records_per_second": point.bare_per_second,
                    "cpu_seconds_per_million": point.bare_cpu_per_million,
                    "visible_p50_milliseconds": point.bare_visible_p50,
                },
            })
        };
        let points: Vec<Value> = self.0.iter().map(point).collect();
        json!({ "points": points, "entries": LOAD.entries, "churn": LOAD.churn })
    }

    /// Throughput and latency, as lines over `checkpoint.min`.
    pub fn panels(&self) -> [Panel; 2] {
        let lines = |ours: fn(&Point) -> f64, bare: fn(&Point) -> f64| {
            let line = |partitions, dashed, name: &str, of: fn(&Point) -> f64| Line {
                name: match partitions {
                    1 => format!("{name}, 1 partition"),
                    _ => format!("{name}, {partitions} partitions"),
                },
                dashed,
                values: (self.0.iter().filter(|point| point.partitions == partitions))
                    .map(of)
                    .collect(),
            };
            let ours = PARTITIONS.map(|count| line(count, false, "deltapoll", ours));
            let bare = PARTITIONS.map(|count| line(count, true, "idempotent only", bare));
            ours.into_iter().chain(bare).collect()
        };
        let ticks = MINS.map(|(min, _)| match min.as_millis() {
            0 => "0".to_owned(),
            below @ 1..1000 => format!("{below} ms"),
            _ => format!("{} s", min.as_secs()),
        });
        let panel = |title: &str, lines| Panel {
            title: title.to_owned(),
            axis: "checkpoint.min".to_owned(),
            ticks: ticks.to_vec(),
            lines,
        };
        [
            panel(
                "changes a second, all entries changed",
                lines(|point| point.per_second, |point| point.bare_per_second),
            ),
            panel(
                "poll to visible, p50, ms",
                lines(
                    |point| point.latency.spread.p50,
                    |point| point.bare_visible_p50,
                ),
            ),
        ]
    }
}

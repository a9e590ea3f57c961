//! Stored snapshots through the whole pipeline: each an epoch of its own, however often it is killed.
//! [`archive`] reads what an earlier pipeline archived; [`local`] has one cell, and files of all kinds.

mod archive;
mod local;
#[cfg(feature = "fail-points")]
mod steps;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::case::{CELLS, Case};
use crate::support::fault_table::row;
use crate::support::sim::TOKEN;
use crate::support::wait::{PATIENCE, wait_until};

/// 2026-08-01T00:00:00Z.
const BEGIN: u64 = 1_785_542_400;
const PATTERN: &str = "stored/{region}/{queue}/{time:%Y-%m-%dT%H%M%S}.json*";

/// Asks the simulated API for so many answers of every cell, a minute apart, and stores them: as they
/// are, with gzip, with zstd, by turns.
fn store(case: &Case, answers: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::new();
    let port = case.sim.port;
    for turn in 0..answers {
        for cell in CELLS {
            let (region, queue) = cell.split_once(',').unwrap();
            let url = format!(
                "http://127.0.0.1:{port}/{region}/lol/league/v4/challengerleagues/by-queue/{queue}"
            );
            let body = runtime.block_on(async {
                let request = client.get(url).header("X-Riot-Token", TOKEN);
                let answer = request.send().await.unwrap().error_for_status();
                answer.unwrap().bytes().await.unwrap()
            });
            let at = chrono::DateTime::from_timestamp((BEGIN + 60 * turn) as i64, 0).unwrap();
            let name = at.format("%Y-%m-%dT%H%M%S").to_string();
            let directory = case.dir.path().join("stored").join(region).join(queue);
            std::fs::create_dir_all(&directory).unwrap();
            let (ending, bytes) = match turn % 3 {
                0 => ("json", body.to_vec()),
                1 => ("json.gz", gzip(&body)),
                _ => ("json.zst", zstd::encode_all(&body[..], 1).unwrap()),
            };
            std::fs::write(directory.join(format!("{name}.{ending}")), bytes).unwrap();
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

fn epochs(summary: &Value) -> Vec<u64> {
    let cells = summary["cells"].as_object().unwrap().values();
    cells
        .map(|found| found["epochs"].as_u64().unwrap())
        .collect()
}

#[test]
fn backfill_publishes_every_snapshot_and_goes_on_live_without_a_seam() {
    let case = Case::new("backfill", &["--churn", "0.1", "--leave", "0.02"]);
    store(&case, 12);
    let ended = case
        .run(&["backfill", PATTERN, "--workers", "2", "--flush-archive"])
        .good();
    assert!(ended.err.contains("48 of 48 snapshots"), "{}", ended.err);
    let polled = case.read_topic();
    let summary = case.check();
    assert_eq!(
        epochs(&summary),
        [12; 4],
        "each an epoch of its own: {summary}"
    );
    let polled_at = |record: &Value| record["headers"]["polled_at"].as_str().unwrap().parse();
    let times: BTreeSet<u64> = polled
        .iter()
        .map(|record| polled_at(record).unwrap())
        .collect();
    let stored = (0..12).map(|turn| (BEGIN + 60 * turn) * 1000);
    assert_eq!(
        times,
        stored.collect(),
        "when a snapshot was polled is in its name"
    );
    let yesterday = clock() - 24 * 3600 * 1000;
    let published = |record: &Value| record["timestamp"].as_u64().unwrap();
    assert!(
        polled.iter().map(published).all(|at| at > yesterday),
        "compaction goes by when a change was published, not by when it was polled"
    );
    store(&case, 16);
    let served = case.sim.served();
    let program = case.start(&["backfill", PATTERN, "--then-run", "--workers", "3"]);
    wait_until("live polls after the backfill", PATIENCE, || {
        (case.sim.served() > served + 40).then_some(())
    });
    let err = program.err();
    assert!(
        err.contains("16 of 16 snapshots"),
        "the first 12 of each cell are not read again: {err}"
    );
    program.interrupt();
    program.wait().good();
    case.settle();
    case.check();
    case.run(&["verify"]).good();
}

#[test]
fn crash_a_backfill_that_is_killed_goes_on_with_neither_gap_nor_duplicate() {
    const SNAPSHOTS: u64 = 60;
    const KILLS: usize = 8;
    let seed: u64 =
        std::env::var("DELTAPOLL_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    eprintln!("play it again with DELTAPOLL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let case = Case::new("backfill-kills", &["--churn", "0.3", "--leave", "0.02"]);
    store(&case, SNAPSHOTS);
    let mut killed = 0;
    for _ in 0..KILLS {
        let workers = random.random_range(1..=3).to_string();
        let program = case.start(&["backfill", PATTERN, "--workers", &workers]);
        wait_until("its start", PATIENCE, || {
            program.err().contains("started in").then_some(())
        });
        let moment = Instant::now();
        let little = Duration::from_micros(random.random_range(0..120_000));
        while moment.elapsed() < little {
            std::thread::yield_now();
        }
        killed += u32::from(program.kill9());
    }
    let ended = case
        .run(&["backfill", PATTERN, "--workers", "2", "--flush-archive"])
        .good();
    let left_out = ended.err.lines().find(|line| line.contains("left out"));
    assert!(
        killed > 2 && left_out.is_some(),
        "{killed} kills: {}",
        ended.err
    );
    case.read_topic();
    let summary = case.check();
    assert_eq!(
        epochs(&summary),
        [SNAPSHOTS; 4],
        "none twice, none left out: {summary}"
    );
    case.run(&["verify"]).good();
    row(
        &format!("a backfill killed {killed} times, 1 to 3 workers"),
        &format!(
            "0 duplicates, 0 losses, verify agrees ({} records)",
            summary["records"]
        ),
    );
}

#[test]
fn backfill_does_not_take_a_live_cell_back_in_time() {
    let case = Case::new("backfill-old", &["--churn", "0.1"]);
    store(&case, 3);
    case.run(&["--rounds", "2"]).good();
    let before = case.read_topic().len();
    let ended = case.run(&["backfill", PATTERN]).good();
    assert!(
        ended.err.contains("12 snapshots are not newer"),
        "{}",
        ended.err
    );
    assert_eq!(case.read_topic().len(), before);
}

#[test]
fn backfill_reads_a_bucket() {
    let case = Case::new("backfill-bucket", &["--churn", "0.1"]);
    store(&case, 4);
    for cell in CELLS {
        let directory = format!("stored/{}", cell.replace(',', "/"));
        for file in std::fs::read_dir(case.dir.path().join(&directory)).unwrap() {
            let file = file.unwrap();
            let name = format!("{directory}/{}", file.file_name().to_string_lossy());
            let bytes = std::fs::read(file.path()).unwrap();
            case.objects.plant(&name, bytes.into());
        }
    }
    std::fs::remove_dir_all(case.dir.path().join("stored")).unwrap();
    let pattern = format!("gs://bucket/{PATTERN}");
    let ended = case.run(&["backfill", &pattern]).good();
    assert!(ended.err.contains("16 of 16 snapshots"), "{}", ended.err);
    let summary = case.settle();
    assert!(summary.len() > 1200);
    case.run(&["verify"]).good();
}

#[test]
fn backfill_after_a_rebuild_publishes_nothing_again() {
    let case = Case::new("backfill-rebuilt", &["--churn", "0.1"]);
    store(&case, 5);
    case.run(&["backfill", PATTERN, "--flush-archive"]).good();
    let before = case.read_topic().len();
    std::fs::remove_dir_all(case.dir.path().join("data")).unwrap();
    case.run(&["rebuild"]).good();
    let ended = case.run(&["backfill", PATTERN]).good();
    assert!(ended.err.contains("+0 ~0 -0"), "{}", ended.err);
    assert_eq!(case.read_topic().len(), before);
}

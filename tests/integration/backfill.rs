//! Stored snapshots through the whole pipeline: each an epoch of its own, however often it is killed.
//! [`archive`] reads what an earlier pipeline archived.

mod archive;
#[cfg(feature = "fail-points")]
mod steps;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::case::{CELLS, Case};
use crate::support::fault_table::row;
use crate::support::process::{Ended, Program};
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

/// Snapshots of one cell, into the local log.
struct Local(TempDir);

impl Local {
    fn new() -> Local {
        let dir = tempfile::tempdir().unwrap();
        let text = "name = \"n\"\ndata_dir = \"data\"\n[source.s]\nurl = \"http://127.0.0.1:1/\"\n\
                    key = [\"/id\"]\nremoved_after = 1\nheaders = { T = \"${env:NOT_THERE}\" }\n";
        std::fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
        Local(dir)
    }

    fn store(&self, name: &str, body: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Program::run(self.0.path(), arguments)
    }

    /// What the topic has, as `id=value` or `id gone`.
    fn topic(&self) -> Vec<String> {
        let told = self.run(&["tail", "s", "--from-start"]).good().out;
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let key = line["key"].as_str().unwrap().to_owned();
            match &line["value"] {
                Value::Null => format!("{key} gone"),
                value => format!("{key}={}", value["v"]),
            }
        };
        told.lines().map(line).collect()
    }
}

fn body(entries: &[(&str, u64)]) -> String {
    let entries = entries.iter().map(|(id, v)| json!({"id": id, "v": v}));
    Value::from_iter(entries).to_string()
}

#[test]
fn backfill_takes_snapshots_in_order_of_time_then_name_whatever_is_found_first() {
    let local = Local::new();
    local.store("b/1785542400-b.json", body(&[("x", 2), ("y", 2)]));
    local.store("a/1785542401.json", body(&[("x", 3)]));
    local.store("a/1785542400-a.json", body(&[("x", 1)]));
    local.store("a/notes.txt", "not a snapshot");
    let ended = local
        .run(&["backfill", "a/{time}*.json", "b/{time}*.json"])
        .good();
    let of = |key: &str| {
        let topic = local.topic().into_iter();
        topic
            .filter(|line| line.starts_with(key))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("x"), ["x=1", "x=2", "x=3"]);
    assert_eq!(of("y"), ["y=2", "y gone"]);
    assert!(
        ended.err.contains("1 other files there are not read"),
        "{}",
        ended.err
    );
    let again = local.run(&["backfill", "a/{time}*.json"]).good();
    assert!(
        again.err.contains("2 snapshots are not newer"),
        "{}",
        again.err
    );
    local.store("a/1785542402.json", body(&[("z", 4)]));
    local.run(&["backfill", "a/{time}*.json"]).good();
    assert_eq!(of("x")[3..], ["x gone"]);
    assert_eq!(of("z"), ["z=4"]);
}

#[test]
fn backfill_reads_a_directory_by_its_url_for_the_source_that_is_named() {
    let local = Local::new();
    let file = local.0.path().join("deltapoll.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // Two cells before and one after that of `s`.
    let more = "[source.a]\nurl = \"http://127.0.0.1:1/{n}\"\nvars = { n = [\"1\", \"2\"] }\nkey = [\"/id\"]\n\
                record_key = \"{n}:{key}\"\n[source.z]\nurl = \"http://127.0.0.1:1/\"\nkey = [\"/id\"]\n";
    std::fs::write(file, text + more).unwrap();
    local.store("b/1785542400.json", body(&[("x", 1)]));
    local.store("b/1785542401.json", body(&[("x", 2)]));
    let url = format!("file://{}/b/{{time}}.json", local.0.path().display());
    let ended = local.run(&["backfill", &url]);
    assert!(
        ended.err.contains("--source, one of: a, s, z"),
        "{}",
        ended.err
    );
    local.run(&["backfill", &url, "--source", "s"]).good();
    assert_eq!(local.topic(), ["x=1", "x=2"]);
    for other in ["a", "z"] {
        let told = local.run(&["tail", other, "--from-start"]).err;
        assert!(
            told.contains(&format!("there is no topic '{other}'")),
            "{told}"
        );
    }
}

#[test]
fn backfill_reads_an_entry_a_line() {
    let local = Local::new();
    local.store(
        "1.ndjson.gz",
        gzip(b"{\"id\":\"a\",\"v\":1}\n\n{\"id\":\"b\",\"v\":2}\r\n"),
    );
    local.run(&["backfill", "1.ndjson.gz"]).good();
    let mut topic = local.topic();
    topic.sort_unstable();
    assert_eq!(topic, ["a=1", "b=2"]);
}

#[test]
fn backfill_reads_what_a_connect_sink_wrote_and_removes_nothing() {
    use apache_avro::types::{Record, Value as Avro};
    let schema = r#"{"type":"record","name":"Value","fields":[{"name":"value","type":"string"},
        {"name":"key","type":"string"},{"name":"timestamp","type":"long"}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let local = Local::new();
    for (first, entries) in [
        (0, [("a", 1), ("b", 1), ("c", 1)]),
        (3, [("a", 1), ("b", 2), ("d", 1)]),
        (6, [("a", 3), ("a", 4), ("c", 1)]),
    ] {
        let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
        for (id, v) in entries {
            let mut record = Record::new(&schema).unwrap();
            let text = json!({"id": id, "v": v}).to_string();
            record.put("value", Avro::String(text));
            record.put("key", Avro::String(id.into()));
            record.put("timestamp", Avro::Long(0));
            writer.append_value(record).unwrap();
        }
        let name = format!("topics/challenger/partition=0/challenger+0+{first:010}.avro");
        local.store(&name, writer.into_inner().unwrap());
    }
    // Copied in one go: their times say nothing, their names do.
    let copied = std::time::SystemTime::now();
    for first in [6, 3, 0] {
        let name = format!("topics/challenger/partition=0/challenger+0+{first:010}.avro");
        let file = std::fs::File::options()
            .write(true)
            .open(local.0.path().join(name));
        file.unwrap().set_modified(copied).unwrap();
    }
    let ended = local.run(&["backfill", "topics"]).good();
    assert!(
        ended.err.contains("1 entries replaced by a later one"),
        "{}",
        ended.err
    );
    let topic = local.topic();
    let of = |key: &str| {
        let of = topic.iter().filter(|line| line.starts_with(key));
        of.map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["a=1", "a=4"]);
    assert_eq!(of("b"), ["b=1", "b=2"]);
    assert_eq!((of("c"), of("d")), (vec!["c=1"], vec!["d=1"]));
}

/// Five snapshots, of which two cannot be used: one is cut short, one is found out only by the graph.
fn two_bad() -> Local {
    let local = Local::new();
    local.store("s/1.json", body(&[("x", 1)]));
    let whole = gzip(body(&[("x", 2)]).as_bytes());
    local.store("s/2.json", &whole[..whole.len() - 9]);
    local.store("s/3.json", body(&[("x", 3)]));
    local.store("s/4.json", b"[{\"id\":\"x\",\"v\":\"\xff\"}]");
    for later in 5..40 {
        local.store(&format!("s/{later}.json"), body(&[("x", later)]));
    }
    for name in std::fs::read_dir(local.0.path().join("s")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let seconds: u64 = name.strip_suffix(".json").unwrap().parse().unwrap();
        let from = local.0.path().join("s").join(&name);
        std::fs::rename(
            from,
            local.0.path().join(format!("s/{}.json", BEGIN + seconds)),
        )
        .unwrap();
    }
    local
}

#[test]
fn backfill_stops_at_a_file_that_cannot_be_used_and_goes_on_when_it_is_mended() {
    let local = two_bad();
    let arguments = ["backfill", "s/{time}.json"];
    for (file, told, published) in [(2, "cut short", 1), (4, "not UTF-8", 3)] {
        let ended = local.run(&arguments);
        assert_eq!(ended.code(), 1, "{}", ended.err);
        let name = format!("s/{}.json: ", BEGIN + file);
        assert!(
            ended.err.contains(&name) && ended.err.contains(told),
            "{}",
            ended.err
        );
        assert_eq!(
            local.topic().last().unwrap(),
            &format!("x={published}"),
            "nothing after it"
        );
        let again = local.run(&arguments);
        assert!(
            again.code() == 1 && again.err.contains(&name),
            "{}",
            again.err
        );
        local.store(&format!("s/{}.json", BEGIN + file), body(&[("x", file)]));
    }
    local.run(&arguments).good();
    let wanted: Vec<_> = (1..40).map(|v| format!("x={v}")).collect();
    assert_eq!(local.topic(), wanted);
}

#[test]
fn backfill_sets_aside_what_cannot_be_used_lists_it_and_counts_it() {
    let local = two_bad();
    let dry = local.run(&["backfill", "s/{time}.json", "--dry-run"]);
    assert_eq!(dry.code(), 1);
    let told = "s: 37 snapshots from 2026-08-01T00:00:01Z to 2026-08-01T00:00:39Z, 37 entries";
    assert!(dry.out.starts_with(told), "{}", dry.out);
    assert!(
        dry.out.contains("2 files that cannot be used"),
        "{}",
        dry.out
    );
    assert!(
        !local.0.path().join("data").exists(),
        "a dry run writes nothing"
    );
    let ended = local
        .run(&["backfill", "s/{time}.json", "--bad-files", "set-aside"])
        .good();
    assert!(ended.err.contains("37 of 39 snapshots"), "{}", ended.err);
    assert!(ended.err.contains("2 files set aside"), "{}", ended.err);
    let wanted: Vec<_> = (1..40)
        .filter(|v| ![2, 4].contains(v))
        .map(|v| format!("x={v}"))
        .collect();
    assert_eq!(local.topic(), wanted);
    let letters = std::fs::read_to_string(local.0.path().join("data/dead-letters.ndjson")).unwrap();
    let letters: Vec<Value> = letters
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(
        letters
            .iter()
            .any(|l| l["reason"].as_str().unwrap().contains("not UTF-8"))
    );
    assert!(
        letters
            .iter()
            .all(|l| Path::new(l["file"].as_str().unwrap()).extension().is_some())
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

#[test]
fn backfill_that_is_interrupted_exits_0_and_goes_on_where_it_was() {
    let local = Local::new();
    for at in 0..3000 {
        local.store(
            &format!("s/{}.json", BEGIN + at),
            body(&[("x", at), ("y", at / 2)]),
        );
    }
    let program = Program::start(local.0.path(), &["backfill", "s/{time}.json"]);
    wait_until("its start", PATIENCE, || {
        program.err().contains("started in").then_some(())
    });
    program.interrupt();
    let ended = program.wait().good();
    assert!(
        ended.err.contains("the same command goes on"),
        "{}",
        ended.err
    );
    let ended = local.run(&["backfill", "s/{time}.json"]).good();
    assert!(ended.err.contains("snapshots"), "{}", ended.err);
    let topic = local.topic();
    let of = |key: &str| {
        let of = topic.iter().filter_map(|line| line.strip_prefix(key));
        of.map(|value| value.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("x="), (0..3000).collect::<Vec<_>>());
    assert_eq!(of("y="), (0..1500).collect::<Vec<_>>());
}

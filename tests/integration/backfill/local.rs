//! Snapshots of one cell, from wherever they are stored, into the local log.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BEGIN, gzip};
use crate::support::process::{Ended, Program};
use crate::support::s3::S3;
use crate::support::wait::{PATIENCE, wait_until};

/// Snapshots of one cell, into the local log.
pub struct Local(pub TempDir);

impl Local {
    pub fn new() -> Local {
        let dir = tempfile::tempdir().unwrap();
        let text = "name = \"n\"\ndata_dir = \"data\"\n[source.s]\nurl = \"http://127.0.0.1:1/\"\n\
                    key = [\"/id\"]\nremoved_after = 1\nheaders = { T = \"${env:NOT_THERE}\" }\n";
        std::fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
        Local(dir)
    }

    pub fn store(&self, name: &str, body: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        Program::run(self.0.path(), arguments)
    }

    /// What the topic has, as `id=value` or `id gone`.
    pub fn topic(&self) -> Vec<String> {
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

pub fn body(entries: &[(&str, u64)]) -> String {
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

#[test]
fn backfill_reads_an_s3_bucket_in_order_of_time() {
    let local = Local::new();
    let s3 = S3::start(local.0.path());
    s3.create("bucket");

    for at in (0..40).rev() {
        let name = format!("bucket/stored/{}.json", BEGIN + at);
        s3.put(&name, body(&[("x", at), ("y", at / 2)]));
    }
    s3.put("bucket/other/1.json", "no JSON");
    let arguments = ["backfill", "s3://bucket/stored/{time}.json"];
    let run = || Program::start_with(local.0.path(), &arguments, &s3.variables()).wait();
    let ended = run().good();
    assert!(ended.err.contains("40 of 40 snapshots"), "{}", ended.err);
    let topic = local.topic();
    let (x, y): (Vec<_>, Vec<_>) = topic.iter().partition(|line| line.starts_with("x="));
    assert!(
        x.into_iter()
            .eq(&(0..40).map(|at| format!("x={at}")).collect::<Vec<_>>())
    );
    assert!(
        y.into_iter()
            .eq(&(0..20).map(|at| format!("y={at}")).collect::<Vec<_>>())
    );
    let ended = run().good();
    assert!(
        ended.err.contains("40 snapshots are not newer"),
        "{}",
        ended.err
    );
    // A bucket that is not there is named.
    let arguments = ["backfill", "s3://elsewhere/{time}.json"];
    let ended = Program::start_with(local.0.path(), &arguments, &s3.variables()).wait();
    assert!(
        ended.code() != 0 && ended.err.contains("elsewhere"),
        "{}",
        ended.err
    );
}

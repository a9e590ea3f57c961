//! From the archive of one pipeline to another: of each key the same changes in the same order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::BEGIN;
use super::local::{Local, body};
use crate::support::case::Case;
use crate::support::fault_table::row;
use crate::support::wait::{PATIENCE, wait_until};

/// Of each key, in order: what happened, when it was polled, and the value.
type Changes = BTreeMap<String, Vec<[String; 3]>>;

fn changes(topic: &[Value]) -> Changes {
    let mut records: Vec<&Value> = topic.iter().collect();
    records.sort_by_key(|record| (record["partition"].as_u64(), record["offset"].as_u64()));
    let mut changes = Changes::new();
    for record in records {
        let header = |name: &str| record["headers"][name].to_string();
        let change = [
            header("change"),
            header("polled_at"),
            record["value"].to_string(),
        ];
        let key = record["key"].as_str().unwrap().to_owned();
        changes.entry(key).or_default().push(change);
    }
    changes
}

/// A live pipeline that has ended with everything in its archive.
fn archived(name: &str, rounds: u32) -> (Case, Archived) {
    let case = Case::new(name, &["--churn", "0.2", "--leave", "0.04"]);
    case.run(&[
        "--workers",
        "2",
        "--rounds",
        &rounds.to_string(),
        "--flush-archive",
    ])
    .good();
    let archived = Archived {
        name: case.name.clone(),
        changes: changes(&case.read_topic()),
    };
    let kinds = archived.changes.values().flatten();
    let removed = kinds.filter(|change| change[0].contains("removed"));
    assert!(removed.count() > 20, "there is something to remove");
    (case, archived)
}

/// What a pipeline left behind.
struct Archived {
    name: String,
    changes: Changes,
}

impl Archived {
    fn url(&self) -> String {
        format!("gs://bucket/{}", self.name)
    }

    /// Everything that `case` publishes and archives is what the API served.
    fn leave_alone(&self, case: &Case) {
        for (name, _) in case.objects.with(&format!("{}/", self.name)) {
            case.objects.remove(&name);
        }
        case.check();
        case.run(&["verify"]).good();
    }
}

/// The same API and bucket, another pipeline, with other partitions.
fn another(mut case: Case, name: &str) -> Case {
    case.name = format!("{name}-{:08x}", rand::random::<u32>());
    let kafka = format!(
        "bootstrap = \"{}\"\ncreate = {{ partitions = 2 }}",
        case.bootstrap()
    );
    case.kafka(kafka).data(name)
}

#[test]
fn backfill_of_an_archive_publishes_of_each_key_what_its_pipeline_published() {
    let (mut case, old) = archived("archived", 20);
    for (name, workers) in [("again-1", "1"), ("again-3", "3")] {
        case = another(case, name);
        let arguments = [
            "backfill",
            &old.url(),
            "--workers",
            workers,
            "--flush-archive",
        ];
        case.run(&arguments).good();
        let published = case.read_topic();
        assert_eq!(changes(&published), old.changes, "{workers} workers");
        let again = case.run(&arguments).good();
        assert!(again.err.contains("left out"), "{}", again.err);
        assert_eq!(case.read_topic().len(), published.len(), "nothing twice");
        case.run(&["verify"]).good();
    }
    for (name, _) in case.objects.with("again-1") {
        case.objects.remove(&name);
    }
    old.leave_alone(&case);
}

#[test]
fn crash_a_backfill_of_an_archive_that_is_killed_goes_on_with_neither_gap_nor_duplicate() {
    const KILLS: usize = 8;
    let seed: u64 =
        std::env::var("DELTAPOLL_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    eprintln!("play it again with DELTAPOLL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (case, old) = archived("archived-kills", 80);
    let case = another(case, "killed");
    let mut killed = 0;
    for _ in 0..KILLS {
        let workers = random.random_range(1..=3).to_string();
        let program = case.start(&["backfill", &old.url(), "--workers", &workers]);
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
        .run(&["backfill", &old.url(), "--workers", "2", "--flush-archive"])
        .good();
    assert!(
        killed > 2 && ended.err.contains("left out"),
        "{killed} kills: {}",
        ended.err
    );
    let published = case.read_topic();
    assert_eq!(changes(&published), old.changes);
    old.leave_alone(&case);
    row(
        &format!("a backfill of an archive killed {killed} times, 1 to 3 workers"),
        &format!(
            "0 duplicates, 0 losses, verify agrees ({} records)",
            published.len()
        ),
    );
}

#[test]
fn backfill_of_an_archive_goes_on_live_without_a_seam() {
    let (case, old) = archived("archived-live", 12);
    let case = another(case, "live");
    let served = case.sim.served();
    let program = case.start(&["backfill", &old.url(), "--then-run", "--workers", "3"]);
    wait_until("live polls after the backfill", PATIENCE, || {
        (case.sim.served() > served + 40).then_some(())
    });
    program.interrupt();
    program.wait().good();
    let published = changes(&case.settle());
    for (key, before) in &old.changes {
        assert!(
            published[key].starts_with(before),
            "{key}: {before:?} {:?}",
            published[key]
        );
    }
    old.leave_alone(&case);
}

#[test]
fn backfill_of_an_archive_stops_at_a_hole_or_a_bad_object_and_goes_on_when_it_is_mended() {
    let (case, old) = archived("archived-hole", 20);
    let case = another(case, "hole");
    let part = format!("{}/topics", old.name);
    let all = case.objects.with(&part);
    let of_lane = |lane: &str| {
        let found = all.iter().filter(|(name, _)| name.contains(lane));
        found.cloned().collect::<Vec<_>>()
    };
    let (first, second, third) = (
        of_lane("partition=0"),
        of_lane("partition=1"),
        of_lane("partition=2"),
    );
    assert!([&first, &second, &third].iter().all(|of| of.len() > 2));
    let stopped = |name: &str, told: &str| {
        let ended = case.run(&["backfill", &old.url()]);
        assert_eq!(ended.code(), 1, "{}", ended.err);
        let error = ended.err.lines().last().unwrap();
        assert!(error.contains(name) && error.contains(told), "{error}");
        for (key, published) in changes(&case.read_topic()) {
            assert!(old.changes[&key].starts_with(&published), "{key}");
        }
    };
    let (hole, bytes) = &first[1];
    case.objects.remove(hole);
    let named = hole.strip_prefix(&format!("{}/", old.name)).unwrap();
    stopped(named, "put the object");
    case.objects.plant(hole, bytes.clone());

    let (damaged, bytes) = &second[1];
    let mut changed = bytes.to_vec();
    // More than one fingerprint, which has no part in the digest (R25).
    let middle = changed.len() / 2;
    changed[middle..middle + 64]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x55);
    case.objects.plant(damaged, changed.into());
    stopped(damaged, "put back");
    let cut = bytes.slice(..bytes.len() - 20);
    case.objects.plant(damaged, cut);
    stopped(damaged, "cut off");
    case.objects.plant(damaged, bytes.clone());

    let (foreign, bytes) = &third[2];
    case.objects.plant(foreign, third[1].1.clone());
    stopped(foreign, "it says that it begins with");
    case.objects.plant(foreign, bytes.clone());

    let set_aside = case.run(&["backfill", &old.url(), "--bad-files", "set-aside"]);
    assert_eq!(set_aside.code(), 2, "{}", set_aside.err);
    case.run(&["backfill", &old.url(), "--flush-archive"])
        .good();
    assert_eq!(changes(&case.read_topic()), old.changes);
    old.leave_alone(&case);
}

#[test]
fn backfill_of_an_archive_that_has_grown_unevenly_takes_what_is_new_and_all_of_it() {
    let case = Case::new("grown", &["--churn", "0.1", "--leave", "0.02"]);
    let name = case.name.clone();
    let url = format!("gs://bucket/{name}");
    case.run(&["--rounds", "25"]).good();
    // As if the last objects of a partition were still under way.
    let part = format!("{name}/topics");
    let lane = |lane: &str| {
        let objects = case.objects.with(&part).into_iter();
        let found = objects.filter(|(name, _)| name.contains(lane));
        found.collect::<Vec<_>>()
    };
    let late = lane("partition=1").split_off(1);
    assert!(!late.is_empty());
    for (name, _) in &late {
        case.objects.remove(name);
    }
    let case = another(case, "growing");
    case.run(&["backfill", &url]).good();
    for (name, bytes) in late {
        case.objects.plant(&name, bytes);
    }
    let mut case = case;
    let growing = std::mem::replace(&mut case.name, name);
    let case = case.data("data").kafka(String::new());
    let bootstrap = case.bootstrap().to_owned();
    let mut case = case.kafka(format!("bootstrap = \"{bootstrap}\""));
    case.run(&["--rounds", "5", "--flush-archive"]).good();
    let wanted = changes(&case.read_topic());
    case.name = growing;
    let case = case.data("growing");
    case.run(&["backfill", &url, "--workers", "3"]).good();
    assert_eq!(changes(&case.read_topic()), wanted);
    case.run(&["backfill", &url]).good();
    assert_eq!(changes(&case.read_topic()), wanted);
}

/// A pipeline without Kafka that reads snapshots, with an archive in a directory.
fn stored(removed: &str) -> Local {
    let local = Local::new();
    configure(&local, "data", "", &archive_in("archive"), removed);
    for (at, entries) in [
        (0, &[("a", 1), ("b", 1), ("c", 1)][..]),
        (1, &[("a", 2), ("c", 1)]),
        (2, &[("a", 2), ("b", 3)]),
        (3, &[("b", 3)]),
    ] {
        local.store(&format!("s/{}.json", BEGIN + at), body(entries));
    }
    let arguments = ["backfill", "s/{time}.json", "--flush-archive"];
    local.run(&arguments).good();
    local
}

pub(super) fn archive_in(directory: &str) -> String {
    format!("[archive]\nurl = \"file://HERE/{directory}\"\n")
}

pub(super) fn configure(local: &Local, data: &str, lines: &str, more: &str, removed: &str) {
    let path = if lines.contains("vars") { "{r}" } else { "" };
    let text = format!(
        "name = \"n\"\ndata_dir = \"{data}\"\n[source.s]\nurl = \"http://127.0.0.1:1/{path}\"\n\
         key = [\"/id\"]\nremoved_after = 1\nremoved = \"{removed}\"\n\
         headers = {{ T = \"${{env:NOT_THERE}}\" }}\n{lines}{more}"
    );
    let here = local.0.path().display().to_string();
    local.store("deltapoll.toml", text.replace("HERE", &here));
}

fn objects(local: &Local, under: &str) -> Vec<PathBuf> {
    let directory = local.0.path().join(under).join("topics/s/partition=0");
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
}

#[test]
fn backfill_of_an_archive_removes_what_it_says_is_gone_in_whatever_form() {
    for (old, new) in [
        ("tombstone", "event"),
        ("event", "tombstone"),
        ("event", "event"),
    ] {
        let local = stored(old);
        configure(&local, "new", "complete = false\n", "", new);
        local.run(&["backfill", "archive"]).good();
        let topic = local.topic();
        let of = |key: &str| {
            let of = topic.iter().filter(|line| line.starts_with(key));
            of.map(String::as_str).collect::<Vec<_>>()
        };
        // An event has no `v`.
        let gone = |key: &str| match new {
            "event" => format!("{key}=null"),
            _ => format!("{key} gone"),
        };
        assert_eq!(of("a"), ["a=1", "a=2", &gone("a")], "{old} to {new}");
        assert_eq!(of("b"), ["b=1", &gone("b"), "b=3"], "{old} to {new}");
        assert_eq!(of("c"), ["c=1", &gone("c")], "{old} to {new}");
    }
}

#[test]
fn backfill_of_an_archive_without_removals_leaves_them_to_the_live_pipeline() {
    let local = stored("ignore");
    configure(&local, "new", "", "", "tombstone");
    local.run(&["backfill", "archive"]).good();
    let mut topic = local.topic();
    topic.sort_unstable();
    assert_eq!(topic, ["a=1", "a=2", "b=1", "b=3", "c=1"]);
}

#[test]
fn backfill_of_an_archive_tells_what_no_cell_would_have_published() {
    let local = stored("tombstone");
    for (data, record_key) in [("prefix", "x:{key}"), ("suffix", "{key}!")] {
        let lines = format!("record_key = \"{record_key}\"\n");
        configure(&local, data, &lines, "", "tombstone");
        let ended = local.run(&["backfill", "archive"]);
        assert_eq!(ended.code(), 1, "{}", ended.err);
        let error = ended.err.lines().last().unwrap();
        assert!(error.contains("8 changes of topic 's'"), "{error}");
        assert!(error.contains("`record_key`"), "{error}");
    }
    let text = "vars = { r = [\"kr\", \"na1\"] }\nrecord_key = \"{r}:{key}\"\n";
    configure(&local, "two", text, &archive_in("two-archive"), "tombstone");
    local.store(&format!("t/kr/{BEGIN}.json"), body(&[("a", 1), ("b", 2)]));
    local.store(&format!("t/na1/{BEGIN}.json"), body(&[("a", 3)]));
    local
        .run(&["backfill", "t/{r}/{time}.json", "--flush-archive"])
        .good();
    let text = text.replace(", \"na1\"", "");
    configure(&local, "one", &text, "", "tombstone");
    let ended = local.run(&["backfill", "two-archive"]).good();
    let told = "1 changes of topic 's' are of no cell of source s";
    assert!(ended.err.contains(told), "{}", ended.err);
    let mut topic = local.topic();
    topic.sort_unstable();
    assert_eq!(topic, ["kr:a=1", "kr:b=2"]);
}

#[test]
fn backfill_counts_an_archive_without_touching_anything() {
    let local = stored("tombstone");
    configure(&local, "new", "", "", "tombstone");
    let told = local.run(&["backfill", "archive", "--dry-run"]).good().out;
    let wanted = "s: 4 snapshots from 2026-08-01T00:00:00Z to 2026-08-01T00:00:03Z, 5 entries";
    assert!(told.starts_with(wanted), "{told}");
    assert!(told.contains("3 removed keys"), "{told}");
    assert!(!local.0.path().join("new").exists());
    let object = &objects(&local, "archive")[0];
    std::fs::write(object, &std::fs::read(object).unwrap()[..300]).unwrap();
    let ended = local.run(&["backfill", "archive", "--dry-run"]);
    assert_eq!(ended.code(), 1, "{}", ended.err);
}

#[test]
fn backfill_reads_an_archive_by_itself_and_whole() {
    let local = stored("tombstone");
    configure(&local, "new", "", "", "tombstone");
    let object = &objects(&local, "archive")[0];
    let object = object.to_str().unwrap();
    for (arguments, code, told) in [
        (&["backfill", "archive", "s"][..], 2, "are read alone"),
        (&["backfill", "s", "archive"], 2, "are read alone"),
        (&["backfill", object], 1, "read together"),
        (&["backfill", "archive/**/*.avro"], 1, "read together"),
    ] {
        let ended = local.run(arguments);
        assert_eq!(ended.code(), code, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(told), "{arguments:?}: {}", ended.err);
    }
    let below = local.run(&["backfill", "archive/topics/s/partition=0"]);
    assert!(below.good().err.contains("+4 ~1 -3"));
}

//! `rebuild`, `state inspect` and `state export` between real runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

use crate::support::case::{CELLS, Case};
use crate::support::kafka::Broker;
use crate::support::process::{Ended, Program};
use crate::support::readers;
use crate::support::wait::{PATIENCE, wait_until};

const CHURN: [&str; 4] = ["--churn", "0.05", "--leave", "0.01"];
const REBUILD: [&str; 1] = ["rebuild"];
const STATE_ONLY: [&str; 2] = ["rebuild", "--state-only"];

/// Settings that differ from the case's: what stands there, and what shall.
type Edits<'a> = &'a [(&'a str, &'a str)];

fn configure(case: &Case, edits: Edits<'_>) {
    let path = case.dir.path().join(case.configure());
    let mut text = fs::read_to_string(&path).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} in\n{text}");
        text = text.replace(from, to);
    }
    fs::write(&path, text).unwrap();
}

fn run(case: &Case, edits: Edits<'_>, arguments: &[&str]) -> Ended {
    configure(case, edits);
    Program::run(case.dir.path(), arguments)
}

/// A case whose open transactions end soon.
fn hasty(name: &str, sim: &[&str]) -> Case {
    let case = Case::new(name, sim);
    let bootstrap = Broker::shared().bootstrap();
    case.kafka(format!(
        "bootstrap = \"{bootstrap}\"\ncreate = {{ partitions = 3 }}\n\
         properties = {{ \"transaction.timeout.ms\" = \"3000\" }}"
    ))
}

/// A case of few entries that never change by themselves.
fn still(name: &str) -> Case {
    let case = Case::new(name, &["--entries", "40", "--churn", "0.2"]);
    case.sim.freeze(&CELLS);
    case
}

fn data(case: &Case) -> PathBuf {
    case.dir.path().join("data")
}

fn lose(case: &Case) {
    fs::remove_dir_all(data(case)).unwrap();
}

/// Polls until so many more answers were given, at work all the time.
fn work(case: &Case, answers: usize, stop: impl FnOnce(Program)) {
    let enough = case.sim.served() + answers;
    let program = case.start(&["--workers", "2"]);
    wait_until("more answers", PATIENCE, || {
        (case.sim.served() >= enough).then_some(())
    });
    stop(program);
}

fn kill(program: Program) {
    assert!(program.kill9());
}

fn interrupt(program: Program) {
    program.interrupt();
    program.wait().good();
}

/// What is remembered: the content by cell and key.
fn remembered(case: &Case) -> BTreeMap<String, (String, u64)> {
    let exported = Program::run(case.dir.path(), &["state", "export"]).good();
    let line = |text: &str| {
        let line: Value = serde_json::from_str(text).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        assert_eq!((text("hash").len(), text("raw").len()), (32, 16));
        let name = format!("{} {} {}", text("source"), text("cell"), text("key"));
        (name, (text("canon"), line["rule"].as_u64().unwrap()))
    };
    exported.out.lines().map(line).collect()
}

fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code(), code, "{}\n{}", ended.out, ended.err);
    for word in words {
        assert!(ended.err.contains(word), "{word} in\n{}", ended.err);
    }
}

/// The files of a directory, and what is in them.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    if !dir.exists() {
        return all;
    }
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    for (file, bytes) in files(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
}

#[test]
fn r35_kafka_a_directory_lost_again_and_again_is_made_again_without_a_loss_or_a_repetition() {
    let case = hasty("lost", &CHURN);
    for stop in [interrupt, kill, kill] {
        work(&case, 60, stop);
        lose(&case);
        let rebuilt = case.run(&REBUILD).good();
        assert!(rebuilt.out.contains("next: run"), "{}", rebuilt.out);
        assert!(data(&case).join("journal").is_dir());
        assert!(!data(&case).join("rebuild.new").exists());
    }
    work(&case, 60, interrupt);
    case.settle();
    let summary = case.check();
    assert!(summary["records"].as_u64().unwrap() > 1500, "{summary}");
}

#[test]
fn r35_kafka_what_did_not_change_is_not_published_again() {
    let case = still("unchanged");
    run(&case, &[], &["--rounds", "2"]).good();
    let (before, records) = (remembered(&case), case.read_topic().len());
    assert_eq!((before.len(), records), (160, 160));
    lose(&case);
    let rebuilt = case.run(&REBUILD).good();
    assert!(rebuilt.out.contains("160 entries"), "{}", rebuilt.out);
    assert!(
        rebuilt.out.contains("goes on with 160 changes"),
        "{}",
        rebuilt.out
    );
    assert_eq!(remembered(&case), before);
    assert_eq!(case.settle().len(), records);
    case.check();
    // Now everything is in objects.
    lose(&case);
    let rebuilt = case.run(&REBUILD).good();
    assert!(
        rebuilt.out.contains("has everything that is published"),
        "{}",
        rebuilt.out
    );
    assert_eq!(remembered(&case), before);
    assert_eq!(case.settle().len(), records);
    case.check();
}

#[test]
fn r35_kafka_a_removal_after_a_rebuild_has_its_key() {
    let case = still("removal");
    run(&case, &[], &["--once"]).good();
    lose(&case);
    case.run(&REBUILD).good();
    case.sim.control("faults?spec=");
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    run(&case, &[], &["--rounds", "6"]).good();
    case.settle();
    case.check();
}

#[test]
fn r35_kafka_while_another_instance_publishes_nothing_is_made() {
    let case = Case::new("running", &["--churn", "0.5"]);
    let case = case.source("every = \"50ms\"\nremoved_after = 1");
    let program = case.start(&[]);
    wait_until("a first transaction", PATIENCE, || {
        let tail = Program::run(case.dir.path(), &["tail", &case.name, "--from-start"]);
        (!tail.out.is_empty()).then_some(())
    });
    let ended = Program::run(case.dir.path(), &["--data-dir", "other", "rebuild"]);
    refused(&ended, 3, &["another instance", "stop it"]);
    let left = files(&case.dir.path().join("other"));
    assert!(left.keys().all(|path| path.ends_with("LOCK")), "{left:?}");
    interrupt(program);
    case.settle();
    case.check();
}

#[test]
fn r35_kafka_the_lost_process_and_the_one_made_again_never_both_publish() {
    let case = still("both");
    run(&case, &[], &["--once"]).good();
    copy(&data(&case), &case.dir.path().join("kept"));
    lose(&case);
    case.run(&REBUILD).good();
    run(&case, &[], &["--once"]).good();
    let stale = Program::run(case.dir.path(), &["--data-dir", "kept", "--once"]);
    refused(&stale, 4, &["nothing was fenced"]);
    case.settle();
    case.check();
}

fn set_lag(topic: &str, lag: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", Broker::shared().bootstrap())
        .create()
        .unwrap();
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("cleanup.policy", "compact")
        .set("min.compaction.lag.ms", lag);
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let configs = [config];
    let done = runtime.block_on(admin.alter_configs(&configs, &options));
    done.unwrap()[0].as_ref().unwrap();
}

#[test]
fn r35_kafka_a_gap_that_compaction_may_have_made_is_refused_and_another_prefix_goes_on() {
    let case = still("gap");
    let late = [("age = \"2s\"", "age = \"1h\"")];
    run(&case, &late, &["--once", "--flush-archive"]).good();
    set_lag(&case.name, "0");
    lose(&case);
    // Where the last record is in an object nothing can be missing.
    let rebuilt = run(&case, &late, &REBUILD).good();
    assert!(
        rebuilt.out.contains("has everything that is published"),
        "{}",
        rebuilt.out
    );
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    run(&case, &late, &["--rounds", "3"]).good();
    lose(&case);
    let ended = run(&case, &late, &REBUILD);
    refused(
        &ended,
        4,
        &["without a gap", "min.compaction.lag.ms", "another prefix"],
    );
    assert_eq!(files(&data(&case)).len(), 1, "nothing but the lock");
    let elsewhere = format!("gs://bucket/{}-b", case.name);
    let edits = [
        late[0],
        (&*format!("gs://bucket/{}", case.name), &*elsewhere),
    ];
    let rebuilt = run(&case, &edits, &REBUILD).good();
    assert!(
        rebuilt.out.contains("begins after batch"),
        "{}",
        rebuilt.out
    );
    run(&case, &edits, &["--rounds", "3", "--flush-archive"]).good();
    // It goes on from there as any other.
    set_lag(&case.name, "604800000");
    run(&case, &edits, &["--rounds", "2"]).good();
    lose(&case);
    let rebuilt = run(&case, &edits, &REBUILD).good();
    assert!(rebuilt.out.contains("goes on with"), "{}", rebuilt.out);
    run(&case, &edits, &["--rounds", "2", "--flush-archive"]).good();
}

#[test]
fn r35_kafka_another_configuration_than_the_one_that_published_is_refused() {
    let case = still("wrong");
    let topic = format!("topic = \"{}\"", case.name);
    let name = format!("name = \"{}\"", case.name);
    run(&case, &[], &["--once", "--flush-archive"]).good();
    // Over what is there.
    refused(
        &case.run(&REBUILD),
        4,
        &["is not empty", "move it away", "--state-only"],
    );
    lose(&case);
    for (edit, words) in [
        (
            (&*name, "name = \"somebody\""),
            ["nothing was published as 'somebody'", "`name`"],
        ),
        (
            (&*topic, "topic = \"elsewhere\""),
            ["'elsewhere'", "put back the settings"],
        ),
        (
            ("\"{region}:{queue}:{key}\"", "\"{queue}:{region}:{key}\""),
            ["`record_key` does not make", "put back the settings"],
        ),
        (
            ("[\"kr\", \"euw1\"]", "[\"kr\", \"na1\"]"),
            ["RANKED_SOLO_5x5,euw1", "on_cell_removed"],
        ),
        (
            ("[\"/puuid\", \"/summonerId\"]", "[\"/rank\"]"),
            ["another one under this `key`", "put back the settings"],
        ),
    ] {
        let ended = run(&case, &[edit], &REBUILD);
        refused(&ended, 4, &words);
        let left = files(&data(&case));
        assert!(left.keys().all(|path| path.ends_with("LOCK")), "{left:?}");
    }
    // One of these may be meant so.
    let fewer = [
        ("[\"kr\", \"euw1\"]", "[\"kr\", \"na1\"]"),
        (&*name, &*format!("{name}\non_cell_removed = \"keep\"")),
    ];
    let rebuilt = run(&case, &fewer, &REBUILD).good();
    assert!(rebuilt.out.contains("80 entries"), "{}", rebuilt.out);
}

#[test]
fn r35_kafka_without_headers_the_record_key_says_whose_a_record_is_and_the_archive_cannot_go_on() {
    let case = still("bare");
    let bare = ("create =", "headers = false\ncreate =");
    run(&case, &[bare], &["--once", "--flush-archive"]).good();
    let before = remembered(&case);
    lose(&case);
    refused(
        &run(&case, &[bare], &REBUILD),
        4,
        &["no headers", "another prefix"],
    );
    let elsewhere = format!("gs://bucket/{}-b", case.name);
    let edits = [bare, (&*format!("gs://bucket/{}", case.name), &*elsewhere)];
    let rebuilt = run(&case, &edits, &REBUILD).good();
    assert!(
        rebuilt.out.contains("begins after batch"),
        "{}",
        rebuilt.out
    );
    assert_eq!(remembered(&case), before);
    run(&case, &edits, &["--rounds", "2"]).good();
    assert_eq!(case.read_topic().len(), 160);
}

#[test]
fn r35_kafka_a_damaged_missing_or_older_state_is_made_again_beside_the_journal() {
    let case = hasty("state", &CHURN);
    work(&case, 20, interrupt);
    let (state, older) = (data(&case).join("state"), case.dir.path().join("older"));
    copy(&state, &older);
    let garbage = |state: &Path| {
        for file in files(state).into_keys() {
            fs::write(file, b"certainly no state").unwrap();
        }
    };
    let nothing = |state: &Path| fs::remove_dir_all(state).unwrap();
    let back = |state: &Path| {
        fs::remove_dir_all(state).unwrap();
        copy(&older, state);
    };
    let harms: [&dyn Fn(&Path); 3] = [&garbage, &nothing, &back];
    for harm in harms {
        work(&case, 20, interrupt);
        let before = remembered(&case);
        harm(&state);
        refused(
            &case.run(&["--once"]),
            4,
            &["`deltapoll rebuild --state-only`"],
        );
        let rebuilt = case.run(&STATE_ONLY).good();
        let entries = format!("{} entries", before.len());
        assert!(rebuilt.out.contains(&entries), "{}", rebuilt.out);
        assert_eq!(remembered(&case), before);
    }
    // What is sealed and nowhere else yet belongs to it too.
    work(&case, 20, kill);
    let before = remembered(&case);
    nothing(&state);
    case.run(&STATE_ONLY).good();
    assert_eq!(remembered(&case), before);
    case.settle();
    case.check();
}

#[test]
fn r35_kafka_a_state_is_not_made_of_what_somebody_else_published() {
    let case = still("stale");
    run(&case, &[], &["--once"]).good();
    copy(&data(&case), &case.dir.path().join("kept"));
    run(&case, &[], &["--once"]).good();
    let stale = Program::run(
        case.dir.path(),
        &["--data-dir", "kept", "rebuild", "--state-only"],
    );
    refused(&stale, 4, &["not the one that published last"]);
    let nowhere = Program::run(
        case.dir.path(),
        &["--data-dir", "nowhere", "rebuild", "--state-only"],
    );
    refused(&nowhere, 4, &["there is no journal", "`deltapoll rebuild`"]);
    assert!(!case.dir.path().join("nowhere").exists());
}

/// The case without Kafka and without an archive.
fn local(case: &Case) {
    let path = case.dir.path().join(case.configure());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.split_once("[kafka]").unwrap().0).unwrap();
}

#[test]
fn r35_without_kafka_the_state_is_made_of_the_topic_log_and_a_lost_directory_is_lost() {
    let case = still("local");
    local(&case);
    let run = |arguments: &[&str]| Program::run(case.dir.path(), arguments);
    run(&["--once"]).good();
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    run(&["--rounds", "5"]).good();
    case.sim.freeze(&CELLS);
    run(&["--once"]).good();
    let (before, tail) = (remembered(&case), ["tail", &case.name, "--from-start"]);
    let lines = run(&tail).good().out.lines().count();
    fs::remove_dir_all(data(&case).join("state")).unwrap();
    refused(&run(&["--once"]), 4, &["`deltapoll rebuild --state-only`"]);
    run(&STATE_ONLY).good();
    assert_eq!(remembered(&case), before);
    run(&["--rounds", "2"]).good();
    assert_eq!(run(&tail).good().out.lines().count(), lines);
    refused(&run(&REBUILD), 4, &["data/topics", "--state-only"]);
    fs::remove_dir_all(data(&case).join("topics")).unwrap();
    refused(&run(&STATE_ONLY), 4, &["topics is gone"]);
}

#[test]
fn inspect_and_export_tell_what_is_there_and_write_nothing() {
    let case = still("inspect");
    let look = |arguments: &[&str]| Program::run(case.dir.path(), arguments);
    case.configure();
    refused(&look(&["state", "inspect"]), 4, &["there is nothing in"]);
    assert!(!data(&case).exists());
    run(&case, &[], &["--once"]).good();
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    work(&case, 8, kill);
    let before = files(&data(&case));
    let text = look(&["state", "inspect"]).good().out;
    for part in [
        "lineage ",
        "sealed     batch ",
        "cell       1 league (RANKED_",
        "rule       1",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let json = look(&["state", "inspect", "--json"]).good().out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let sealed = json["sealed"]["seq"].as_u64().unwrap();
    for follower in json["followers"].as_array().unwrap() {
        let number = |name: &str| follower[name].as_u64().unwrap();
        assert_eq!(number("position") + number("behind"), sealed);
    }
    assert_eq!(json["cells"].as_array().unwrap().len(), 4);
    assert_eq!(json["topics"][0]["partitions"], 3);
    assert_eq!(json["incarnations"].as_array().unwrap().len(), 2);
    let exported = look(&["state", "export", "league"]).good().out;
    let entries = json["state"]["entries"].as_u64().unwrap();
    assert_eq!(exported.lines().count() as u64, entries);
    assert_eq!(remembered(&case).len() as u64, entries);
    refused(
        &look(&["state", "export", "other"]),
        2,
        &["it knows: league"],
    );
    assert_eq!(files(&data(&case)), before);
    // A damaged state is told beside all the rest.
    fs::write(data(&case).join("state/CURRENT"), "0000000009 1").unwrap();
    let damaged = look(&["state", "inspect"]);
    refused(&damaged, 4, &["has lost its directory", "--state-only"]);
    assert!(damaged.out.contains("lineage "), "{}", damaged.out);
    case.run(&STATE_ONLY).good();
    let program = case.start(&[]);
    wait_until("the first poll", PATIENCE, || {
        program.err().contains("first poll done").then_some(())
    });
    refused(
        &look(&["state", "inspect"]),
        4,
        &["another deltapoll process"],
    );
    interrupt(program);
    case.settle();
    case.check();
    let topic = readers::topic(case.dir.path(), &Broker::shared().bootstrap(), &case.name);
    assert!(topic.len() > 160);
}

#[cfg(feature = "fail-points")]
#[test]
fn crash_r35_kafka_at_each_step_of_a_rebuild_leaves_nothing_that_a_run_goes_on_with() {
    let case = hasty("steps", &CHURN);
    for step in [
        "rebuild.pages",
        "rebuild.journal",
        "rebuild.state",
        "rebuild.renamed",
    ] {
        work(&case, 20, interrupt);
        lose(&case);
        let crash = format!("{step}:1");
        let orders = [("DELTAPOLL_CRASH", crash.as_str())];
        case.configure();
        let crashed = Program::start_with(case.dir.path(), &REBUILD, &orders).wait();
        assert_eq!(crashed.code(), -1, "{step}: {}", crashed.err);
        if step != "rebuild.renamed" {
            refused(&case.run(&["--once"]), 4, &["half made", "say it again"]);
            case.run(&REBUILD).good();
        }
    }
    for step in ["rebuild.pages", "rebuild.state", "rebuild.renamed"] {
        work(&case, 20, interrupt);
        let before = remembered(&case);
        let state = data(&case).join("state");
        fs::remove_dir_all(&state).unwrap();
        let crash = format!("{step}:1");
        let orders = [("DELTAPOLL_CRASH", crash.as_str())];
        let crashed = Program::start_with(case.dir.path(), &STATE_ONLY, &orders).wait();
        assert_eq!(crashed.code(), -1, "{step}: {}", crashed.err);
        if step == "rebuild.pages" {
            refused(
                &case.run(&["--once"]),
                4,
                &["`deltapoll rebuild --state-only`"],
            );
            case.run(&STATE_ONLY).good();
        } else {
            // Whole when it is moved: the next one that opens the directory finishes that.
            work(&case, 4, interrupt);
            continue;
        }
        assert_eq!(remembered(&case), before);
    }
    case.settle();
    case.check();
}

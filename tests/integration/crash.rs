//! The process ends at each durable step, by name, and goes on (only with the feature `fail-points`).
//!
//! Pass one runs a workload twice, on a new directory and on what that leaves, and counts the steps that
//! are reached. Pass two ends the process at each of them: steps that only a new directory has on one of
//! their own, the others one after another on the same, so that every crash meets what the crash before
//! it left, recovery included. Then everything must be as if there had been none: topic and archive
//! against the versions that the API served.
//!
//! `DELTAPOLL_TORTURE=N`: also the second to n-th time that a step is reached, and a check after each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::case::Case;
use crate::support::fault_table::{repetitions, row};
use crate::support::process::{Ended, Program};
use crate::support::readers;
use crate::support::sim::Sim;

const WORK: [&str; 5] = ["--workers", "2", "--rounds", "4", "--flush-archive"];
/// Crashes between two checks.
const BEFORE_A_CHECK: usize = 12;

type Counts = BTreeMap<String, u64>;

fn new_case(name: &str) -> Case {
    Case::new(name, &["--churn", "0.05", "--leave", "0.01"])
}

/// The steps that one run of the workload reaches, and how often.
fn count(case: &Case, name: &str) -> Counts {
    let file = case.dir.path().join(name);
    case.run_with(&WORK, &[("DELTAPOLL_STEPS", file.to_str().unwrap())])
        .good();
    let mut counts = Counts::new();
    for step in std::fs::read_to_string(&file).unwrap().lines() {
        *counts.entry(step.to_owned()).or_default() += 1;
    }
    counts
}

/// Ends the process at a step; whether it came there.
fn crash(case: &Case, step: &str, n: u64) -> bool {
    let order = format!("{step}:{n}");
    let ended: Ended = case.run_with(&WORK, &[("DELTAPOLL_CRASH", &order)]);
    assert!(
        ended.aborted() || ended.status.success(),
        "{order}: {}\n{}\n{}",
        ended.status,
        ended.out,
        ended.err
    );
    ended.aborted()
}

/// Topic and archive against the served versions, and the state against the topic.
fn check(case: &Case, crashes: &[(String, u64)]) {
    eprintln!("checked after {crashes:?}");
    case.settle();
    case.check();
    case.run(&["verify"]).good();
}

/// One pipeline without Kafka: the local topic log, and a directory as archive.
struct Local {
    dir: TempDir,
    sim: Sim,
}

const CELL: &str = "kr,RANKED_SOLO_5x5";

impl Local {
    fn new() -> Local {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::start(dir.path(), &["--churn", "0.05", "--leave", "0.01"]);
        let text = format!(
            r#"
name = "local"
data_dir = "data"
[source.league]
url = "http://127.0.0.1:{}/kr/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5"
headers = {{ X-Riot-Token = "${{env:DELTAPOLL_TEST_TOKEN}}" }}
records = "/entries"
key = ["/puuid"]
every = "15ms"
removed_after = 1
[archive]
url = "file://{}/objects"
"#,
            sim.port,
            dir.path().display()
        );
        std::fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
        Local { dir, sim }
    }

    fn run(&self, variables: &[(&str, &str)]) -> Ended {
        Program::start_with(self.dir.path(), &WORK, variables).wait()
    }

    /// What the log and the objects hold, against the served versions.
    fn check(&self) {
        self.sim.freeze(&[CELL]);
        self.run(&[]).good();
        let dir = self.dir.path();
        let tail = ["tail", "league", "--from-start"];
        let told = Program::run(dir, &tail).good().out;
        let records = told.lines().map(|written| {
            let line: Value = serde_json::from_str(written).unwrap();
            let text = |name: &str| line[name].to_string().replace('"', "");
            let value = (!line["value"].is_null()).then(|| value_of(written));
            json!({
                "partition": 0, "offset": line["offset"], "key": line["key"], "value": value,
                "headers": {"change": text("change"), "epoch": text("epoch"), "seq": text("seq"),
                            "polled_at": text("polled_at"), "source": "league", "cell": CELL},
            })
        });
        let records: Vec<String> = records.map(|record| record.to_string()).collect();
        std::fs::write(dir.join("topic.ndjson"), records.join("\n")).unwrap();
        readers::archive(dir, &dir.join("objects"));
        let archive = dir.join("archive.ndjson");
        let archive = ["--archive", archive.to_str().unwrap()];
        readers::check(dir, &self.sim.versions, &archive);
    }
}

/// A value as it is written in a line, to the byte.
fn value_of(line: &str) -> &str {
    let (_, from) = line.split_once("\"value\":").unwrap();
    from.rsplit_once(",\"change\":").unwrap().0
}

#[test]
fn crash_at_each_step_of_the_local_log_loses_nothing_and_repeats_nothing() {
    let local = Local::new();
    let steps = local.dir.path().join("steps");
    let noted = [("DELTAPOLL_STEPS", steps.to_str().unwrap())];
    local.run(&noted).good();
    let steps = std::fs::read_to_string(&steps).unwrap();
    let names: BTreeSet<&str> = steps.lines().collect();
    let mine = names.iter().filter(|name| {
        name.starts_with("local.") || name.starts_with("object.") || name.starts_with("archive.")
    });
    let mine: Vec<_> = mine.collect();
    assert!(mine.len() >= 3, "{names:?}");
    for step in mine {
        let order = format!("{step}:1");
        let ended = local.run(&[("DELTAPOLL_CRASH", &order)]);
        assert!(ended.aborted(), "{order}: {}\n{}", ended.status, ended.err);
    }
    local.check();
}

#[test]
fn crash_at_each_durable_step_loses_nothing_and_repeats_nothing() {
    let case = new_case("steps");
    let first = count(&case, "steps.1");
    let again = count(&case, "steps.2");
    check(&case, &[]);
    drop(case);
    let names: BTreeSet<&String> = first.keys().chain(again.keys()).collect();
    eprintln!("{} durable steps: {names:?}", names.len());
    for part in ["journal.", "store.", "kafka.", "archive.", "remember."] {
        assert!(
            names.iter().any(|name| name.starts_with(part)),
            "no step of {part}* was reached"
        );
    }
    let mut missed = Vec::new();
    for step in first.keys().filter(|step| !again.contains_key(*step)) {
        let case = new_case("step-new");
        if !crash(&case, step, 1) {
            missed.push((step.clone(), 1));
        }
        check(&case, &[(step.clone(), 1)]);
    }
    let most = u64::from(repetitions());
    let mut orders = Vec::new();
    for (step, count) in &again {
        orders.extend((1..=most.min(*count)).map(|n| (step.clone(), n)));
    }
    let at_once = if most > 1 { 1 } else { BEFORE_A_CHECK };
    for orders in orders.chunks(at_once) {
        let case = new_case("step");
        case.run(&WORK).good();
        for (step, n) in orders {
            if !crash(&case, step, *n) {
                missed.push((step.clone(), *n));
            }
        }
        check(&case, orders);
    }
    // Timing decides how often a step is reached, not whether it is.
    missed.retain(|(_, n)| *n == 1);
    assert!(missed.is_empty(), "never came to {missed:?}");
    row(
        &format!("the process ends at each of {} durable steps", names.len()),
        &format!(
            "{} crashes, 0 duplicates, 0 losses, verify agrees",
            orders.len()
        ),
    );
}

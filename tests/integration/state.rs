//! `check`, `state republish` and `state reset` between real runs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::case::{CELLS, Case};
use crate::support::kafka::Broker;
use crate::support::process::{Ended, Program};
use crate::support::readers;

const ENTRIES: usize = 40;

/// Runs the program under the case's configuration, with `from` replaced by `to` in it.
fn run(case: &Case, edits: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let path = case.dir.path().join(case.configure());
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} in\n{text}");
        text = text.replace(from, to);
    }
    std::fs::write(&path, text).unwrap();
    Program::run(case.dir.path(), arguments)
}

fn topic(case: &Case, name: &str) -> Vec<Value> {
    readers::topic(case.dir.path(), &Broker::shared().bootstrap(), name)
}

/// How many records have each kind of change.
fn kinds(records: &[Value]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for record in records {
        let kind = record["headers"]["change"].as_str().unwrap().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn still(name: &str) -> Case {
    let case = Case::new(name, &["--entries", &ENTRIES.to_string()]);
    case.sim.freeze(&CELLS);
    case
}

#[test]
fn r32_kafka_another_topic_is_filled_anew_and_the_old_one_emptied() {
    let case = still("republish");
    let all = ENTRIES * CELLS.len();
    let once = ["--once", "--flush-archive"];
    run(&case, &[], &once).good();
    let (old, new) = (case.name.clone(), format!("{}-b", case.name));
    let (from, to) = (format!("topic = \"{old}\""), format!("topic = \"{new}\""));
    let edits = [(from.as_str(), to.as_str())];

    let refused = run(&case, &edits, &once);
    assert_eq!(refused.code(), 4, "{}", refused.err);
    assert!(
        refused.err.contains("`deltapoll state republish league`"),
        "{}",
        refused.err
    );
    let republished = run(&case, &edits, &["state", "republish", "league"]).good();
    let sealed = format!("sealed {all} tombstones for topic {old}\n");
    assert!(republished.out.starts_with(&sealed), "{}", republished.out);
    let refused = run(&case, &edits, &["state", "republish", "league"]);
    assert_eq!(refused.code(), 4, "{}", refused.err);
    assert!(
        refused.err.contains("`deltapoll --once --flush-archive`"),
        "{}",
        refused.err
    );

    run(&case, &edits, &once).good();
    run(&case, &edits, &once).good();
    let wanted = BTreeMap::from([("added".to_owned(), all), ("removed".to_owned(), all)]);
    assert_eq!(kinds(&topic(&case, &old)), wanted);
    let wanted = BTreeMap::from([("added".to_owned(), all)]);
    assert_eq!(kinds(&topic(&case, &new)), wanted);

    // Another way of removal: the same keys again, in the same topic, and no tombstone.
    let event = (to.as_str(), format!("{to}\nremoved = \"event\""));
    let edits = [edits[0], (event.0, event.1.as_str())];
    run(&case, &edits, &["state", "republish", "league"]).good();
    run(&case, &edits, &once).good();
    let wanted = BTreeMap::from([("added".to_owned(), all), ("changed".to_owned(), all)]);
    assert_eq!(kinds(&topic(&case, &new)), wanted);
}

#[test]
fn r32_kafka_a_reset_takes_the_place_of_what_published_before_start_after_start() {
    let case = still("reset");
    let all = ENTRIES * CELLS.len();
    for _ in 0..3 {
        run(&case, &[], &["--once"]).good();
    }
    let refused = run(&case, &[], &["state", "reset"]);
    assert_eq!(refused.code(), 2, "{}", refused.err);
    run(&case, &[], &["state", "reset", "--yes"]).good();
    // Once more, with nothing published in between.
    let reset = run(&case, &[], &["state", "reset", "--yes"]).good();
    assert!(
        reset.out.contains("set archive.url to a new prefix"),
        "{}",
        reset.out
    );
    let elsewhere = format!("gs://bucket/{}-b", case.name);
    let edits = [(&*format!("gs://bucket/{}", case.name), elsewhere.as_str())];
    for _ in 0..3 {
        run(&case, &edits, &["--once"]).good();
    }
    let records = topic(&case, &case.name);
    assert_eq!(
        kinds(&records),
        BTreeMap::from([("added".to_owned(), 2 * all)])
    );
}

#[test]
fn kafka_check_asks_each_source_and_makes_nothing() {
    let case = still("check");
    let checked = run(&case, &[], &["check"]).good();
    for part in [
        &format!("asked league: {ENTRIES} entries, the first becomes record kr:RANKED_"),
        &format!(
            "topic {} is not there yet: the first run makes it\n",
            case.name
        ),
    ] {
        assert!(checked.out.contains(part), "{part} in\n{}", checked.out);
    }
    assert!(!case.dir.path().join("data").exists());
    run(&case, &[], &["--once"]).good();
    let checked = run(&case, &[], &["check"]).good();
    let there = format!("topic {} is there, with 3 partitions\n", case.name);
    assert!(checked.out.contains(&there), "{}", checked.out);
}

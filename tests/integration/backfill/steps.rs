//! A backfill ends at each durable step, by name, and goes on (only with the feature `fail-points`).
//!
//! Pass one runs it to its end and counts the steps that are reached. Pass two ends it at each of them, the
//! first time and in the middle, on a new directory each, and runs the same command again: of each key
//! the topic must have the same changes.

use std::collections::{BTreeMap, BTreeSet};

use super::BEGIN;
use super::archive::{archive_in, configure};
use super::local::{Local, body};
use crate::support::fault_table::row;
use crate::support::process::{Ended, Program};

const SNAPSHOTS: u64 = 40;

/// Snapshots, and an archive of the same.
fn stored() -> Local {
    let local = Local::new();
    for at in 0..SNAPSHOTS {
        let comes_and_goes = ("b", at / 3);
        let mut entries = vec![("a", at), ("c", at / 7), comes_and_goes];
        entries.retain(|(id, _)| *id != "b" || at % 5 != 2);
        local.store(&format!("s/{}.json", BEGIN + at), body(&entries));
    }
    configure(&local, "old", "", &archive_in("archive"), "tombstone");
    let read = ["backfill", "s/{time}.json", "--flush-archive"];
    local.run(&read).good();
    local
}

fn fresh(local: &Local, name: &str) {
    let objects = archive_in(&format!("objects-{name}"));
    configure(local, &format!("data-{name}"), "", &objects, "tombstone");
}

fn run(local: &Local, source: &str, variables: &[(&str, &str)]) -> Ended {
    let arguments = ["backfill", source, "--workers", "2", "--flush-archive"];
    Program::start_with(local.0.path(), &arguments, variables).wait()
}

/// Of each key, in order, what the topic has.
fn changes(local: &Local) -> BTreeMap<char, Vec<String>> {
    let mut changes = BTreeMap::new();
    for line in local.topic() {
        let key = line.chars().next().unwrap();
        changes.entry(key).or_insert_with(Vec::new).push(line);
    }
    changes
}

/// The steps that a whole backfill reaches, and how often.
fn count(local: &Local, source: &str) -> BTreeMap<String, u64> {
    let file = local.0.path().join("steps");
    drop(std::fs::remove_file(&file));
    run(
        local,
        source,
        &[("DELTAPOLL_STEPS", file.to_str().unwrap())],
    )
    .good();
    let mut counts = BTreeMap::new();
    for step in std::fs::read_to_string(&file).unwrap().lines() {
        *counts.entry(step.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn crash_a_backfill_at_each_durable_step_goes_on_with_neither_gap_nor_duplicate() {
    let local = stored();
    let wanted = changes(&local);
    assert_eq!(wanted[&'a'].len() as u64, SNAPSHOTS);
    let (mut crashes, mut names) = (0, BTreeSet::new());
    for (kind, source) in [("files", "s/{time}.json"), ("archive", "archive")] {
        fresh(&local, kind);
        let counts = count(&local, source);
        assert_eq!(changes(&local), wanted, "{kind}");
        for part in ["journal.", "local.", "archive.", "store."] {
            let any = counts.keys().any(|name| name.starts_with(part));
            assert!(any, "no step of {part}* was reached: {counts:?}");
        }
        for (step, count) in &counts {
            for n in BTreeSet::from([1, count / 2 + 1]) {
                let order = format!("{step}:{n}");
                fresh(&local, &format!("{kind}-{step}-{n}"));
                let ended = run(&local, source, &[("DELTAPOLL_CRASH", &order)]);
                // Timing decides how often a step is reached, not whether it is.
                let fine = ended.aborted() || (n > 1 && ended.status.success());
                assert!(fine, "{order}: {}\n{}", ended.status, ended.err);
                crashes += u32::from(ended.aborted());
                run(&local, source, &[]).good();
                assert_eq!(changes(&local), wanted, "{kind}, {order}");
                local.run(&["verify"]).good();
            }
        }
        names.extend(counts.into_keys());
    }
    row(
        &format!("a backfill ends at each of {} durable steps", names.len()),
        &format!("{crashes} crashes, 0 duplicates, 0 losses, verify agrees"),
    );
}

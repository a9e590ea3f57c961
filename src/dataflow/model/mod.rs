//! The graph against a model: random snapshots through the real graph, the real journal and the real
//! pages, on one to four workers, with restarts and crashes in between, must publish exactly what a
//! `BTreeMap` says.
//!
//! A failing seed is printed; `DELTAPOLL_SEED=n` plays it again.

mod bench;
mod script;

use bench::Bench;
use differential_dataflow::consolidation::consolidate;
use script::{Poll, Script, Settings, World};

use crate::config::Removed;
use crate::snapshot::Verdict;

const SEEDS: u64 = 60;
const STEPS: usize = 40;

fn play(seed: u64) {
    let mut script = Script::new(seed);
    let settings = script.settings();
    let mut world = World::new(settings.clone());
    let mut bench = Bench::new(&settings, script.workers());
    for step in 0..STEPS {
        if script.restarts() {
            let crash = script.crashes();
            bench.restart(script.workers(), crash);
            if crash {
                world.forget_misses();
            }
        }
        let polls = script.polls(&world);
        let expected: Vec<_> = polls.iter().map(|poll| world.apply(poll)).collect();
        let outcomes = bench.poll(&polls);
        for ((poll, expected), outcome) in polls.iter().zip(&expected).zip(&outcomes) {
            assert_eq!(
                expected.verdict(),
                outcome.verdict,
                "seed {seed}, step {step}: {poll:?}"
            );
            assert_eq!(
                expected.tally, outcome.tally,
                "seed {seed}, step {step}: {poll:?}"
            );
        }
        // Each side counts +1 or -1; what remains does not agree.
        let expected = expected.into_iter().flat_map(|e| e.changes);
        let mut differences: Vec<_> = expected.map(|change| (change, 1_isize)).collect();
        differences.extend(bench.published().into_iter().map(|change| (change, -1)));
        consolidate(&mut differences);
        assert!(
            differences.is_empty(),
            "seed {seed}, step {step}: {differences:?} {polls:?}"
        );
    }
    bench.close();
}

#[test]
fn model_r03_r05_r06_r07_r08_random_snapshots_publish_what_a_map_says() {
    if let Ok(seed) = std::env::var("DELTAPOLL_SEED") {
        return play(seed.parse().expect("DELTAPOLL_SEED is a number"));
    }
    for seed in 0..SEEDS {
        let played = std::panic::catch_unwind(|| play(seed));
        if let Err(panic) = played {
            eprintln!("play it again with DELTAPOLL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn r10_a_changed_ignore_list_publishes_nothing_by_itself() {
    let mut settings = Settings {
        removed_after: 1,
        removed: Removed::Tombstone,
        cells: 1,
        ignore: Vec::new(),
        record_max: 1 << 20,
    };
    let mut bench = Bench::new(&settings, 2);
    let verdict = |bench: &mut Bench, text: &str| bench.poll(&[Poll::of(text)])[0].verdict.clone();
    let first = r#"{"id":"a","v":1,"w":1}"#;
    assert_eq!(verdict(&mut bench, first), Verdict::Sealed);
    settings.ignore = vec!["/w".into()];
    for (restart, text) in [first, r#"{"w":2,"id":"a","v":1}"#].into_iter().enumerate() {
        bench.configure(&settings);
        bench.restart(1 + restart, false);
        // The same bytes under another rule; then other bytes, compared under the rule of the old ones.
        assert_eq!(verdict(&mut bench, first), Verdict::Unchanged);
        assert_eq!(verdict(&mut bench, text), Verdict::Unchanged);
    }
    assert_eq!(
        verdict(&mut bench, r#"{"id":"a","v":2,"w":2}"#),
        Verdict::Sealed
    );
    bench.close();
}

#[test]
fn r29_a_batch_larger_than_all_that_may_be_unwritten_holds_up_nobody() {
    let settings = Settings {
        removed_after: 1,
        removed: Removed::Tombstone,
        cells: 1,
        ignore: Vec::new(),
        record_max: 64 << 20,
    };
    let mut bench = Bench::new(&settings, 2);
    let value = "v".repeat(9 << 20);
    let entries = (0..4).map(|key| format!("{{\"id\":{key},\"v\":\"{value}\"}}"));
    let entries: Vec<String> = entries.collect();
    let outcomes = bench.poll(&[Poll::of(&entries.join(","))]);
    assert_eq!(outcomes[0].verdict, Verdict::Sealed);
    assert_eq!(bench.published().len(), 4);
    bench.close();
}

#[test]
fn r05_r11_an_entry_that_is_too_large_is_skipped_and_its_key_stays_as_it_was() {
    let settings = Settings {
        removed_after: 1,
        removed: Removed::Tombstone,
        cells: 1,
        ignore: Vec::new(),
        record_max: 1000,
    };
    let mut bench = Bench::new(&settings, 2);
    let small = r#"{"id":1,"v":"a"}"#;
    assert_eq!(bench.poll(&[Poll::of(small)])[0].tally.added, 1);
    let large = format!("{{\"id\":1,\"v\":\"{}\"}}", "a".repeat(1000));
    let outcome = bench.poll(&[Poll::of(&large)]).remove(0);
    assert_eq!(outcome.verdict, Verdict::Unchanged);
    assert_eq!((outcome.tally.oversized, outcome.tally.missing), (1, 0));
    assert!(
        !outcome.validates(),
        "the same bytes are looked at again (R9)"
    );
    assert_eq!(bench.published().len(), 1, "nothing but the first value");
    assert_eq!(bench.poll(&[Poll::of(small)])[0].tally.changes(), 0);
    bench.close();
}

#[test]
fn r02_a_snapshot_is_decided_although_no_other_cell_has_one() {
    let settings = Settings {
        removed_after: 1,
        removed: Removed::Tombstone,
        cells: 3,
        ignore: Vec::new(),
        record_max: 1 << 20,
    };
    let mut bench = Bench::new(&settings, 2);
    for value in 0..3 {
        let text = format!("{{\"id\":1,\"v\":{value}}}");
        assert_eq!(bench.poll(&[Poll::of(&text)])[0].verdict, Verdict::Sealed);
    }
    bench.close();
}

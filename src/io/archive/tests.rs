//! The archive against doubles: when objects roll, what restarts do, what is already there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::memory::InMemory;

use super::fateful::Fate;
use super::support::*;
use super::*;
use crate::config::quantity::Bytes;
use crate::config::{Codec, Roll};
use crate::fault::Exit;

fn name_of(first: u64) -> String {
    name::write("t", 0, first)
}

fn settings(roll: Roll) -> Settings {
    Settings::new(roll, Codec::Zstandard, LINEAGE)
}

#[test]
fn r24_an_object_rolls_by_records_at_an_epochs_end() {
    let world = World::new();
    let mut archive = world.archive(by_records(5));
    for epoch in 1..=4 {
        world.journal.seal_plain(epoch, "t", 2);
    }
    assert_eq!(
        archive.advance(Seq(2)).unwrap(),
        Seq(0),
        "four changes wait"
    );
    assert_eq!(
        archive.advance(Seq(4)).unwrap(),
        Seq(3),
        "the fourth epoch waits"
    );
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0])]);
    let header = world.header(&name_of(0));
    assert_eq!((header.first, header.last), (0, 5));
    assert_eq!((header.seq_first, header.seq_last), (Seq(1), Seq(3)));
    assert_eq!(header.lineage, LINEAGE);
    assert_eq!(
        world.archived().into_values().next(),
        world.journal.expected(Seq(3)).into_values().next()
    );
    assert_eq!(archive.metrics().records.load(Ordering::Relaxed), 6);
}

#[test]
fn r24_an_object_rolls_by_bytes_of_keys_and_values() {
    let world = World::new();
    let mut archive = world.archive(Roll {
        bytes: Bytes(40),
        ..never()
    });
    world.journal.seal_plain(1, "t", 3);
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(0), "30 bytes wait");
    world.journal.seal_plain(2, "t", 1);
    assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(2));
    assert_eq!(world.header(&name_of(0)).last, 3);
}

#[test]
fn r24_an_object_rolls_by_age_across_a_restart() {
    let world = World::new();
    let roll = Roll {
        age: Duration::from_secs(60),
        ..never()
    };
    let mut archive = world.archive(roll);
    assert_eq!(archive.due(), None);
    world.journal.seal_plain(0, "t", 1);
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(0));
    assert_eq!(
        archive.due(),
        Some(world.time.now() + Duration::from_secs(60))
    );
    world.time.pass(Duration::from_secs(59));
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(0));
    drop(archive);
    let mut archive = world.archive(roll);
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(0));
    assert_eq!(
        archive.due(),
        Some(world.time.now() + Duration::from_secs(1))
    );
    world.time.pass(Duration::from_secs(1));
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(1));
    assert_eq!(archive.due(), None);
}

#[test]
fn r24_catching_up_does_not_make_an_object_of_every_epoch() {
    let world = World::new();
    let mut archive = world.archive(Roll {
        age: Duration::from_secs(1),
        ..never()
    });
    for epoch in 1..=50 {
        world.journal.seal_plain(epoch, "t", 1);
    }
    world.time.pass(Duration::from_secs(3600));
    assert_eq!(archive.advance(Seq(50)).unwrap(), Seq(50));
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0])]);
}

#[test]
fn r24_an_epoch_is_cut_at_a_batch_only_if_it_exceeds_roll_alone() {
    let world = World::new();
    let mut archive = world.archive(by_records(4));
    let batch = |n: usize| -> Changes {
        (0..n)
            .map(|i| (0, format!("k{i}"), Some("1".into()), false))
            .collect()
    };
    world.journal.seal(1, &[("t", batch(2))]);
    world.journal.seal(2, &[("t", batch(2)), ("t", batch(1))]);
    world
        .journal
        .seal(3, &[("t", batch(3)), ("t", batch(3)), ("t", batch(1))]);
    assert_eq!(
        archive.advance(Seq(2)).unwrap(),
        Seq(0),
        "published within the second epoch"
    );
    assert_eq!(archive.flush().unwrap(), Seq(0), "nor does a flush cut it");
    assert_eq!(archive.due(), None);
    assert_eq!(archive.advance(Seq(6)).unwrap(), Seq(5));
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0, 5])]);
    assert_eq!(world.header(&name_of(5)).seq_last, Seq(5));
    archive.flush().unwrap();
    assert_eq!(world.archived(), world.journal.expected(Seq(6)));
}

#[test]
fn r24_topic_partitions_with_nothing_waiting_do_not_hold_back_the_position() {
    let world = World::new();
    let mut archive = world.archive(by_records(3));
    let one = |p: u32| (p, "k".to_owned(), Some("1".to_owned()), false);
    world.journal.seal(
        1,
        &[("a", vec![one(0), one(0), one(0)]), ("b", vec![one(1)])],
    );
    world.journal.seal_plain(2, "a", 3);
    assert_eq!(
        archive.advance(Seq(3)).unwrap(),
        Seq(1),
        "b waits from batch 2"
    );
    world.journal.seal(3, &[("b", vec![one(1), one(1)])]);
    assert_eq!(archive.advance(Seq(4)).unwrap(), Seq(4));
    let silent = (0, "s".to_owned(), None, true);
    world.journal.seal(4, &[("a", vec![silent])]);
    assert_eq!(
        archive.advance(Seq(5)).unwrap(),
        Seq(5),
        "silent changes wait for nothing"
    );
    assert_eq!(world.facts.get("archive/position").unwrap(), "5");
    assert_eq!(world.archived(), world.journal.expected(Seq(5)));
}

#[test]
fn r24_nothing_is_read_beyond_what_is_published() {
    let world = World::new();
    let mut archive = world.archive(by_records(1));
    for epoch in 1..=3 {
        world.journal.seal_plain(epoch, "t", 1);
    }
    assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(2));
    assert_eq!(archive.flush().unwrap(), Seq(2));
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0, 1])]);
}

#[test]
fn r29_relieve_rolls_only_what_holds_back_the_position() {
    let world = World::new();
    let mut archive = world.archive(never());
    world.journal.seal_plain(1, "old", 1);
    world.journal.seal_plain(2, "young", 1);
    assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(0));
    archive.control().relieve();
    assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(1));
    archive.control().flush();
    assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(2));
    assert_eq!(
        archive.advance(Seq(2)).unwrap(),
        Seq(2),
        "wishes are granted once"
    );
}

#[test]
fn what_waits_in_all_partitions_together_is_bounded() {
    let world = World::new();
    let mut settings = settings(never());
    settings.held_bytes_max = 4000;
    let mut archive = world.try_archive(settings).unwrap();
    for epoch in 1..=200 {
        let p = u32::try_from(epoch % 7).unwrap();
        let value = format!("\"{}\"", "x".repeat(50));
        world.journal.seal(
            epoch,
            &[("t", vec![(p, format!("k{epoch}"), Some(value), false)])],
        );
        archive.advance(Seq(epoch)).unwrap();
        assert!(archive.held() <= 4000, "{} at {epoch}", archive.held());
    }
    archive.flush().unwrap();
    assert_eq!(archive.held(), 0);
    assert_eq!(world.archived(), world.journal.expected(Seq(200)));
}

#[test]
fn two_runs_write_the_same_bytes() {
    let run = || {
        let world = World::new();
        let mut archive = world.archive(by_records(3));
        for epoch in 1..=4 {
            world.journal.seal_plain(epoch, "t", 2);
        }
        archive.advance(Seq(4)).unwrap();
        [0, 4].map(|first| world.objects.get(&name_of(first)).unwrap().unwrap())
    };
    assert_eq!(run(), run());
}

#[test]
fn r25_a_put_that_failed_before_or_after_the_write_is_settled() {
    for fates in [
        vec![Fate::FailBefore],
        vec![Fate::FailAfter],
        vec![Fate::FailBefore, Fate::FailBefore, Fate::FailAfter],
        vec![Fate::Refuse, Fate::Refuse, Fate::FailBefore],
    ] {
        let world = World::new();
        let mut archive = world.archive(by_records(2));
        world.journal.seal_plain(1, "t", 2);
        world.journal.seal_plain(2, "t", 2);
        world.fates(fates.clone());
        assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(2), "{fates:?}");
        assert_eq!(world.firsts(), [("t".into(), 0, vec![0, 2])]);
        assert_eq!(world.archived(), world.journal.expected(Seq(2)));
        assert_eq!(archive.metrics().health(), Health::Good);
    }
}

#[test]
fn a_stop_ends_retries_and_loses_nothing() {
    let world = World::new();
    let mut archive = world.archive(by_records(1));
    world.journal.seal_plain(1, "t", 1);
    let control = archive.control();
    *world.time.on_pause.lock().unwrap() = Some(Box::new(move || control.stop()));
    world.fates([Fate::Refuse; 2]);
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(0));
    assert_eq!(archive.metrics().health(), Health::Refused);
    assert_eq!(world.firsts(), []);
    *world.time.on_pause.lock().unwrap() = None;
    let mut archive = world.archive(by_records(1));
    assert_eq!(
        archive.advance(Seq(1)).unwrap(),
        Seq(1),
        "after one more refusal"
    );
    assert_eq!(world.archived(), world.journal.expected(Seq(1)));
}

/// Archives under `before`, forgets all facts but the prefix, archives under `after`.
fn rolled_elsewhere(before: u64, after: u64) -> World {
    let world = World::new();
    for epoch in 1..=12 {
        world.journal.seal_plain(epoch, "t", 1);
    }
    let mut archive = world.archive(by_records(before));
    archive.advance(Seq(12)).unwrap();
    archive.flush().unwrap();
    let was = world.firsts();
    world.facts.states.lock().unwrap().truncate(2);
    let mut archive = world.archive(by_records(after));
    archive.advance(Seq(5)).unwrap();
    assert_eq!(archive.advance(Seq(12)).unwrap(), archive.position());
    assert_eq!(archive.flush().unwrap(), Seq(12));
    assert_eq!(world.firsts(), was, "what is there is taken");
    world
}

#[test]
fn r25_an_object_of_ours_is_taken_wherever_it_was_rolled() {
    for (before, after) in [(3, 3), (2, 5), (5, 2), (4, 3), (1, 12)] {
        let world = rolled_elsewhere(before, after);
        assert_eq!(
            world.archived(),
            world.journal.expected(Seq(12)),
            "{before} {after}"
        );
    }
}

/// An object is there already, in a prefix that is ours.
fn put(world: &World, object: &[u8]) {
    let path = object_store::path::Path::parse(name_of(0)).unwrap();
    let put = object_store::ObjectStoreExt::put(&*world.store.inner, &path, object.to_vec().into());
    futures_util::FutureExt::now_or_never(put).unwrap().unwrap();
    let prefix = ("archive/prefix".into(), Some(format!("\"{URL}\"")));
    world.facts.set(vec![prefix], true).unwrap();
}

fn conflict(world: &World, object: &[u8], reason: &str) {
    put(world, object);
    let mut archive = world.archive(by_records(2));
    let fault = archive.advance(world.journal.last()).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    let whole = format!("{URL}/{}", name_of(0));
    for part in [reason, &whole, "another prefix"] {
        assert!(fault.message.contains(part), "{}", fault.message);
    }
    let there = world.objects.get(&name_of(0)).unwrap().unwrap();
    assert_eq!(there, object, "nothing is overwritten");
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0])]);
}

/// The object that a directory with these changes and this lineage writes.
fn object_of(lineage: &str, changes: &[usize]) -> Vec<u8> {
    let world = World::new();
    for (epoch, n) in changes.iter().enumerate() {
        world.journal.seal_plain(epoch as u64, "t", *n);
    }
    let settings = Settings {
        lineage: lineage.into(),
        ..settings(never())
    };
    let mut archive = world.try_archive(settings).unwrap();
    archive.advance(world.journal.last()).unwrap();
    archive.flush().unwrap();
    world.objects.get(&name_of(0)).unwrap().unwrap().to_vec()
}

#[test]
fn r25_anything_else_in_the_place_of_an_object_is_a_conflict() {
    let cases = [
        (b"hello".to_vec(), "no Avro"),
        (Vec::new(), "no Avro"),
        (
            object_of("someone else", &[2, 2]),
            "another directory (lineage someone else)",
        ),
        (
            object_of(LINEAGE, &[2, 2, 2]),
            "only batches up to 2 are published",
        ),
        (object_of(LINEAGE, &[3, 1]), "changes 0-3 are not ours"),
        (object_of(LINEAGE, &[3]), "changes 0-2 are not ours"),
    ];
    for (object, reason) in cases {
        let world = World::new();
        world.journal.seal_plain(0, "t", 2);
        world.journal.seal_plain(1, "t", 2);
        conflict(&world, &object, reason);
    }
}

#[test]
fn r24_r25_who_is_stopped_before_kafka_answers_leaves_its_own_object_to_a_start_that_knows() {
    let world = World::new();
    world.journal.seal_plain(0, "t", 2);
    world.journal.seal_plain(1, "t", 2);
    // Put by the process before, which published both batches and was killed; ours knows of one.
    put(&world, &object_of(LINEAGE, &[2, 2]));
    let mut archive = world.archive(by_records(1));
    assert_eq!(archive.advance(Seq(1)).unwrap(), Seq(0));
    drop(archive);
    let mut archive = world.archive(by_records(1));
    assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(2));
}

#[test]
fn r25_the_same_range_with_another_value_is_a_conflict() {
    let world = World::new();
    let one = |v: &str| (0, "k".to_owned(), Some(v.to_owned()), false);
    world.journal.seal(0, &[("t", vec![one("1"), one("2")])]);
    let other = World::new();
    other.journal.seal(0, &[("t", vec![one("1"), one("3")])]);
    other.archive(by_records(1)).advance(Seq(1)).unwrap();
    let object = other.objects.get(&name_of(0)).unwrap().unwrap();
    conflict(&world, &object, "changes 0-1 are not ours");
}

#[test]
fn r26_a_prefix_with_anything_foreign_is_refused() {
    for (path, object, reason) in [
        (
            "topics/x/readme.txt".to_owned(),
            b"hi".to_vec(),
            "none of ours",
        ),
        (name_of(0), b"hi".to_vec(), "no Avro"),
        (
            name_of(7),
            object_of("someone else", &[1]),
            "lineage someone else",
        ),
    ] {
        let world = World::new();
        let path = object_store::path::Path::parse(path).unwrap();
        let put = object_store::ObjectStoreExt::put(&*world.store.inner, &path, object.into());
        futures_util::FutureExt::now_or_never(put).unwrap().unwrap();
        world.journal.seal_plain(1, "t", 1);
        let fault = world.archive(by_records(1)).advance(Seq(1)).unwrap_err();
        assert_eq!(fault.exit, Exit::Directory);
        for part in [reason, path.as_ref(), "another one"] {
            assert!(fault.message.contains(part), "{}", fault.message);
        }
        assert_eq!(world.facts.get("archive/prefix"), None);
    }
}

#[test]
fn r26_a_directory_keeps_to_its_prefix() {
    let world = World::new();
    world.archive(never()).advance(Seq(0)).unwrap();
    assert_eq!(
        world.facts.get("archive/prefix").unwrap(),
        format!("\"{URL}\"")
    );
    let other = World::over(Arc::new(InMemory::new()), "memory://other", None);
    let other = World {
        facts: Arc::clone(&world.facts),
        ..other
    };
    let Err(fault) = other.try_archive(settings(never())) else {
        panic!("the prefix differs")
    };
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains(URL) && fault.message.contains("memory://other"));
}

#[test]
fn r32_an_archive_that_was_added_later_records_its_start() {
    let world = World::new();
    for epoch in 1..=3 {
        world.journal.seal_plain(epoch, "t", 1);
    }
    world.journal.floor.store(2, Ordering::Relaxed);
    let start = || Settings {
        start: Seq(2),
        ..settings(by_records(1))
    };
    let mut archive = world.try_archive(start()).unwrap();
    assert_eq!(archive.advance(Seq(3)).unwrap(), Seq(3));
    assert_eq!(world.facts.get("archive/start").unwrap(), "2");
    assert_eq!(world.header(&name_of(0)).seq_first, Seq(3));
    world.journal.seal_plain(4, "t", 1);
    let later = Settings {
        start: Seq(4),
        ..start()
    };
    let mut archive = world.try_archive(later).unwrap();
    assert_eq!(
        archive.advance(Seq(4)).unwrap(),
        Seq(4),
        "the recorded position counts"
    );
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0, 1])]);
}

#[test]
fn a_local_directory_is_archived_to_and_taken_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/archive", directory.path().display());
    let world = World::over(Arc::new(InMemory::new()), &url, Some(&url));
    for epoch in 1..=6 {
        world.journal.seal_plain(epoch, "t", 1);
    }
    world.archive(by_records(2)).advance(Seq(6)).unwrap();
    let file = directory.path().join("archive").join(name_of(4));
    let staged = format!("{}#1", file.display());
    std::fs::write(&staged, "half").unwrap();
    // The crash came after the PUTs and before the facts.
    world.facts.states.lock().unwrap().truncate(3);
    let mut archive = world.archive(by_records(3));
    archive.advance(Seq(6)).unwrap();
    assert_eq!(archive.flush().unwrap(), Seq(6));
    assert!(!std::path::Path::new(&staged).exists());
    assert_eq!(world.archived(), world.journal.expected(Seq(6)));
    assert_eq!(world.firsts(), [("t".into(), 0, vec![0, 2, 4])]);
}

#[test]
fn a_batch_that_cannot_be_read_is_a_fault() {
    let world = World::new();
    let mut archive = world.archive(never());
    world.journal.seal_plain(1, "t", 1);
    world.journal.batches.lock().unwrap()[0].body.truncate(40);
    let fault = archive.advance(Seq(1)).unwrap_err();
    assert!(fault.message.contains("batch 1"), "{}", fault.message);
    let world = World::new();
    let fault = world.archive(never()).advance(Seq(1)).unwrap_err();
    assert!(
        fault.message.contains("ends at batch 0"),
        "{}",
        fault.message
    );
}

//! The archive under random epochs, rolls, failures and crashes: afterwards every change is in
//! exactly one object.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fateful::Fate;
use super::support::*;
use super::*;
use crate::config::quantity::Bytes;
use crate::config::{Codec, Roll};

fn random_epoch(rng: &mut StdRng, epoch: u64, journal: &Journal) {
    let batches: Vec<(&str, Changes)> = (0..rng.random_range(1..4))
        .map(|_| {
            let changes = (0..rng.random_range(1..6)).map(|_| {
                let value = format!("\"{}\"", "v".repeat(rng.random_range(0..20)));
                let value = rng.random_bool(0.8).then_some(value);
                let partition = rng.random_range(0..3);
                let key = format!("k{}", rng.random_range(0..50));
                (partition, key, value, rng.random_bool(0.1))
            });
            (["a", "b"][epoch as usize % 2], changes.collect())
        })
        .collect();
    journal.seal(epoch, &batches);
}

fn random_roll(rng: &mut StdRng) -> Roll {
    Roll {
        records: rng.random_range(1..15),
        bytes: Bytes(rng.random_range(20..300)),
        age: Duration::from_millis(rng.random_range(1..50)),
    }
}

fn random_archive(rng: &mut StdRng, world: &World) -> Archive {
    let codecs = [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard];
    let codec = codecs[rng.random_range(0..codecs.len())];
    let mut settings = Settings::new(random_roll(rng), codec, LINEAGE);
    settings.held_bytes_max = rng.random_range(300..20_000);
    world.try_archive(settings).unwrap()
}

/// A crash: facts as they were at an earlier sync, of which the journal has kept what is needed.
fn crash(rng: &mut StdRng, world: &World) {
    let mut states = world.facts.states.lock().unwrap();
    let keep = rng.random_range(1..=states.len());
    states.truncate(keep);
    let position = states[keep - 1].get("archive/position");
    let position = position.map_or(0, |text| text.parse().unwrap());
    world.journal.floor.store(position, Ordering::Relaxed);
}

fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new();
    let mut archive = random_archive(&mut rng, &world);
    let mut published = Seq(0);
    for epoch in 1..=rng.random_range(5..40) {
        random_epoch(&mut rng, epoch, &world.journal);
        world
            .time
            .pass(Duration::from_millis(rng.random_range(0..10)));
        // Within an epoch, too: publish may cut a large one (R21).
        published = Seq(rng.random_range(published.0..=world.journal.last().0));
        let fates = [Fate::Pass, Fate::Pass, Fate::FailBefore, Fate::FailAfter];
        world.fates((0..rng.random_range(0..3)).map(|_| fates[rng.random_range(0..4)]));
        let position = match rng.random_range(0..10) {
            0 => archive.advance(published).and_then(|_| archive.flush()),
            _ => archive.advance(published),
        };
        let position = position.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        check(&world, position, published, seed);
        if rng.random_bool(0.25) {
            drop(archive);
            crash(&mut rng, &world);
            archive = random_archive(&mut rng, &world);
        }
    }
    archive.advance(world.journal.last()).unwrap();
    assert_eq!(
        archive.flush().unwrap(),
        world.journal.last(),
        "seed {seed}"
    );
    assert_eq!(
        world.archived(),
        world.journal.expected(world.journal.last()),
        "seed {seed}"
    );
}

/// Objects hold a beginning of what is published, and all of it up to the position.
fn check(world: &World, position: Seq, published: Seq, seed: u64) {
    let archived = world.archived();
    let published = world.journal.expected(published);
    for (lane, records) in &archived {
        assert!(
            published[lane].starts_with(records),
            "seed {seed}, {lane:?}"
        );
    }
    for (lane, records) in world.journal.expected(position) {
        let there = archived.get(&lane).map_or(&[][..], |records| records);
        assert!(
            there.starts_with(&records),
            "seed {seed}, {lane:?} up to {position}"
        );
    }
}

#[test]
fn crash_r24_r25_every_change_is_in_exactly_one_object_whatever_happens() {
    for seed in 0..60 {
        run(seed);
    }
}

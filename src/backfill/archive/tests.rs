//! Archives made here, read whole and piece by piece.

use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::epochs::{Epochs, Found};
use super::*;
use crate::change::{Epoch, Kind, Seq};
use crate::config::{Codec, cell::expand};
use crate::io::avro::container::{Blocks, sync_marker};
use crate::io::avro::digest::Digester;
use crate::io::avro::schema::Record;
use crate::io::json::hash;
use crate::snapshot::Place;

const SEED: u64 = 3;
const CONFIG: &str = "name = \"n\"\n[source.s]\nurl = \"http://h/{r}\"\nkey = [\"/id\"]\n\
    vars = { r = [\"kr\", \"na1\"] }\nrecord_key = \"{r}:{key}\"\n";

fn wanted(topic: &str) -> Wanted {
    let config = crate::config::parse(CONFIG, "test").unwrap();
    Wanted {
        source: "s".into(),
        topic: topic.into(),
        cells: expand("s", &config.source["s"])
            .into_iter()
            .enumerate()
            .collect(),
        keys: vec![Pointer::parse("/id").unwrap()],
        body_max: 1 << 20,
    }
}

fn found(names: &[&str], topic: &str) -> Result<Archive, String> {
    let file = |name: &&str| {
        let listed = Listed {
            name: (*name).to_owned(),
            size: 10,
            modified: 0,
        };
        (listed, Location::File((*name).into()))
    };
    let files = names.iter().map(file).collect();
    Archive::of(files, Default::default(), wanted(topic))
}

#[test]
fn an_archive_is_found_from_whatever_directory_of_it_is_given() {
    for under in [
        "topics/a/partition=1/",
        "a/partition=1/",
        "partition=1/",
        "",
    ] {
        let names = [10, 2, 0].map(|first| format!("{under}a+1+{first:010}.avro"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let archive = found(&[&names[..], &["x.json"]].concat(), "new").unwrap();
        assert_eq!((archive.topic.as_str(), archive.objects()), ("a", 3));
        let first = archive.series[0].objects.iter().map(|object| object.first);
        assert_eq!(first.collect::<Vec<_>>(), [0, 2, 10]);
    }
}

#[test]
fn the_topic_is_that_of_the_source_or_the_only_one() {
    let names = [
        "topics/a/partition=0/a+0+0000000000.avro",
        "topics/b/partition=0/b+0+0000000000.avro",
    ];
    assert_eq!(found(&names, "b").unwrap().topic, "b");
    assert_eq!(found(&names[..1], "new").unwrap().topic, "a");
    let error = found(&names, "new").unwrap_err();
    assert!(error.ends_with("topics/a; it has: a, b"), "{error}");
}

/// A change as it is archived.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    key: String,
    kind: Kind,
    epoch: u64,
    seq: u64,
    polled_at: u64,
    value: Option<String>,
}

const PARTITIONS: u32 = 3;

/// Random epochs of two cells: each partition's changes. Some clocks go back.
fn changes(random: &mut StdRng) -> Vec<Vec<Change>> {
    let mut lanes = vec![Vec::new(); PARTITIONS as usize];
    let mut seq = 0;
    for epoch in 100..130 {
        for cell in ["kr", "na1"] {
            if random.random_bool(0.3) {
                continue;
            }
            let polled_at = 5000 + 10 * epoch - random.random_range(0..60);
            seq += 1;
            for id in 0..12 {
                if random.random_bool(0.7) {
                    continue;
                }
                let gone = random.random_bool(0.3);
                lanes[id % PARTITIONS as usize].push(Change {
                    key: format!("{cell}:k{id}"),
                    kind: if gone { Kind::Removed } else { Kind::Changed },
                    epoch,
                    seq,
                    polled_at,
                    value: (!gone).then(|| format!("{{\"id\":\"k{id}\",\"v\":{seq}}}")),
                });
            }
        }
    }
    lanes
}

/// Writes an object; returns its name.
fn put(dir: &Path, lineage: &str, partition: u32, first: usize, changes: &[Change]) -> String {
    let name = name::write("t", partition, first as u64);
    let mut blocks = Blocks::new(Codec::Snappy, sync_marker(lineage, &name));
    let mut digester = Digester::default();
    for change in changes {
        let record = Record {
            key: &change.key,
            kind: change.kind,
            epoch: Epoch(change.epoch),
            seq: Seq(change.seq),
            polled_at: change.polled_at,
            print: 0,
            value: change.value.as_deref(),
        };
        digester.push(&record);
        blocks.push(&record).unwrap();
    }
    let header = Header {
        lineage: lineage.into(),
        first: first as u64,
        last: (first + changes.len()) as u64 - 1,
        seq_first: Seq(changes[0].seq),
        seq_last: Seq(changes[changes.len() - 1].seq),
        digest: digester.digest(),
    };
    let metadata = header.metadata();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let path = dir.join(&name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, blocks.file(&metadata).unwrap().concat()).unwrap();
    name
}

/// Cuts each partition into objects where batches end.
fn write(random: &mut StdRng, dir: &Path, lanes: &[Vec<Change>]) -> Vec<String> {
    let mut names = Vec::new();
    for (partition, changes) in (0..).zip(lanes) {
        let mut first = 0;
        for end in 1..=changes.len() {
            let ends = changes
                .get(end)
                .is_none_or(|next| next.seq > changes[end - 1].seq);
            if end == changes.len() || (ends && random.random_bool(0.3)) {
                names.push(put(dir, "l", partition, first, &changes[first..end]));
                first = end;
            }
        }
    }
    names
}

fn epochs(dir: &Path, names: &[String], before: &BTreeMap<usize, Place>) -> Epochs {
    let file = |name: &String| {
        let listed = Listed {
            name: name.clone(),
            size: 1,
            modified: 0,
        };
        (listed, Location::File(dir.join(name)))
    };
    let files: Vec<_> = names.iter().map(file).collect();
    let lineage = lineage(&files).unwrap().unwrap();
    let archive = Archive::of(files, lineage, wanted("t")).unwrap();
    archive.epochs(SEED, |index| before.get(&index).cloned())
}

/// Reads up to `most` snapshots, and notes where each cell is.
fn read(mut epochs: Epochs, most: usize, places: &mut BTreeMap<usize, Place>) -> Vec<Found> {
    let mut all = Vec::new();
    while all.len() < most
        && let Some(found) = epochs.read_next().unwrap()
    {
        let before = places.insert(found.index, found.place.clone());
        let time = before.map_or(0, |place| place.polled_at);
        assert!(time <= found.place.polled_at, "times never go back");
        all.push(found);
    }
    all
}

/// What snapshots say, of each key in order: when it was polled, and whether it is there.
fn told(found: &[Found]) -> BTreeMap<u128, Vec<(u64, Option<String>)>> {
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for found in found {
        let cell = ["kr", "na1"][found.index];
        let at = found.polled_at;
        for piece in &found.pieces {
            let list = format!("[{}]", std::str::from_utf8(piece).unwrap());
            let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
            for entry in list {
                let key = format!("{cell}:{}", entry["id"].as_str().unwrap());
                let of = told.entry(hash::key(SEED, key.as_bytes()).0).or_default();
                of.push((at, Some(entry.to_string())));
            }
        }
        for gone in &found.gone {
            told.entry(gone.0).or_default().push((at, None));
        }
    }
    told
}

fn told_by(lanes: &[Vec<Change>]) -> BTreeMap<u128, Vec<(u64, Option<String>)>> {
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for change in lanes.iter().flatten() {
        let of = hash::key(SEED, change.key.as_bytes()).0;
        let told = told.entry(of).or_default();
        told.push((change.polled_at, change.value.clone()));
    }
    told
}

#[test]
fn model_an_archive_read_in_any_number_of_runs_gives_each_change_once_and_in_order() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let lanes = changes(&mut random);
        let names = write(&mut random, dir.path(), &lanes);
        let whole = read(
            epochs(dir.path(), &names, &BTreeMap::new()),
            usize::MAX,
            &mut BTreeMap::new(),
        );
        assert_eq!(told(&whole), told_by(&lanes), "seed {seed}");
        let order: Vec<_> = whole.iter().map(|found| found.shown.clone()).collect();
        let mut places = BTreeMap::new();
        let mut parts = Vec::new();
        loop {
            let most = random.random_range(1..9);
            let some = read(epochs(dir.path(), &names, &places), most, &mut places);
            if some.is_empty() {
                break;
            }
            parts.extend(some);
        }
        let again: Vec<_> = parts.iter().map(|found| found.shown.clone()).collect();
        assert_eq!(again, order, "seed {seed}: each epoch of a cell once");
        assert_eq!(told(&parts), told_by(&lanes), "seed {seed}");
    }
}

#[test]
fn model_objects_that_come_later_than_those_of_other_partitions_are_read_too() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let lanes = changes(&mut random);
        let names = write(&mut random, dir.path(), &lanes);
        let mut there: BTreeMap<u32, usize> = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut parts = Vec::new();
        for round in 0..4 {
            // Of each partition some more objects, in the end all.
            let mut some = Vec::new();
            for partition in 0..PARTITIONS {
                let of = |name: &&String| place(name).unwrap().partition == partition;
                let all: Vec<_> = names.iter().filter(of).cloned().collect();
                let upto = there.entry(partition).or_insert(1);
                *upto = match round {
                    3 => all.len(),
                    _ => random.random_range(*upto..=all.len()),
                };
                some.extend_from_slice(&all[..*upto]);
            }
            parts.extend(read(
                epochs(dir.path(), &some, &places),
                usize::MAX,
                &mut places,
            ));
        }
        assert_eq!(told(&parts), told_by(&lanes), "seed {seed}");
    }
}

#[test]
fn an_epoch_that_goes_on_in_the_next_object_is_one_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let change = |id: u64, epoch, seq| Change {
        key: format!("kr:k{id}"),
        kind: Kind::Added,
        epoch,
        seq,
        polled_at: epoch,
        value: Some(format!("{{\"id\":\"k{id}\"}}")),
    };
    let names = [
        put(dir.path(), "l", 0, 0, &[change(1, 7, 1)]),
        put(dir.path(), "l", 0, 1, &[change(2, 7, 2), change(1, 8, 3)]),
        put(dir.path(), "l", 1, 0, &[change(3, 7, 2)]),
    ];
    let all = epochs(dir.path(), &names, &BTreeMap::new());
    let all = read(all, usize::MAX, &mut BTreeMap::new());
    let counts: Vec<_> = all.iter().map(|found| found.entries).collect();
    assert_eq!(counts, [3, 1]);
}

#[test]
fn what_does_not_follow_or_is_another_pipelines_is_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let lanes = changes(&mut StdRng::seed_from_u64(1));
    let lane = &lanes[0];
    let cut = (1..lane.len()).filter(|at| lane[*at].seq > lane[at - 1].seq);
    let cuts: Vec<usize> = cut.take(2).collect();
    let (a, b) = (cuts[0], cuts[1]);
    let first = put(dir.path(), "l", 0, 0, &lane[..a]);
    let third = put(dir.path(), "l", 0, b, &lane[b..]);
    let told = |names: &[&String]| {
        let names: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
        let mut epochs = epochs(dir.path(), &names, &BTreeMap::new());
        loop {
            match epochs.read_next() {
                Ok(Some(_)) => {}
                Ok(None) => return String::new(),
                Err(told) => return told,
            }
        }
    };
    let missing = name::write("t", 0, a as u64);
    let error = told(&[&first, &third]);
    assert!(
        error.contains(&format!("put the object {missing} back")),
        "{error}"
    );
    let second = put(dir.path(), "other", 0, a, &lane[a..b]);
    let error = told(&[&first, &second, &third]);
    assert!(error.contains("of another pipeline than"), "{error}");
    put(dir.path(), "l", 0, a, &lane[..b - a]);
    let error = told(&[&first, &second, &third]);
    assert!(error.contains("it begins with batch"), "{error}");
    put(dir.path(), "l", 0, a, &lane[a..=b]);
    let error = told(&[&first, &second, &third]);
    assert!(error.contains("are in another object too"), "{error}");
    put(dir.path(), "l", 0, a, &lane[a..b]);
    assert_eq!(told(&[&first, &second, &third]), "");
}

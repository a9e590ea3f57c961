//! What is not between a body and its batches.

use std::hint::black_box;
use std::sync::Arc;

use deltapoll::change::{Batch, Builder, CellId, Change, Epoch, Fingerprint, Head, Kind, Seq};
use deltapoll::config::Codec;
use deltapoll::io::avro::container::{Blocks, sync_marker};
use deltapoll::io::avro::schema::Record;
use deltapoll::io::http::answer::Answer;
use deltapoll::io::http::validators::Validators;
use deltapoll::io::json::hash;
use deltapoll::io::kafka::partition_of;
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::{Pages, Update};
use deltapoll_state::range::Range;
use deltapoll_state::store::MemoryStore;

use crate::graph::body::{answer, runtime};
use crate::graph::{SEED, chunks, player};
use crate::{ENTRIES, measured};

const CELL: CellId = CellId(1);
const BATCH_BYTES: usize = 64 << 10;
const BATCHES: u64 = 64;
const PARTITIONS: u32 = 12;
/// One key in so many is updated.
const STEP: usize = 100;

/// An answer whose bytes are those of the last one, from chunks to the verdict.
pub fn same_bytes() {
    let players: Vec<String> = (0..ENTRIES).map(player).collect();
    let body = chunks(&players);
    let runtime = runtime();
    let read = |known: Option<&Validators>| runtime.block_on(answer(&body, known, 1));
    let Answer::Body { validators, .. } = read(None) else {
        panic!("a body");
    };
    let mut same = read(Some(&validators));
    measured(&mut || same = read(Some(&validators)));
    assert!(matches!(same, Answer::Unchanged { .. }));
}

/// Epochs of one batch, each synced.
pub fn journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(dir.path(), Options::default()).expect("opens");
    let body = vec![b'x'; BATCH_BYTES];
    let mut epoch = 0;
    let mut append = |times| {
        for _ in 0..times {
            epoch += 1;
            let appended = journal.append(Epoch(epoch), black_box(&body), Some(&[]));
            appended.expect("appends");
            journal.sync().expect("syncs");
        }
    };
    append(1);
    measured(&mut || append(BATCHES));
}

/// An update of one key in [`STEP`], which writes most pages anew.
pub fn pages() {
    let mut keys: Vec<_> = keys().map(|key| (hash::key(SEED, &key), key)).collect();
    keys.sort_unstable();
    let update = |number: usize, raw: u64| Update {
        hash: keys[number].0,
        print: Some(Fingerprint {
            raw,
            canon: raw,
            rule: 1,
        }),
        // The key is given once.
        key: if raw == 0 { &keys[number].1 } else { &[] },
    };
    let pages = Pages::new(Arc::new(MemoryStore::default()));
    let load: Vec<Update<'_>> = (0..keys.len()).map(|number| update(number, 0)).collect();
    pages.merge(CELL, Range::ALL, &load).expect("merges");
    let round = |raw| {
        let some = (0..keys.len()).step_by(STEP);
        let updates: Vec<Update<'_>> = some.map(|number| update(number, raw)).collect();
        let written = pages.merge(CELL, Range::ALL, &updates).expect("merges");
        assert!(written.pages > 0);
    };
    round(1);
    measured(&mut || round(2));
}

fn keys() -> impl Iterator<Item = Vec<u8>> {
    (0..ENTRIES).map(|number| format!("{number:0>78}").into_bytes())
}

/// The partition of each key.
pub fn partition() {
    let keys: Vec<_> = keys().collect();
    let mut sum = 0;
    measured(&mut || {
        for key in &keys {
            sum ^= partition_of(black_box(key), PARTITIONS);
        }
    });
    black_box(sum);
}

/// Reads every change of a batch.
pub fn batch() {
    let mut builder = Builder::new(&Head {
        cell: CELL,
        polled_at: 1_700_000_000_000,
        topic: "league".into(),
        source: "league".into(),
        label: String::new(),
    });
    for (number, key) in keys().enumerate() {
        let key = String::from_utf8(key).expect("digits");
        builder.push(&Change {
            kind: Kind::Changed,
            partition: partition_of(key.as_bytes(), PARTITIONS),
            hash: hash::key(SEED, key.as_bytes()),
            print: Fingerprint {
                raw: SEED,
                canon: SEED,
                rule: 1,
            },
            key: &key,
            value: Some(player(number).as_bytes()),
            silent: false,
        });
    }
    let body = builder.take().expect("changes");
    let mut bytes = 0;
    measured(&mut || {
        let batch = Batch::read(black_box(&body)).expect("sound");
        for change in batch.changes() {
            let change = change.expect("sound");
            bytes += change.key.len() + change.value.map_or(0, <[u8]>::len);
        }
    });
    assert!(bytes > ENTRIES * 78);
}

/// Records of an object, not compressed: a codec's work is not ours.
pub fn avro() {
    let keys: Vec<String> = (0..ENTRIES).map(|n| format!("{n:0>78}")).collect();
    let values: Vec<String> = (0..ENTRIES).map(player).collect();
    let mut bytes = 0;
    measured(&mut || {
        let mut blocks = Blocks::new(Codec::Null, sync_marker("bench", "object"));
        for (key, value) in keys.iter().zip(&values) {
            let record = Record {
                key,
                kind: Kind::Changed,
                epoch: Epoch(1_700_000_000_000),
                seq: Seq(123_456),
                polled_at: 1_700_000_000_000,
                print: SEED,
                value: Some(value),
            };
            blocks.push(&record).expect("nothing is compressed");
        }
        let file = blocks.file(&[]).expect("nothing is compressed");
        bytes = file.iter().map(|part| part.len()).sum();
    });
    assert!(bytes > ENTRIES * 78);
}

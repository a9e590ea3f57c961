//! Batches that are sealed, as dedup encodes them, and publishing them.

use std::io;
use std::path::Path;

use deltapoll::change::{Builder, CellId, Change, Epoch, Fingerprint, Head, KeyHash, Kind, Seq};
use deltapoll::clock;
use deltapoll::follower::Follower;
use deltapoll::io::kafka::KafkaPublisher;
use deltapoll::ledger::Ledger;
use deltapoll_state::journal::{Journal, Options};

use crate::{Args, Record, Run, measure};

/// As large as those of a poll with many changes.
const BATCH_BYTES: usize = 1 << 20;

/// A journal, and where its epochs end.
pub struct Sealed {
    pub ledger: Ledger,
    pub marks: Vec<Seq>,
}

/// Seals all records (`full`) or none, an epoch for each transaction.
pub fn seal(dir: &Path, topic: &str, records: &[Record], args: &Args, full: bool) -> Sealed {
    let mut journal = Journal::open(dir, Options::default()).expect("opens");
    let mut builder = Builder::new(&Head {
        cell: CellId(1),
        polled_at: clock::unix_ms(),
        topic: topic.to_owned(),
        source: "challenger".into(),
        label: String::new(),
    });
    let count = if full { args.records } else { 0 };
    let (mut left, mut all) = (count, records.iter().cycle());
    let mut marks = Vec::new();
    while left > 0 {
        let now = left.min(args.transaction);
        let bodies = bodies(&mut builder, all.by_ref().take(now));
        let epoch = Epoch(1 + marks.len() as u64);
        for (number, body) in bodies.iter().enumerate() {
            let end: Option<&[_]> = (number + 1 == bodies.len()).then_some(&[]);
            journal.append(epoch, body, end).expect("appends");
        }
        marks.push(journal.sync().expect("syncs").seq);
        left -= now;
    }
    Sealed {
        ledger: Ledger::start(journal),
        marks,
    }
}

fn bodies<'a>(builder: &mut Builder, records: impl Iterator<Item = &'a Record>) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for record in records {
        builder.push(&Change {
            kind: Kind::Changed,
            partition: record.partition,
            hash: KeyHash(0),
            print: Fingerprint {
                raw: 0,
                canon: 0,
                rule: 1,
            },
            key: &record.key,
            value: Some(record.value.as_bytes()),
            silent: false,
        });
        if builder.bytes() >= BATCH_BYTES {
            bodies.extend(builder.take());
        }
    }
    bodies.extend(builder.take());
    bodies
}

/// From the first batch to the last commit.
pub fn publish(publisher: &mut KafkaPublisher, marks: &[Seq]) -> io::Result<Run> {
    publisher.start().map_err(io::Error::other)?;
    measure(|| {
        for mark in marks {
            let reached = publisher.advance(*mark).map_err(io::Error::other)?;
            assert_eq!(reached, *mark);
        }
        Ok(())
    })
}

//! `verify`: a sound pipeline agrees, stopped and running, in one pass and in many; each planted
//! disagreement is found and named; nothing is written.

/// Without Kafka.
mod local;
/// The archive.
mod objects;
/// Sound pipelines on Kafka.
mod sound;
/// Topic and state.
mod topic;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use deltapoll::change::{Builder, CellId, Change, Epoch, Fingerprint, Head, KeyHash, Kind, Seq};
use deltapoll::config::Codec;
use deltapoll::io::avro::container::{Blocks, sync_marker};
use deltapoll::io::avro::digest::Digester;
use deltapoll::io::avro::header::Header;
use deltapoll::io::avro::read;
use deltapoll::io::avro::schema::Record;
use deltapoll::io::json::hash;
use deltapoll::io::lineage::Lineage;
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::{Pages, Update};
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;
use deltapoll_state::store::SledStore;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::support::case::Case;
use crate::support::kafka::Broker;
use crate::support::process::{Ended, Program};
use crate::support::sim::Sim;
use crate::support::wait::{PATIENCE, wait_until};

const BUSY: [&str; 6] = ["--entries", "60", "--churn", "0.2", "--leave", "0.05"];

fn agrees(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code(), 0, "{}\n{}", ended.out, ended.err);
    contains(ended, parts);
    assert!(ended.out.trim_end().ends_with(" agree"), "{}", ended.out);
}

fn disagrees(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code(), 1, "{}\n{}", ended.out, ended.err);
    contains(ended, parts);
    assert!(
        ended.out.trim_end().ends_with(" do NOT agree"),
        "{}",
        ended.out
    );
}

fn contains(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(
            ended.out.contains(part),
            "{part} in\n{}\n{}",
            ended.out,
            ended.err
        );
    }
}

/// Kinds of disagreement, with their counts.
fn kinds(ended: &Ended) -> BTreeMap<String, u64> {
    let told = ended
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("DISAGREE: "));
    let kind = |line: &str| {
        let (kind, count) = line.rsplit_once(": ").unwrap();
        (kind.to_owned(), count.parse().unwrap())
    };
    told.map(kind).collect()
}

/// Every file below `dir`, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

/// An object with one record changed; with a digest that fits, or the old one.
fn changed(name: &str, bytes: &[u8], honest: bool) -> (Bytes, String) {
    let old = Header::read(bytes).unwrap();
    let name = name
        .split_once("/topics/")
        .map_or(name.to_owned(), |(_, rest)| format!("topics/{rest}"));
    let mut blocks = Blocks::new(Codec::Zstandard, sync_marker(&old.lineage, &name));
    let mut digester = Digester::default();
    let mut key = String::new();
    read::each(bytes, &mut |record: &Record<'_>| {
        let mut record = *record;
        if key.is_empty() && record.value.is_some() {
            record.value = Some("{\"planted\":1}");
            key = record.key.to_owned();
        }
        digester.push(&record);
        blocks.push(&record).unwrap();
    })
    .unwrap();
    let mut header = old.clone();
    if honest {
        header.digest = digester.digest();
    }
    let metadata = header.metadata();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
    (blocks.file(&metadata).unwrap().concat().into(), key)
}

/// The pages of a stopped pipeline, to be tampered with.
struct Tampered {
    pages: Pages,
    seed: u64,
}

impl Tampered {
    fn open(data: &Path) -> Tampered {
        let journal = Journal::look(&data.join("journal")).unwrap();
        let lineage = Lineage::read(&journal.facts["lineage"]).unwrap();
        let store = SledStore::open(&data.join("state"), 1 << 20).unwrap();
        Tampered {
            pages: Pages::new(Arc::new(store)),
            seed: lineage.hash_seed,
        }
    }

    /// The cell that has `key`, and its fingerprint.
    fn find(&self, key: &str) -> (CellId, KeyHash, Fingerprint) {
        let hash = hash::key(self.seed, key.as_bytes());
        let state = RangeState::new(self.pages.clone(), Range::ALL);
        for cell in self.pages.cells().unwrap() {
            let mut walk = state.walk(cell).unwrap().map(Result::unwrap);
            if let Some((_, print)) = walk.find(|(known, _)| *known == hash) {
                return (cell, hash, print);
            }
        }
        panic!("no cell has {key}");
    }

    fn set(self, cell: CellId, hash: KeyHash, print: Option<Fingerprint>, key: &[u8]) {
        let update = Update { hash, print, key };
        self.pages.merge(cell, Range::ALL, &[update]).unwrap();
        self.pages.store().flush().unwrap();
    }
}

/// A key whose last record is a value.
fn live_key(records: &[Value]) -> String {
    let mut last = BTreeMap::new();
    for record in records {
        last.insert(record["key"].as_str().unwrap(), record["value"].is_null());
    }
    let live = last.into_iter().find(|(_, gone)| !gone).unwrap();
    live.0.to_owned()
}

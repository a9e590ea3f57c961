//! A journal in memory: what publishers see of the real one, and copies of it.

#![allow(dead_code, reason = "no test binary needs all of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use deltapoll::change::{Builder, CellId, Change, Epoch, Fingerprint, Head, KeyHash, Kind, Seq};
use deltapoll::fault::Fault;
use deltapoll::follower::{Facts, Log, Logs, SealedBatch};

/// When every snapshot of these tests arrived.
pub const POLLED_AT: u64 = 1_700_000_000_123;

/// A journal; clones share it, [`Memory::copy`] does not.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Clone, Default)]
struct Inner {
    batches: Vec<SealedBatch>,
    facts: BTreeMap<String, String>,
    /// Facts that survive a crash.
    durable: BTreeMap<String, String>,
}

/// A change of a test: key and value, `None` = removed.
pub type Entry<'a> = (&'a str, Option<&'a str>);

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("no test panics while it holds the lock")
    }

    /// Seals one epoch of one batch.
    pub fn seal(&self, topic: &str, changes: &[Entry<'_>]) -> Seq {
        self.seal_epoch(topic, &[changes], false)
    }

    /// Seals one epoch of several batches; returns its last seq.
    pub fn seal_epoch(&self, topic: &str, batches: &[&[Entry<'_>]], silent: bool) -> Seq {
        let mut inner = self.inner();
        let epoch = Epoch(
            inner
                .batches
                .last()
                .map_or(1_000, |batch| batch.epoch.0 + 1),
        );
        for (at, changes) in batches.iter().enumerate() {
            let seq = Seq(inner.batches.len() as u64 + 1);
            inner.batches.push(SealedBatch {
                seq,
                epoch,
                last: at + 1 == batches.len(),
                body: body(topic, changes, silent),
            });
        }
        Seq(inner.batches.len() as u64)
    }

    /// The last sealed seq.
    pub fn last(&self) -> Seq {
        Seq(self.inner().batches.len() as u64)
    }

    /// A copy as `cp -r` makes one.
    pub fn copy(&self) -> Memory {
        Memory(Arc::new(Mutex::new(self.inner().clone())))
    }

    /// What is left after a power cut: facts that were not synced are gone.
    pub fn crash(&self) -> Memory {
        let mut inner = self.inner().clone();
        inner.facts = inner.durable.clone();
        Memory(Arc::new(Mutex::new(inner)))
    }
}

fn body(topic: &str, changes: &[Entry<'_>], silent: bool) -> Vec<u8> {
    let head = Head {
        cell: CellId(1),
        polled_at: POLLED_AT,
        topic: topic.into(),
        source: "league".into(),
        label: "kr,SOLO".into(),
    };
    let mut builder = Builder::new(&head);
    for (key, value) in changes {
        let kind = match value {
            Some(_) => Kind::Changed,
            None => Kind::Removed,
        };
        builder.push(&Change {
            kind,
            partition: 0,
            hash: KeyHash(0),
            print: Fingerprint::default(),
            key,
            value: value.map(str::as_bytes),
            silent,
        });
    }
    builder.take().expect("an epoch has changes")
}

impl Facts for Memory {
    fn get(&self, name: &str) -> Option<String> {
        self.inner().facts.get(name).cloned()
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        let inner = self.inner();
        let all = inner
            .facts
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        all.map(|(name, text)| (name.clone(), text.clone()))
            .collect()
    }

    fn set(&self, facts: Vec<(String, Option<String>)>, sync: bool) -> Result<(), Fault> {
        let mut inner = self.inner();
        for (name, text) in facts {
            match text {
                Some(text) => inner.facts.insert(name, text),
                None => inner.facts.remove(&name),
            };
        }
        if sync {
            inner.durable = inner.facts.clone();
        }
        Ok(())
    }
}

impl Logs for Memory {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        Ok(Box::new(Cursor {
            journal: self.clone(),
            at: position.0,
        }))
    }
}

struct Cursor {
    journal: Memory,
    at: u64,
}

impl Log for Cursor {
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault> {
        let inner = self.journal.inner();
        let at = usize::try_from(self.at).expect("few batches");
        let batch = inner.batches.get(at).cloned();
        self.at += u64::from(batch.is_some());
        Ok(batch)
    }
}

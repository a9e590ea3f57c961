//! `publish` to the local topic log: brings sealed epochs into their files, exactly once.
//!
//! One commit per call, and per 64 MiB when far behind, always at an epoch's end. Silent changes are
//! not written; their seqs are committed all the same.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deltapoll_state::fail;

use crate::change::{Batch, Seq};
use crate::clock;
use crate::fault::Fault;
use crate::follower::{Follower, Logs, SealedBatch};
use crate::io::feed::{self, Feed};
use crate::io::line::{self, Line};
use crate::io::lineage::Lineage;
use crate::io::local::commit::{Commit, Extent, failed, sync_dir};
use crate::io::local::segment::{self, Segment};

/// More than this is not committed at once, unless one epoch holds more.
const COMMIT_BYTES: u64 = 64 << 20;
/// A time of retention is kept in so many segments.
const SEGMENTS: u32 = 8;
/// How often segments are looked at.
const LOOK_EVERY_MS: u64 = 60_000;

/// What a publisher is made of.
pub struct Setup {
    /// The data directory.
    pub data_dir: PathBuf,
    /// How long changes are kept.
    pub retain: Duration,
    /// The journal.
    pub logs: Arc<dyn Logs>,
    /// The directory's identity.
    pub lineage: Lineage,
    /// The position that the journal knows: the log may be ahead of it, never behind.
    pub position: Seq,
    /// The last sealed seq: the log is never ahead of it.
    pub sealed: Seq,
}

/// The local publisher.
pub struct LocalPublisher {
    dir: PathBuf,
    retain: Duration,
    feed: Feed,
    commit: Commit,
    segments: BTreeMap<(String, u32), Segment>,
    looked_ms: u64,
}

impl LocalPublisher {
    /// Opens the log, cutting off what was never committed.
    ///
    /// # Errors
    /// When the log belongs to another directory, is damaged, or its position disagrees with the
    /// journal's.
    pub fn open(setup: Setup) -> Result<LocalPublisher, Fault> {
        let dir = setup.data_dir.join("topics");
        fs::create_dir_all(&dir).map_err(|error| failed("create", &dir, &error))?;
        let commit = adopt(Commit::read(&dir)?, &setup)?;
        let mut segments = BTreeMap::new();
        for (topic, partitions) in &commit.topics {
            for (partition, extent) in partitions {
                let segment = Segment::open(&dir.join(topic), *partition, *extent)?;
                segments.insert((topic.clone(), *partition), segment);
            }
        }
        Ok(LocalPublisher {
            feed: Feed::after(&setup.logs, Seq(commit.seq))?,
            dir,
            retain: setup.retain,
            commit,
            segments,
            looked_ms: 0,
        })
    }

    /// The last committed seq.
    #[must_use]
    pub fn position(&self) -> Seq {
        Seq(self.commit.seq)
    }

    /// Writes the changes of `sealed`; returns how many bytes they are.
    fn write_batch(&mut self, sealed: &SealedBatch) -> Result<u64, Fault> {
        let damaged = |error| feed::damaged(sealed, &error);
        let batch = Batch::read(&sealed.body).map_err(damaged)?;
        let head = &batch.head;
        let mut bytes = 0;
        for change in batch.changes() {
            let change = change.map_err(damaged)?;
            if change.silent {
                continue;
            }
            let segment = self.segment(&head.topic, change.partition)?;
            let line = Line {
                offset: segment.extent.next,
                key: change.key,
                value: change.value,
                change: Some(change.kind.as_str()),
                epoch: Some(sealed.epoch.0),
                seq: Some(sealed.seq.0),
                polled_at: Some(head.polled_at),
            };
            line::append(segment.buffer(), None, &line);
            segment.wrote_line()?;
            bytes += (change.key.len() + change.value.map_or(0, <[u8]>::len)) as u64;
        }
        Ok(bytes)
    }

    fn segment(&mut self, topic: &str, partition: u32) -> Result<&mut Segment, Fault> {
        match self.segments.entry((topic.to_owned(), partition)) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(free) => {
                check_name(topic)?;
                let dir = self.dir.join(topic);
                if !segment::closed(&dir, partition)?.is_empty() {
                    return Err(Fault::directory(format!(
                        "{} holds changes that the commit record does not know; move them away",
                        dir.display()
                    )));
                }
                // Nothing of it is committed: what is there was never seen.
                let segment = Segment::open(&dir, partition, Extent::default())?;
                sync_dir(&self.dir)?;
                Ok(free.insert(segment))
            }
        }
    }

    /// IMPORTANT: lines first, then the record that counts them; a record that is durable before its
    /// lines would count what a power cut takes.
    fn commit(&mut self, seq: Seq) -> Result<(), Fault> {
        let mut commit = Commit {
            seq: seq.0,
            ..self.commit.clone()
        };
        for ((topic, partition), segment) in &mut self.segments {
            segment.sync()?;
            let partitions = commit.topics.entry(topic.clone()).or_default();
            partitions.insert(*partition, segment.extent);
        }
        fail::step("local.lines.synced");
        commit.write(&self.dir)?;
        self.commit = commit;
        Ok(())
    }

    /// Rolls and expires, now and then.
    fn keep_house(&mut self) -> Result<(), Fault> {
        let now_ms = clock::unix_ms();
        let large = self
            .segments
            .values()
            .any(|s| s.extent.bytes >= segment::ROLL_BYTES);
        if !large && now_ms.saturating_sub(self.looked_ms) < LOOK_EVERY_MS {
            return Ok(());
        }
        self.looked_ms = now_ms;
        let mut rolled = false;
        for segment in self.segments.values_mut() {
            if segment.is_due(self.retain / SEGMENTS, now_ms) {
                segment.roll()?;
                rolled = true;
            }
        }
        if rolled {
            self.commit(Seq(self.commit.seq))?;
        }
        // IMPORTANT: after the commit; what the record still counts as live must not be deleted.
        for segment in self.segments.values() {
            segment.expire(self.retain, now_ms)?;
        }
        Ok(())
    }
}

impl Follower for LocalPublisher {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        let mut bytes = 0;
        while self.feed.position() < upto {
            let batch = self.feed.next()?;
            bytes += self.write_batch(&batch)?;
            if batch.seq >= upto || (batch.last && bytes >= COMMIT_BYTES) {
                self.commit(batch.seq)?;
                bytes = 0;
            }
        }
        self.keep_house()?;
        Ok(self.position())
    }
}

/// The commit record to go on from, if it is this directory's.
fn adopt(found: Option<Commit>, setup: &Setup) -> Result<Commit, Fault> {
    let begin_anew = "begin anew with `deltapoll state reset`";
    let Some(mut commit) = found else {
        if setup.position == Seq(0) {
            return Ok(Commit::none(&setup.lineage.id));
        }
        return Err(Fault::directory(format!(
            "the journal knows of changes published up to seq {}, but there is no local topic log in \
             {}; restore it, configure [kafka] as before, or {begin_anew}",
            setup.position,
            setup.data_dir.display()
        )));
    };
    if setup.lineage.replaces(&commit.lineage) && setup.position == Seq(0) {
        // After `state reset`: the files go on, the numbering of batches begins anew.
        commit.lineage = setup.lineage.id.clone();
        commit.seq = 0;
        return Ok(commit);
    }
    if commit.lineage != setup.lineage.id {
        return Err(Fault::directory(format!(
            "the local topic log in {} belongs to lineage {}, the journal to {}; restore the log that \
             belongs to it, or {begin_anew}",
            setup.data_dir.display(),
            commit.lineage,
            setup.lineage.id
        )));
    }
    if commit.seq < setup.position.0 || commit.seq > setup.sealed.0 {
        return Err(Fault::directory(format!(
            "the local topic log in {} ends at seq {}, but the journal knows of seq {} as published and \
             of {} as sealed: one of them is older; restore both together, or {begin_anew}",
            setup.data_dir.display(),
            commit.seq,
            setup.position,
            setup.sealed
        )));
    }
    Ok(commit)
}

/// A topic's name is a directory's: it must not lead anywhere else.
pub(crate) fn check_name(topic: &str) -> Result<(), Fault> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let sound = !topic.is_empty() && topic.len() <= 249 && topic.bytes().all(legal);
    if sound && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "'{topic}' is no topic name: use up to 249 ASCII letters, digits, '.', '_' and '-'"
    )))
}

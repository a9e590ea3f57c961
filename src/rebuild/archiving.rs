//! The archive of a directory that is made again: where its objects end, and what they still lack.

use std::collections::BTreeMap;

use deltapoll_state::journal::Sealed;
use tokio::runtime::Runtime;

use crate::change::{CellId, Change, Fingerprint, Head, Seq};
use crate::clock;
use crate::config::{Archive, Config};
use crate::fault::Fault;
use crate::io::archive::ends::{self, Ends};
use crate::io::json::hash;
use crate::io::kafka::look;
use crate::io::kafka::progress::Progress;
use crate::io::kafka::records::Records;
use crate::io::object::Objects;
use crate::io::published::Published;

use super::draft::Draft;
use super::gaps::Gaps;
use super::site::Site;
use super::spool::Spool;

/// What becomes of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archived {
    /// It goes on after its last objects, with so many changes that were read back.
    GoesOn(u64),
    /// The prefix holds nothing, and the topics lack what came before, for this reason: it begins with
    /// what is published from now on.
    Begins(String),
}

/// An archive on its way.
pub struct Archiving {
    url: String,
    ends: Ends,
    gaps: Gaps,
    spool: Spool,
    seed: u64,
    changes: u64,
}

impl Archiving {
    /// Looks where the objects end; `None`: there is no archive.
    ///
    /// # Errors
    /// When the objects are somebody else's (exit 4), or the store does not answer.
    pub fn open(
        config: &Config,
        progress: &Progress,
        records: &Records,
        site: &Site,
    ) -> Result<Option<Archiving>, Fault> {
        let Some(archive) = &config.archive else {
            return Ok(None);
        };
        let (url, ends) = look_at(archive, progress)?;
        let names: Vec<&str> = records.marks().keys().map(String::as_str).collect();
        let keeping = look::keeping(config, &names)?;
        let names = names.into_iter().map(str::to_owned);
        let keeping: BTreeMap<_, _> = names.zip(keeping).collect();
        Ok(Some(Archiving {
            url,
            gaps: Gaps::new(records.marks(), &ends, &keeping, clock::unix_ms()),
            ends,
            spool: Spool::new(site.at("spool"))?,
            seed: progress.hash_seed,
            changes: 0,
        }))
    }

    /// Puts `record` aside unless it is in an object. `canon` makes its canonical fingerprint.
    ///
    /// # Errors
    /// When it cannot be put aside.
    pub fn take(
        &mut self,
        record: &Published<'_>,
        canon: impl FnOnce() -> u64,
    ) -> Result<(), Fault> {
        if !self.gaps.waits(record) {
            return Ok(());
        }
        let (Some(told), Ok(key)) = (record.told, std::str::from_utf8(record.key)) else {
            return Ok(());
        };
        self.changes += 1;
        let (source, label) = told.cell.unwrap_or_default();
        let head = Head {
            // Nobody asks: everything is remembered.
            cell: CellId(0),
            polled_at: told.polled_at,
            topic: record.topic.to_owned(),
            source: source.to_owned(),
            label: label.to_owned(),
        };
        let gone = told.kind == crate::change::Kind::Removed;
        let print = Fingerprint {
            raw: 0,
            canon: if gone { 0 } else { canon() },
            rule: 0,
        };
        let change = Change {
            kind: told.kind,
            partition: record.partition,
            hash: hash::key(self.seed, record.key),
            print,
            key,
            value: record.value,
            silent: false,
        };
        self.spool.push((told.seq, told.epoch), &head, &change)
    }

    /// Adds the archive's facts to `draft`; returns what the journal must hold again.
    ///
    /// # Errors
    /// When a change that is in no object is not in the topics any more (exit 4).
    pub fn settle(
        mut self,
        records: &Records,
        draft: &Draft,
        sealed: Sealed,
    ) -> Result<(Archived, Option<Spool>), Fault> {
        let gap = self
            .gaps
            .find(&|topic, partition, from, to| records.longest_hole(topic, partition, from, to))?;
        match gap {
            Some(gap) if self.ends.is_empty() => {
                let facts = ends::facts(&self.url, sealed.seq, sealed.seq, &self.ends);
                draft.extend(facts);
                Ok((Archived::Begins(gap), None))
            }
            Some(gap) => Err(Fault::directory(format!(
                "the archive {} cannot go on without a gap: {gap}, so changes may be missing that are in \
                 no object; set archive.url to another prefix, where it begins with what is published \
                 from now on, or take [archive] out",
                self.url
            ))),
            None => {
                let first = self.spool.first().map(|(seq, _)| Seq(seq.0 - 1));
                let position = first.unwrap_or(sealed.seq);
                draft.extend(ends::facts(&self.url, Seq(0), position, &self.ends));
                Ok((Archived::GoesOn(self.changes), Some(self.spool)))
            }
        }
    }
}

fn look_at(archive: &Archive, progress: &Progress) -> Result<(String, Ends), Fault> {
    let runtime = runtime()?;
    let objects = Objects::open(&archive.url, &archive.options, runtime.handle().clone())?;
    let ends = ends::ends(&objects, &progress.lineage, Seq(progress.seq))?;
    Ok((objects.url().to_owned(), ends))
}

fn runtime() -> Result<Runtime, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("io")
        .enable_all()
        .build();
    runtime.map_err(|error| Fault::failed(format!("cannot start the I/O thread: {error}")))
}

//! What the local directory knows, read without writing anything there, and up to where its changes are
//! committed (`position`): by the progress record, or by the commit record of the local topic log.
//!
//! The position is read before anything else. On a stopped pipeline we hold the directory's lock,
//! together with others who only look, so that nobody starts meanwhile.

use std::path::Path;
use std::time::Duration;

use deltapoll_state::error::Error;
use deltapoll_state::journal::{self, Journal, Look, Readers, Sealed};
use deltapoll_state::lock::Lock;

use crate::change::{Batch, Change, Head, Seq};
use crate::clock;
use crate::config::Config;
use crate::dataflow::message::Who;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::kafka::progress::Progress;
use crate::io::kafka::{incarnation, look, progress};
use crate::io::lineage::{self, Lineage};
use crate::io::local::spans::Records;

/// How often a journal that is being written is looked at until it stands still for a moment.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// See the module.
pub struct Standing {
    /// `None`: a pipeline is running here.
    lock: Option<Lock>,
    pub facts: Held,
    readers: Readers,
    pub sealed: Seq,
    /// The journal's end.
    pub end: Sealed,
    /// The first batch that the journal still has.
    pub oldest: Seq,
    pub lineage: Lineage,
    /// The last committed batch.
    pub published: Seq,
}

/// Facts that are only read.
pub struct Held(journal::Facts);

impl Facts for Held {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        let from = self.0.range(prefix.to_owned()..);
        let under = from.take_while(|(name, _)| name.starts_with(prefix));
        under
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn set(&self, _: Vec<(String, Option<String>)>, _: bool) -> Result<(), Fault> {
        Err(Fault::failed("verify writes nothing"))
    }
}

impl Held {
    /// A position among the facts.
    pub fn seq(&self, name: &str) -> Result<Option<Seq>, Fault> {
        let read = |text: String| match text.parse() {
            Ok(seq) => Ok(Seq(seq)),
            Err(_) => Err(Fault::directory(format!(
                "the journal's fact {name} is damaged: {text}"
            ))),
        };
        self.get(name).map(read).transpose()
    }
}

impl Standing {
    /// Looks at the directory of `config`.
    ///
    /// # Errors
    /// When there is nothing to look at, it is damaged, or it is not the one that published last.
    pub fn find(config: &Config) -> Result<Standing, Fault> {
        let dir = &config.data_dir;
        if !dir.is_dir() {
            return Err(nothing(dir));
        }
        let lock = match Lock::look(dir) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Err(nothing(dir)),
            Err(Error::Locked { .. }) => None,
            Err(error) => return Err(Fault::directory(error.to_string())),
        };
        // IMPORTANT: before facts, topics and objects: what is committed by now is in all of them.
        let position = Position::read(config)?;
        let journal = journal(dir, lock.is_some())?;
        let facts = Held(journal.facts);
        let lineage = facts.get(lineage::FACT).ok_or_else(|| nothing(dir))?;
        let mut standing = Standing {
            lock,
            facts,
            sealed: journal.sealed.seq,
            end: journal.sealed,
            oldest: journal.oldest,
            readers: journal.readers,
            lineage: Lineage::read(&lineage)?,
            published: Seq(0),
        };
        standing.published = standing.judge(config, position)?;
        Ok(standing)
    }

    /// Whether nobody writes.
    pub fn is_stopped(&self) -> bool {
        self.lock.is_some()
    }

    fn judge(&self, config: &Config, position: Option<Position>) -> Result<Seq, Fault> {
        let known = self.facts.seq(Who::Publish.fact())?.unwrap_or(Seq(0));
        let place = match config.kafka {
            Some(_) => format!("the progress topic '{}'", config.progress_topic()),
            None => format!("the local topic log in {}", config.data_dir.display()),
        };
        let Some(position) = position else {
            if known == Seq(0) {
                return Ok(Seq(0));
            }
            return Err(Fault::directory(format!(
                "{place} says of nothing that it is committed, but this directory published up to \
                 batch {known}; restore it, or begin anew with `deltapoll state reset`"
            )));
        };
        if self.lineage.replaces(&position.lineage) && known == Seq(0) {
            return Ok(Seq(0));
        }
        let ours = match &position.progress {
            Some(record) if self.is_stopped() => incarnation::is_ours(&self.facts, record)?,
            _ => true,
        };
        if position.lineage != self.lineage.id || !ours {
            return Err(Fault::directory(format!(
                "this directory (lineage {}) is not the one that published last as '{}': {place} is \
                 that of lineage {}, at batch {}; verify the newest directory",
                self.lineage.id, config.name, position.lineage, position.seq
            )));
        }
        let possible = known..=self.sealed;
        if self.is_stopped() && !possible.contains(&position.seq) {
            return Err(Fault::directory(format!(
                "{place} is at batch {}, but the journal knows of {known} as published and of {} as \
                 sealed: one of them is older than the other; restore both together, or begin anew \
                 with `deltapoll state reset`",
                position.seq, self.sealed
            )));
        }
        Ok(position.seq)
    }

    /// Shows every change of the journal's batches after `after` up to `upto`, silent ones included.
    pub fn changes(
        &self,
        after: Seq,
        upto: Seq,
        visit: &mut dyn FnMut(&Head, &journal::Frame, &Change<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let damaged = |error: Error| Fault::directory(error.to_string());
        let mut reader = self.readers.after(after).map_err(damaged)?;
        while let Some(frame) = reader.next().map_err(damaged)? {
            if frame.seq > upto {
                break;
            }
            let wrong =
                |error| Fault::directory(format!("the journal's batch {}: {error}", frame.seq));
            let batch = Batch::read(&frame.body).map_err(wrong)?;
            for change in batch.changes() {
                visit(&batch.head, &frame, &change.map_err(wrong)?)?;
            }
        }
        Ok(())
    }

    /// The part of the last published epoch that is published, where that is not all of it: its first
    /// batch that the journal has, the last published one, and their bytes.
    pub fn part(&self) -> Result<Option<(Seq, Seq, u64)>, Fault> {
        if self.published < self.oldest || self.published == self.sealed {
            return Ok(None);
        }
        let (mut first, mut last, mut bytes, mut epoch) = (Seq(0), false, 0, None);
        let before = Seq(self.oldest.0 - 1);
        self.changes(before, self.published, &mut |_, frame, change| {
            if epoch.replace(frame.epoch) != Some(frame.epoch) {
                (first, bytes) = (frame.seq, 0);
            }
            last = frame.last;
            bytes += (change.key.len() + change.value.map_or(0, <[u8]>::len)) as u64;
            Ok(())
        })?;
        Ok((!last).then_some((first, self.published, bytes)))
    }
}

/// What is committed, by the side that says so.
pub struct Position {
    lineage: String,
    pub seq: Seq,
    progress: Option<Progress>,
}

impl Position {
    /// Reads it; `None`: nothing ever was committed.
    pub fn read(config: &Config) -> Result<Option<Position>, Fault> {
        if config.kafka.is_none() {
            let log = Records::open(&config.data_dir)?;
            return Ok(log.map(|log| Position {
                lineage: log.commit().lineage.clone(),
                seq: Seq(log.commit().seq),
                progress: None,
            }));
        }
        let topic = config.progress_topic();
        if look::look(config, &[&topic], None)?[0].is_none() {
            return Ok(None);
        }
        let record = progress::read_committed(config)?;
        Ok(record.map(|record| Position {
            lineage: record.lineage.clone(),
            seq: Seq(record.seq),
            progress: Some(record),
        }))
    }
}

fn journal(dir: &Path, stopped: bool) -> Result<Look, Fault> {
    let path = dir.join("journal");
    if !path.is_dir() && dir.join("journal.old").is_dir() {
        return Err(Fault::directory(format!(
            "a `state reset` of {} was interrupted: start deltapoll once to finish it",
            dir.display()
        )));
    }
    let mut tries = if stopped { 1 } else { TRIES };
    loop {
        tries -= 1;
        match Journal::look(&path) {
            Ok(journal) => return Ok(journal),
            Err(Error::Missing { path: missing }) if missing == path => return Err(nothing(dir)),
            Err(error) if tries == 0 => return Err(Fault::directory(error.to_string())),
            // A segment came or went while we looked.
            Err(_) => clock::pause(PAUSE),
        }
    }
}

fn nothing(dir: &Path) -> Fault {
    Fault::directory(format!(
        "there is nothing to verify in {}: no pipeline ever ran there",
        dir.display()
    ))
}

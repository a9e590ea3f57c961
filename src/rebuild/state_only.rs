//! `rebuild --state-only` (R28, R35): the state made again, where the journal is sound and only the store
//! is damaged or missing.
//!
//! Of each key the last value counts that was published, then those that the journal holds after what is
//! published: that is everything sealed. The table of incarnations, positions and all other facts stay;
//! only validators go, because they say what need not be looked at again.
//!
//! Safety: the directory is locked, so that nobody seals meanwhile; who publishes from a copy of it moves
//! the progress record, which is looked at before and after. A crash leaves the old store or the new one
//! ([`site::settle`]).

use std::collections::BTreeMap;

use deltapoll_state::fail;

use crate::change::{Batch, Kind, Seq};
use crate::config::Config;
use crate::dataflow::message::Who;
use crate::directory::{self, Directory};
use crate::fault::Fault;
use crate::follower::{Facts, Logs};
use crate::identity;
use crate::io::feed;
use crate::io::kafka::progress::{self, Progress};
use crate::io::kafka::records::Records;
use crate::io::kafka::{incarnation, look, topics};
use crate::io::lineage::{self, Lineage};
use crate::io::local;
use crate::io::published::Published;

use super::bar::Bar;
use super::cells::Cells;
use super::draft::Draft;
use super::entries::Entries;
use super::{Done, entries_in, facts, site};

/// The facts that say what need not be looked at again.
const VALIDATORS: &str = "validators/";

/// Makes the state of `config`'s directory again.
///
/// # Errors
/// When there is no journal, somebody else published since, the configuration is another one (exit 4), or
/// what was published cannot be read.
pub fn rebuild(config: &Config) -> Result<Done, Fault> {
    let path = &config.data_dir;
    let there = |name: &str| path.join(name).is_dir();
    let nothing = || {
        Fault::directory(format!(
            "there is no journal in {}: `--state-only` makes the state again beside a sound journal; where \
             the whole directory is lost, say `deltapoll rebuild`",
            path.display()
        ))
    };
    if !there("journal") && !there("journal.old") {
        return Err(nothing());
    }
    let directory = Directory::open(path)?;
    let ledger = &directory.ledger;
    let lineage = ledger.get(lineage::FACT).ok_or_else(nothing)?;
    let lineage = Lineage::read(&lineage)?;
    let published = directory.positions(&[Who::Publish])?[&Who::Publish];
    let opened = directory::opened(ledger)?;
    let pages = directory::found_pages(&site::begin_state(path)?, &lineage.id, opened)?;
    let mut making = Making {
        config,
        directory: &directory,
        lineage: &lineage,
        published,
        entries: Entries::new(&pages),
    };
    match config.kafka {
        Some(_) => making.read_kafka()?,
        None => making.read_log()?,
    }
    directory::flush_pages(&pages, directory.start.seq)?;
    fail::step("rebuild.pages");
    let entries = entries_in(&pages)?;
    drop(pages);
    let validators = ledger.under(VALIDATORS).into_iter();
    // IMPORTANT: before the state is there, or a 304 hides what a key that is not quite as it was.
    ledger.set(validators.map(|(name, _)| (name, None)).collect(), true)?;
    site::finish_state(path)?;
    Ok(Done {
        lineage: lineage.id,
        sealed: directory.start,
        entries,
        archived: None,
    })
}

struct Making<'a> {
    config: &'a Config,
    directory: &'a Directory,
    lineage: &'a Lineage,
    /// Up to here the journal knows as published; it may be more.
    published: Seq,
    entries: Entries<'a>,
}

impl Making<'_> {
    fn read_kafka(&mut self) -> Result<(), Fault> {
        let progress = self.progress()?;
        let topics = self.topics()?;
        let mut cells = self.cells(&topics)?;
        if progress.is_some() {
            let names: Vec<String> = topics.into_keys().collect();
            // In a copy of the facts: nothing is recorded here.
            let facts = Draft::new(self.directory.ledger.under("").into_iter().collect());
            look::compare(self.config, &names, &facts)?;
            let records = Records::open(self.config, &names)?;
            let bar = Bar::new("reading topics", records.total());
            records.each(&|offsets| bar.advance(offsets), &mut |record| {
                self.take(&mut cells, record)
            })?;
        }
        if self.progress()? != progress && !fail::broken("r35") {
            return Err(Fault::fenced(format!(
                "another instance of '{}' is publishing: stop it, then rebuild",
                self.config.name
            )));
        }
        cells.judge()?;
        self.overlay(&cells)
    }

    fn read_log(&mut self) -> Result<(), Fault> {
        let data_dir = &self.config.data_dir;
        let Some(records) = local::records::Records::open(data_dir)? else {
            if self.published == Seq(0) {
                return self.overlay(&self.cells(&BTreeMap::new())?);
            }
            return Err(Fault::directory(format!(
                "the local topic log {}/topics is gone, and with it what was published: bring the \
                 directory back from a copy, or begin anew with `deltapoll state reset`",
                data_dir.display()
            )));
        };
        let ours =
            records.lineage() == self.lineage.id && records.seq() <= self.directory.start.seq;
        let replaced = self.lineage.replaces(records.lineage()) && self.published == Seq(0);
        if !ours && !replaced {
            return Err(Fault::directory(format!(
                "the local topic log in {}/topics is at batch {} of lineage {}, the journal ends with batch \
                 {} of lineage {}: restore the log that belongs to it, or begin anew with `deltapoll state \
                 reset`",
                data_dir.display(),
                records.seq(),
                records.lineage(),
                self.directory.start.seq,
                self.lineage.id
            )));
        }
        let names = identity::known(&self.directory.ledger)?.into_iter();
        let mut cells = self.cells(&names.map(|known| (known.topic, 1)).collect())?;
        if ours {
            let bar = Bar::new("reading topics", records.total());
            records.each(&|lines| bar.advance(lines), &mut |record| {
                self.take(&mut cells, record)
            })?;
        }
        cells.judge()?;
        self.overlay(&cells)
    }

    /// The progress record, if it is of this directory; `None`: this directory never published.
    fn progress(&self) -> Result<Option<Progress>, Fault> {
        let config = self.config;
        let (facts, topic) = (&self.directory.ledger, config.progress_topic());
        let seen = look::look(config, &[&topic], Some(facts))?;
        let found = match seen.iter().all(Option::is_none) {
            true => None,
            false => progress::read_decided(config)?,
        };
        let none = self.published == Seq(0);
        match found {
            None if none => Ok(None),
            Some(record) if none && self.lineage.replaces(&record.lineage) => Ok(None),
            Some(record)
                if record.lineage == self.lineage.id
                    && incarnation::is_ours(facts, &record)?
                    && (self.published.0..=self.directory.start.seq.0).contains(&record.seq) =>
            {
                Ok(Some(record))
            }
            Some(record) => Err(Fault::directory(format!(
                "this directory is not the one that published last as '{}': the progress topic '{topic}' \
                 shows start {} ({}) of lineage {}, at seq {}, which it does not know; rebuild the newest \
                 directory, or move this one away and say `deltapoll rebuild`",
                config.name,
                record.incarnation.n,
                record.incarnation.id,
                record.lineage,
                record.seq
            ))),
            None => Err(Fault::directory(format!(
                "the progress topic '{topic}' holds no record of '{}', but this directory published up to \
                 seq {}; restore the topic, or begin anew with `deltapoll state reset`",
                config.name, self.published
            ))),
        }
    }

    /// The topics that the directory's cells feed, with the counts that keys are mapped under.
    fn topics(&self) -> Result<BTreeMap<String, u32>, Fault> {
        let facts = &self.directory.ledger;
        let mut found = BTreeMap::new();
        for known in identity::known(facts)? {
            if let Some(topic) = topics::recorded(facts, &known.topic)? {
                found.insert(known.topic, topic.partitions);
            }
        }
        Ok(found)
    }

    fn cells(&self, partitions: &BTreeMap<String, u32>) -> Result<Cells, Fault> {
        let (config, seed) = (self.config, self.lineage.hash_seed);
        facts::cells(
            config,
            &self.directory.ledger,
            seed,
            partitions.clone(),
            true,
        )
    }

    fn take(&mut self, cells: &mut Cells, record: &Published<'_>) -> Result<(), Fault> {
        let Some(entry) = cells.entry(record) else {
            return Ok(());
        };
        let key = if entry.keeps_key { record.key } else { &[] };
        self.entries.take(entry.cell, entry.hash, entry.print, key)
    }

    /// What was sealed after what is known as published.
    fn overlay(&mut self, cells: &Cells) -> Result<(), Fault> {
        let mut log = self.directory.ledger.after(self.published)?;
        while let Some(sealed) = log.next()? {
            let damaged = |error| feed::damaged(&sealed, &error);
            let batch = Batch::read(&sealed.body).map_err(damaged)?;
            let keeps_keys = cells.keeps_keys(batch.head.cell);
            for change in batch.changes() {
                let change = change.map_err(damaged)?;
                let print = (change.kind != Kind::Removed).then_some(change.print);
                let key = if keeps_keys { change.key } else { "" };
                let cell = batch.head.cell;
                self.entries
                    .take(cell, change.hash, print, key.as_bytes())?;
            }
        }
        self.entries.write()
    }
}

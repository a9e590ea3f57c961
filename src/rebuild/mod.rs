//! `rebuild` (R35): a directory made again from what was published, after its disk was lost.
//!
//! 1. The progress record says who the directory was, and up to where everything is published.
//! 2. Marks are taken: the ends of all topics. What that record proves is before them.
//! 3. The topics are read to the marks: of each key the last value becomes an entry of the state, and what
//!    is in no object yet is put aside.
//! 4. The journal is founded: it ends where publishing does, and holds what was put aside.
//! 5. The progress record is looked at again. If it has moved, somebody publishes: all over.
//! 6. What was made is moved into place.
//!
//! Safety:
//! * A change that is committed between 1 and 2 may be in the state and not in the record; 5 finds it out.
//!   One that is committed after 5 was sealed by another process, under an incarnation or beyond a seq
//!   that this directory does not own (R17): whichever of both commits next, the other one is refused.
//! * Whatever the lost journal had sealed beyond the record was never published: the next polls find what
//!   there is to find, compared with what readers have.
//! * What removals were silent (`removed = "ignore"`) nobody can read back: such keys are remembered again
//!   until they are missing again; nothing is published for it.
//!
//! Layout: [`site`] is where it is made, [`facts`] what it knows, [`cells`] which record belongs to which
//! cell, [`entries`] makes pages of them, [`gaps`], [`spool`] and [`archiving`] are the archive's,
//! [`journal`] founds the journal; [`state_only`] is the other command; [`draft`] and [`bar`] serve all.

pub mod archiving;
pub mod bar;
pub mod cells;
pub mod draft;
pub mod entries;
pub mod facts;
pub mod gaps;
pub mod journal;
pub mod site;
pub mod spool;
pub mod state_only;

use std::collections::BTreeMap;

use deltapoll_state::fail;
use deltapoll_state::journal::Sealed;
use deltapoll_state::pages::Pages;

use crate::change::{CellId, Epoch, Seq};
use crate::config::Config;
use crate::directory;
use crate::fault::Fault;
use crate::io::kafka::look;
use crate::io::kafka::progress::{self, Progress};
use crate::io::kafka::records::Records;
use crate::snapshot::Place;

use archiving::{Archived, Archiving};
use bar::Bar;
use entries::Entries;
use site::Site;

/// So often the record may move before somebody must be running.
const TRIES: u32 = 3;

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The history that goes on.
    pub lineage: String,
    /// Up to where everything is published.
    pub sealed: Sealed,
    /// Entries that are remembered.
    pub entries: u64,
    /// `None`: there is no archive.
    pub archived: Option<Archived>,
}

/// Makes the directory of `config` again.
///
/// # Errors
/// When there is something in its place, the configuration is not the one that published, changes are
/// gone that the archive lacks (exit 4), or somebody else is publishing (exit 3).
pub fn rebuild(config: &Config) -> Result<Done, Fault> {
    if config.kafka.is_none() {
        let dir = config.data_dir.display();
        return Err(Fault::directory(format!(
            "without [kafka] what was published is in {dir}/topics, within the directory itself: with that \
             gone there is nothing to make it again from; where topics/ and journal/ are there and only \
             the state is damaged or missing, say `deltapoll rebuild --state-only`; otherwise bring the \
             directory back from a copy, or move it away and begin anew with `deltapoll`"
        )));
    }
    let progress = published(config)?;
    let site = Site::claim(&config.data_dir)?;
    let done = attempts(config, &site, progress);
    if done.is_err() {
        // A run would be refused for what is half made.
        site.clear()?;
    }
    done
}

fn attempts(config: &Config, site: &Site, mut progress: Progress) -> Result<Done, Fault> {
    for _ in 0..TRIES {
        site.clear()?;
        site.begin()?;
        let made = make(config, site, &progress);
        let now = published(config)?;
        // Whoever publishes meanwhile is the reason, whatever else went wrong.
        if now == progress || fail::broken("r35") {
            let done = made?;
            site.finish()?;
            return Ok(done);
        }
        tracing::warn!(
            "published up to batch {} when it was read, up to {} now: beginning over",
            progress.seq,
            now.seq
        );
        progress = now;
    }
    Err(Fault::fenced(format!(
        "another instance of '{}' is publishing (start {}, at seq {}): stop it, then rebuild",
        config.name, progress.incarnation.n, progress.seq
    )))
}

/// The progress record.
fn published(config: &Config) -> Result<Progress, Fault> {
    let topic = config.progress_topic();
    let none = || {
        Fault::directory(format!(
            "nothing was published as '{}': the progress topic '{topic}' holds no record of it; check `name`, \
             [kafka].bootstrap and [kafka].progress_topic, or, if it never ran, run `deltapoll`",
            config.name
        ))
    };
    let seen = look::look(config, &[&topic], None)?;
    if seen.iter().all(Option::is_none) {
        return Err(none());
    }
    progress::read_decided(config)?.ok_or_else(none)
}

/// Makes journal and state where `site` says.
fn make(config: &Config, site: &Site, progress: &Progress) -> Result<Done, Fault> {
    let sealed = Sealed {
        seq: Seq(progress.seq),
        epoch: Epoch(progress.epoch),
    };
    let draft = facts::draft(config, progress)?;
    let topics = topics(config, progress)?;
    let records = Records::open(config, &topics)?;
    let mut archiving = Archiving::open(config, progress, &records, site)?;
    let pages = directory::found_pages(&site.at("state"), &progress.lineage, 0)?;
    read(config, progress, &records, &draft, &pages, &mut archiving)?;
    directory::flush_pages(&pages, sealed.seq)?;
    fail::step("rebuild.pages");
    let (archived, spool) = match archiving {
        Some(archiving) => {
            let (archived, spool) = archiving.settle(&records, &draft, sealed)?;
            (Some(archived), spool)
        }
        None => (None, None),
    };
    journal::found(&site.at("journal"), draft, spool, sealed)?;
    fail::step("rebuild.journal");
    Ok(Done {
        lineage: progress.lineage.clone(),
        sealed,
        entries: entries_in(&pages)?,
        archived,
    })
}

/// The topics that were published to and are there. Those that no source feeds any more are only the
/// archive's concern.
fn topics(config: &Config, progress: &Progress) -> Result<Vec<String>, Fault> {
    let names: Vec<&str> = progress.partitions.keys().map(String::as_str).collect();
    let fed = |name: &str| {
        config
            .source
            .keys()
            .any(|source| config.topic(source) == name)
    };
    let mut topics = Vec::new();
    for (name, seen) in names.iter().zip(look::look(config, &names, None)?) {
        if !fed(name) {
            tracing::warn!(
                "no source of the configuration feeds the topic '{name}', which '{}' published to: its \
                 records stay as they are",
                config.name
            );
        }
        if seen.is_some() && (fed(name) || config.archive.is_some()) {
            topics.push((*name).to_owned());
        }
    }
    Ok(topics)
}

fn read(
    config: &Config,
    progress: &Progress,
    records: &Records,
    draft: &draft::Draft,
    pages: &Pages,
    archiving: &mut Option<Archiving>,
) -> Result<(), Fault> {
    let (seed, partitions) = (progress.hash_seed, progress.partitions.clone());
    let mut cells = facts::cells(config, draft, seed, partitions, false)?;
    let mut entries = Entries::new(pages);
    // A backfill must not begin again with what was published; without headers nobody can tell.
    let mut come: BTreeMap<CellId, u64> = BTreeMap::new();
    let bar = Bar::new("reading topics", records.total());
    records.each(&|offsets| bar.advance(offsets), &mut |record| {
        if record.told.is_some_and(|told| told.seq.0 > progress.seq) {
            // Committed since: whatever comes of it is given up.
            return Ok(());
        }
        if let Some(entry) = cells.entry(record) {
            if let Some(told) = record.told {
                let newest = come.entry(entry.cell).or_default();
                *newest = told.polled_at.max(*newest);
            }
            let key = if entry.keeps_key { record.key } else { &[] };
            entries.take(entry.cell, entry.hash, entry.print, key)?;
        }
        if let Some(archiving) = archiving {
            archiving.take(record, || cells.canon(record))?;
        }
        Ok(())
    })?;
    drop(bar);
    entries.write()?;
    draft.extend(come.into_iter().map(|(cell, polled_at)| {
        let place = Place {
            polled_at,
            name: None,
        };
        (Place::fact(cell), place.write())
    }));
    cells.judge()
}

/// How many entries all cells have.
fn entries_in(pages: &Pages) -> Result<u64, Fault> {
    let wrong = |error: deltapoll_state::error::Error| Fault::directory(error.to_string());
    let mut all = 0;
    for cell in pages.cells().map_err(wrong)? {
        all += pages.count(cell).map_err(wrong)?.entries;
    }
    Ok(all)
}

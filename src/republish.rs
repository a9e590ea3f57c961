//! `state republish` (R32): publishes sources again whose settings changed, from the next poll on.
//!
//! It is one sealed epoch, written when all followers are at the journal's end: tombstones for the keys
//! that are remembered, to the topic that they are in, and in its last frame the new settings' identity
//! facts. Then the pages follow: `forget` deletes a cell's entries, so that the next poll publishes them
//! as added; `recheck` makes their fingerprints unknown, so that it publishes them as changed.
//!
//! Which of both is decided cell by cell: recheck where topic, mapping and record keys are what they
//! were (only `removed` differs, or nothing does), otherwise forget. Which names cease cannot be known
//! before the next poll, so that all of them do. Where the old topic is gone or was made again there is
//! nothing to take back: the removals are silent.
//!
//! Safety:
//! * The epoch is sealed with the facts, or nothing is: a crash leaves the old settings or the new.
//! * The fact `republish/<cell>` is sealed with them and removed only after the pages are durable;
//!   [`finish`] works it off before anything is decided, as often as crashes ask for. Both ways to
//!   treat a page may be repeated.
//! * Replay cannot bring a forgotten key back: its removal is the last that the journal says of it.

mod cells;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use deltapoll_state::fail;
use deltapoll_state::journal::{FactChange, Sealed};
use deltapoll_state::pages::{Pages, Update};
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;
use serde::{Deserialize, Serialize};

use crate::change::{Builder, CellId, Change, Epoch, Fingerprint, Head, KeyHash, Kind, Seq};
use crate::clock;
use crate::config::cell::Cell;
use crate::config::fingerprint::cell_identity;
use crate::config::{Config, OnCellRemoved, Removed, Source};
use crate::dataflow::dedup::misses::Misses;
use crate::dataflow::journal::validators_fact;
use crate::dataflow::message::Who;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::identity::{self, Known};
use crate::io::kafka::look::Seen;
use crate::io::kafka::{incarnation, partition_of, topics};
use crate::io::lineage;
use crate::ledger::Ledger;
use crate::snapshot::Place;

use standing::{Mapped, Standing, standings};

pub use cells::remove_cells;

const PENDING: &str = "republish/";
const OLD_TOPIC: &str = "old-topic/";
/// A batch is closed when it is this long.
const BATCH_BYTES: usize = 1 << 20;
/// Keys that are read, and updates that are written, at a time.
const AT_ONCE: usize = 8192;

/// What is done to the pages of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Treatment {
    Forget,
    Recheck,
}

/// The fact that pages are still to be treated.
#[derive(Serialize, Deserialize)]
struct Pending {
    /// The last batch of the epoch that it was sealed with.
    seq: u64,
    pages: Treatment,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Tombstones by topic.
    pub tombstones: BTreeMap<String, u64>,
    /// Entries that are forgotten: the next poll publishes them as added.
    pub forgotten: u64,
    /// Cells whose entries the next poll publishes as changed.
    pub rechecked: u64,
}

/// Asks what topics are now, in order; not called for the local topic log.
pub type Look<'a> = &'a dyn Fn(&[&str], &dyn Facts) -> Result<Vec<Seen>, Fault>;

/// Makes the next poll of `sources` publish everything again, under the settings in `config`.
///
/// # Errors
/// When a source is unknown, or a follower is behind (exit 4): then nothing has changed.
pub fn republish(
    config: &Config,
    directory: &Directory,
    sources: &[String],
    look: Look<'_>,
) -> Result<Done, Fault> {
    let (done, pages) = seal(config, directory, sources, look)?;
    finish(directory, &pages)?;
    Ok(done)
}

/// Everything up to the seal.
fn seal(
    config: &Config,
    directory: &Directory,
    sources: &[String],
    look: Look<'_>,
) -> Result<(Done, Pages), Fault> {
    let ledger = &directory.ledger;
    let known = known_of(config, ledger, sources)?;
    let position = at_the_end(config, directory, sources)?;
    let lineage = lineage::open(ledger)?;
    let pages = directory.pages(&lineage.id, position)?;
    finish(directory, &pages)?;
    let standings = standings(config, ledger, &known, look)?;
    let parts = parts(config, &known, &standings);
    // IMPORTANT: before anything is sealed (R17): a copy of this directory must not own the batch.
    incarnation::open(ledger, directory.start.seq)?;
    let state = RangeState::new(pages.clone(), Range::ALL);
    let (done, _) = write(config, directory, &state, &parts, &standings)?;
    Ok((done, pages))
}

/// Treats the pages as sealed republish epochs ask for, if they were not before a crash: to be called
/// when the pages are opened, before anything is decided.
///
/// # Errors
/// When the store or the journal cannot be written.
pub fn finish(directory: &Directory, pages: &Pages) -> Result<(), Fault> {
    let ledger = &directory.ledger;
    let mut news: Vec<FactChange> = past_old_topics(ledger)?;
    let pending = ledger.under(PENDING);
    if !pending.is_empty() {
        // Misses of a key that is forgotten must not count once it is back (R8).
        Misses::take(pages, 1)?;
    }
    for (name, text) in pending {
        let damaged = || damaged_fact(&name, &text);
        let cell = CellId(name[PENDING.len()..].parse().map_err(|_| damaged())?);
        let pending: Pending = serde_json::from_str(&text).map_err(|_| damaged())?;
        match pending.pages {
            Treatment::Forget => pages.delete_cell(cell).map_err(stored)?,
            Treatment::Recheck => recheck(pages, cell)?,
        }
        news.push((name, None));
    }
    if news.is_empty() {
        return Ok(());
    }
    // IMPORTANT: before the facts go, or a power cut brings the entries back.
    pages.store().flush().map_err(stored)?;
    fail::step("republish.pages");
    ledger.set(news, true)
}

/// Topics that only the journal still has changes for, after the batch `published`.
///
/// # Errors
/// When a fact is damaged.
pub fn old_topics(facts: &dyn Facts, published: Seq) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for (name, text) in facts.under(OLD_TOPIC) {
        let seq: u64 = text.parse().map_err(|_| damaged_fact(&name, &text))?;
        if seq > published.0 {
            names.push(name[OLD_TOPIC.len()..].to_owned());
        }
    }
    Ok(names)
}

fn past_old_topics(facts: &dyn Facts) -> Result<Vec<FactChange>, Fault> {
    let published = facts.get(Who::Publish.fact());
    let published = published.and_then(|text| text.parse().ok()).unwrap_or(0);
    let waiting = old_topics(facts, Seq(published))?;
    let all = facts.under(OLD_TOPIC).into_iter();
    let past = all.filter(|(name, _)| !waiting.iter().any(|one| *one == name[OLD_TOPIC.len()..]));
    Ok(past.map(|(name, _)| (name, None)).collect())
}

/// The cells of `sources` that the directory knows.
fn known_of(config: &Config, facts: &dyn Facts, sources: &[String]) -> Result<Vec<Known>, Fault> {
    let known = identity::known(facts)?;
    for source in sources {
        if !config.source.contains_key(source) {
            let names: Vec<&str> = config.source.keys().map(String::as_str).collect();
            return Err(Fault::usage(format!(
                "there is no [source.{source}] in the configuration; there are: {}",
                names.join(", ")
            )));
        }
        if !known.iter().any(|known| known.source == *source) {
            return Err(Fault::directory(format!(
                "this directory never polled the source {source}: there is nothing to publish \
                 again; run `deltapoll`"
            )));
        }
    }
    Ok(known
        .into_iter()
        .filter(|known| sources.contains(&known.source))
        .collect())
}

/// The journal's end, if every follower is there.
fn at_the_end(config: &Config, directory: &Directory, sources: &[String]) -> Result<Seq, Fault> {
    let mut followers = vec![Who::Remember, Who::Publish];
    followers.extend(config.archive.is_some().then_some(Who::Archive));
    let end = directory.start.seq;
    for (who, position) in directory.positions(&followers)? {
        if position == end {
            continue;
        }
        let flush = if config.archive.is_some() {
            " --flush-archive"
        } else {
            ""
        };
        return Err(Fault::directory(format!(
            "{} is at batch {position}, the journal ends with {end}: what was sealed under the old \
             settings must be everywhere before it is published again; put the old settings of {} \
             back, run `deltapoll --once{flush}`, then change them again",
            who.fact(),
            sources.join(", ")
        )));
    }
    Ok(end)
}

/// What becomes of a cell.
struct Part {
    known: Known,
    /// Under the new settings; `None`: it is no longer configured.
    wanted: Option<Known>,
    pages: Treatment,
}

fn parts(config: &Config, known: &[Known], standings: &BTreeMap<String, Mapped>) -> Vec<Part> {
    let wanted = identity::wanted(config);
    let mut parts = Vec::new();
    for known in known {
        let found = wanted
            .iter()
            .find(|(_, w)| w.source == known.source && w.label == known.label);
        let Some((cell, wanted)) = found else {
            if config.on_cell_removed != Some(OnCellRemoved::Keep) {
                parts.push(Part {
                    known: known.clone(),
                    wanted: None,
                    pages: Treatment::Forget,
                });
            }
            continue;
        };
        let source = &config.source[&known.source];
        let same = keeps_its_records(source, cell, known, wanted);
        let pages = if same && standings[&known.topic].standing == Standing::AsRecorded {
            Treatment::Recheck
        } else {
            Treatment::Forget
        };
        parts.push(Part {
            known: known.clone(),
            wanted: Some(Known {
                id: known.id,
                ..wanted.clone()
            }),
            pages,
        });
    }
    parts
}

/// Whether records go where they went under the key that they had, with key bytes for removals to come:
/// the hash of the old settings is that of the new ones with another `removed`.
fn keeps_its_records(source: &Source, cell: &Cell, known: &Known, wanted: &Known) -> bool {
    let before = [Removed::Tombstone, Removed::Event, Removed::Ignore];
    let before = before.into_iter().find(|&removed| {
        let source = Source {
            removed,
            ..source.clone()
        };
        cell_identity(&source, cell, &wanted.topic) == known.identity
    });
    before.is_some_and(|before| before != Removed::Ignore || source.removed == Removed::Ignore)
}

/// Seals the epoch.
fn write(
    config: &Config,
    directory: &Directory,
    state: &RangeState,
    parts: &[Part],
    standings: &BTreeMap<String, Mapped>,
) -> Result<(Done, Sealed), Fault> {
    let mut done = Done::default();
    let mut writer = Writer::new(directory);
    for part in parts {
        match part.pages {
            Treatment::Recheck => done.rechecked += 1,
            Treatment::Forget => {
                let mapped = standings[&part.known.topic];
                let (all, published) = remove(config, &mut writer, state, part, mapped)?;
                done.forgotten += all;
                if published > 0 {
                    *done.tombstones.entry(part.known.topic.clone()).or_default() += published;
                }
            }
        }
    }
    let seq = writer.seq();
    let mut facts = Vec::new();
    for part in parts {
        let cell = CellId(part.known.id);
        let pending = Pending {
            seq,
            pages: part.pages,
        };
        let pending = serde_json::to_string(&pending).expect("plain data");
        facts.push((format!("{PENDING}{:05}", cell.0), Some(pending)));
        // R9: validators would hide what is to be published again.
        facts.push((validators_fact(cell), None));
        facts.push(match &part.wanted {
            Some(wanted) => wanted.fact(),
            None => (part.known.fact().0, None),
        });
        if part.wanted.is_none() {
            // Its number may be another cell's one day, which has come nowhere.
            facts.push((Place::fact(cell), None));
        }
    }
    for topic in done.tombstones.keys() {
        facts.push((format!("{OLD_TOPIC}{topic}"), Some(seq.to_string())));
    }
    for (topic, mapped) in standings {
        if mapped.standing != Standing::AsRecorded {
            facts.push((topics::fact(topic), None));
        }
    }
    let sealed = writer.finish(facts)?;
    fail::step("republish.sealed");
    Ok((done, sealed))
}

/// Removals of all that is remembered of a cell; returns how many, and how many are published.
fn remove(
    config: &Config,
    writer: &mut Writer<'_>,
    state: &RangeState,
    part: &Part,
    mapped: Mapped,
) -> Result<(u64, u64), Fault> {
    let known = &part.known;
    let cell = CellId(known.id);
    let lost = mapped.standing == Standing::Lost;
    let mut builder = Builder::new(&Head {
        cell,
        polled_at: writer.epoch.0,
        // What is silent goes nowhere, and a topic that is gone must not be asked for.
        topic: if lost {
            config.topic(&known.source).to_owned()
        } else {
            known.topic.clone()
        },
        source: known.source.clone(),
        label: known.label.clone(),
    });
    let (mut all, mut published) = (0, 0);
    let walk = state.walk(cell).map_err(stored)?;
    let hashes = walk.map(|one| one.map(|(hash, _)| hash));
    let hashes: Vec<KeyHash> = hashes.collect::<Result<_, _>>().map_err(stored)?;
    for hashes in hashes.chunks(AT_ONCE) {
        let keys = state.keys(cell, hashes).map_err(stored)?;
        for (&hash, key) in hashes.iter().zip(keys) {
            let key = key
                .filter(|_| !lost)
                .and_then(|key| String::from_utf8(key).ok());
            all += 1;
            published += u64::from(key.is_some());
            let text = key.as_deref().unwrap_or_default();
            builder.push(&Change {
                kind: Kind::Removed,
                partition: partition_of(text.as_bytes(), mapped.partitions),
                hash,
                print: Fingerprint::default(),
                key: text,
                value: None,
                silent: key.is_none(),
            });
            if builder.bytes() >= BATCH_BYTES {
                writer.push(builder.take());
            }
        }
    }
    writer.push(builder.take());
    Ok((all, published))
}

/// One epoch on its way to the journal; the last batch waits for the facts.
struct Writer<'a> {
    ledger: &'a Ledger,
    start: Sealed,
    epoch: Epoch,
    held: Option<Vec<u8>>,
    batches: u64,
    unwritten: Arc<AtomicUsize>,
}

impl Writer<'_> {
    fn new(directory: &Directory) -> Writer<'_> {
        Writer {
            ledger: &directory.ledger,
            start: directory.start,
            epoch: Epoch(clock::unix_ms().max(directory.start.epoch.0 + 1)),
            held: None,
            batches: 0,
            unwritten: Arc::default(),
        }
    }

    /// The last batch so far.
    fn seq(&self) -> u64 {
        self.start.seq.0 + self.batches
    }

    fn push(&mut self, body: Option<Vec<u8>>) {
        let Some(body) = body else { return };
        self.batches += 1;
        if let Some(body) = self.held.replace(body) {
            self.append(body, None);
        }
    }

    fn append(&self, body: Vec<u8>, end: Option<Vec<FactChange>>) {
        self.unwritten.fetch_add(body.len(), Ordering::AcqRel);
        self.ledger
            .append(self.epoch, body, self.unwritten.clone(), end);
    }

    /// Seals, and returns what is sealed then; an epoch without a batch is facts alone.
    fn finish(mut self, facts: Vec<FactChange>) -> Result<Sealed, Fault> {
        let Some(body) = self.held.take() else {
            self.ledger.set(facts, true)?;
            return Ok(self.start);
        };
        self.append(body, Some(facts));
        let (sender, sealed) = channel();
        self.ledger.seal(move |mark| {
            // Whoever waits is there until it has an answer.
            let _ = sender.send(mark);
        });
        let sealed = sealed
            .recv()
            .map_err(|_| Fault::failed("the journal's thread has ended"))?;
        assert_eq!(sealed.seq.0, self.seq(), "nobody else appends");
        Ok(sealed)
    }
}

/// Gives every entry of `cell` a fingerprint that no content has.
fn recheck(pages: &Pages, cell: CellId) -> Result<(), Fault> {
    let state = RangeState::new(pages.clone(), Range::ALL);
    let walk = state.walk(cell).map_err(stored)?;
    let entries: Vec<_> = walk.collect::<Result<_, _>>().map_err(stored)?;
    for entries in entries.chunks(AT_ONCE) {
        let updates = entries.iter().map(|(hash, print)| Update {
            hash: *hash,
            print: Some(Fingerprint {
                // Equal raw bytes would count as unchanged under any rule; made of what stays, so that
                // it may be done again.
                raw: !print.canon,
                canon: print.canon,
                rule: 0,
            }),
            key: &[],
        });
        let updates: Vec<Update<'_>> = updates.collect();
        pages.merge(cell, Range::ALL, &updates).map_err(stored)?;
    }
    Ok(())
}

fn stored(error: deltapoll_state::error::Error) -> Fault {
    Fault::directory(error.to_string())
}

fn damaged_fact(name: &str, text: &str) -> Fault {
    Fault::directory(format!("the journal's fact {name} is damaged: {text}"))
}

#[cfg(test)]
mod tests;

//! All partitions of an archive together, epoch after epoch.
//!
//! The least epoch that any partition has next is whole once each of them is past it: within an object,
//! and from one to the next, epochs never go back.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::change::{Epoch, KeyHash};
use crate::config::quantity;
use crate::snapshot::Place;

use super::Archive;
use super::cells::Cells;
use super::come::Come;
use super::gather::Gathered;
use super::lane::{Archived, Lane};

/// What an epoch holds of a cell.
#[derive(Debug)]
pub struct Found {
    /// The cell's place among all cells.
    pub index: usize,
    /// When it was polled.
    pub polled_at: u64,
    /// How far the cell has come with it.
    pub place: Place,
    /// Added and changed entries.
    pub pieces: Vec<Bytes>,
    /// How many there are.
    pub entries: u64,
    /// Bytes of all of it.
    pub bytes: u64,
    /// Hashes of removed keys.
    pub gone: Vec<KeyHash>,
    /// Bytes of objects that were read since the last one.
    pub read: u64,
    /// What it is, for people.
    pub shown: String,
}

/// See the module.
pub struct Epochs {
    archived: Archived,
    lanes: Vec<Lane>,
    cells: Cells,
    standings: Vec<Standing>,
    source: String,
    body_max: u64,
    seed: u64,
    ready: VecDeque<Found>,
    /// Bytes of objects that nobody was told of.
    told: u64,
    found: u64,
    /// What the state is past, and objects that are not read for it.
    past: u64,
    skipped: u64,
}

/// How far a cell has come.
struct Standing {
    index: usize,
    label: String,
    /// Where it was when the backfill began.
    before: Option<Place>,
    /// In this archive, if that is where it was.
    come: Option<Come>,
    /// The newest time so far: clocks go back, places must not.
    time: u64,
}

impl Archive {
    /// Its epochs; `before` says where a cell is, by its place among all, `seed` hashes keys.
    pub fn epochs(self, seed: u64, before: impl Fn(usize) -> Option<Place>) -> Epochs {
        let lineage = self.lineage.0.clone();
        let cells = self.wanted.cells.iter();
        let standings: Vec<Standing> = cells
            .map(|(index, cell)| Standing::new(*index, &cell.label, before(*index), &lineage))
            .collect();
        let mut lanes: Vec<Lane> = self.series.into_iter().map(Lane::new).collect();
        let mut skipped = 0;
        for lane in &mut lanes {
            let next = standings.iter().map(|cell| cell.next(lane.partition));
            skipped += lane.skip_to(next.min().unwrap_or(0));
        }
        Epochs {
            cells: Cells::new(&self.wanted),
            lanes,
            archived: Archived {
                topic: self.topic,
                lineage: self.lineage,
                bytes: 0,
            },
            standings,
            source: self.wanted.source,
            body_max: self.wanted.body_max,
            seed,
            ready: VecDeque::new(),
            told: 0,
            found: 0,
            past: 0,
            skipped,
        }
    }
}

impl Standing {
    fn new(index: usize, label: &str, before: Option<Place>, lineage: &str) -> Standing {
        let name = before.as_ref().and_then(|place| place.name.as_deref());
        let come = name.and_then(Come::read);
        let come = come.filter(|come| come.lineage == lineage);
        let time = before.as_ref().filter(|_| come.is_some());
        Standing {
            index,
            label: label.to_owned(),
            time: time.map_or(0, |place| place.polled_at),
            come,
            before,
        }
    }

    /// The first change of a partition that is not done.
    fn next(&self, partition: u32) -> u64 {
        let next = self
            .come
            .as_ref()
            .and_then(|come| come.next.get(&partition));
        next.copied().unwrap_or(0)
    }

    /// Where the cell is with what an epoch holds of it; `None`: it is past that.
    fn advance(&mut self, mut come: Come, polled_at: u64) -> Option<Place> {
        self.time = self.time.max(polled_at);
        if let Some(known) = &self.come {
            come.epoch = come.epoch.max(known.epoch);
            for (partition, next) in &known.next {
                let here = come.next.entry(*partition).or_default();
                *here = (*here).max(*next);
            }
        }
        let place = Place {
            polled_at: self.time,
            name: Some(come.write()),
        };
        // In this archive its changes say what is past, otherwise time does.
        let known = self.before.as_ref().filter(|_| self.come.is_none());
        known.is_none_or(|known| *known < place).then_some(place)
    }
}

impl Epochs {
    /// What comes next; `None`: nothing more.
    ///
    /// # Errors
    /// Names what cannot be used, and the remedy.
    pub fn read_next(&mut self) -> Result<Option<Found>, String> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                self.found += 1;
                return Ok(Some(found));
            }
            let mut least: Option<Epoch> = None;
            for lane in &mut self.lanes {
                let next = lane.epoch(&mut self.archived)?;
                least = [least, next].into_iter().flatten().min();
            }
            match least {
                Some(epoch) => self.gather(epoch)?,
                None => return self.end(),
            }
        }
    }

    /// Bytes of the objects that are to be read.
    pub fn size(&self) -> u64 {
        self.lanes.iter().map(Lane::size).sum()
    }

    /// Puts together what `epoch` holds of each cell.
    fn gather(&mut self, epoch: Epoch) -> Result<(), String> {
        let Epochs {
            cells,
            standings,
            archived,
            body_max,
            seed,
            ..
        } = self;
        let topic = archived.topic.clone();
        let mut gathered: BTreeMap<usize, Gathered> = BTreeMap::new();
        for lane in &mut self.lanes {
            let partition = lane.partition;
            lane.take(epoch, archived, |index, record| {
                let Some(cell) = cells.find(record) else {
                    return Ok(());
                };
                let into = gathered.entry(cell).or_default();
                if index < standings[cell].next(partition) {
                    into.polled_at = into.polled_at.max(record.polled_at);
                    return Ok(());
                }
                into.push(record, *seed);
                if into.bytes > *body_max {
                    let most = quantity::Bytes(*body_max);
                    return Err(format!(
                        "epoch {epoch} of topic '{topic}': the entries of one cell are longer than \
                         limits.body_max = {most}: raise it, and the same command goes on"
                    ));
                }
                Ok(())
            })?;
        }
        for (cell, gathered) in gathered {
            self.finish(cell, epoch, gathered.finish());
        }
        Ok(())
    }

    /// Whether the cell is past this epoch, and if not, what it is now.
    fn finish(&mut self, cell: usize, epoch: Epoch, gathered: Gathered) {
        let next = self.lanes.iter().map(|lane| (lane.partition, lane.next));
        let come = Come {
            lineage: self.archived.lineage.0.clone(),
            epoch,
            next: next.collect(),
        };
        let standing = &mut self.standings[cell];
        let empty = gathered.pieces.is_empty() && gathered.gone.is_empty();
        let Some(place) = standing
            .advance(come, gathered.polled_at)
            .filter(|_| !empty)
        else {
            self.past += 1;
            return;
        };
        let read = self.archived.bytes - std::mem::replace(&mut self.told, self.archived.bytes);
        let label = &standing.label;
        self.ready.push_back(Found {
            index: standing.index,
            polled_at: gathered.polled_at,
            place,
            pieces: gathered.pieces,
            entries: gathered.entries,
            bytes: gathered.bytes,
            gone: gathered.gone,
            read,
            shown: format!("epoch {epoch} of {} {label}", self.source),
        });
    }

    /// Tells what was not read.
    fn end(&mut self) -> Result<Option<Found>, String> {
        let strangers = std::mem::take(&mut self.cells.strangers);
        if let Some((key, why)) = strangers.first {
            let (count, source, topic) = (strangers.count, &self.source, &self.archived.topic);
            let told = format!(
                "{count} changes of topic '{topic}' are of no cell of source {source}: {why}; the first has \
                 the key '{key}'"
            );
            let first = self.standings.iter().all(|cell| cell.come.is_none());
            if first && self.found + self.past == 0 {
                return Err(format!(
                    "{told}; set `key`, `record_key` and `vars` as they were when the archive was written"
                ));
            }
            tracing::warn!("{told}; they are not read");
        }
        if self.past + self.skipped > 0 {
            tracing::info!(
                "{} snapshots are not newer than what is known of their cells: left out ({} objects are not \
                 read for it)",
                std::mem::take(&mut self.past),
                std::mem::take(&mut self.skipped)
            );
        }
        Ok(None)
    }
}

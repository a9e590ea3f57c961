//! `archive`: the follower that writes published changes as Avro objects, each change once.
//!
//! Guarantees: every published change that is not silent is in exactly one object; the objects of a
//! topic-partition follow each other without gap or overlap; an object is whole or absent, and never
//! overwritten (G2, R24-R26).
//!
//! Steps of [`Follower::advance`]:
//!
//! 1. the first time, make sure that the prefix is ours (R26);
//! 2. read the journal up to what is published, and never further, so that the archive inherits
//!    publish's fencing; each change goes to its topic-partition's lane, unless an object of that
//!    lane already has it;
//! 3. at an epoch's end, or within an epoch that is too large by itself, put lanes that are full;
//!    having read everything, those that are due by age or wish;
//! 4. record next indexes and position in one control frame.
//!
//! Safety: a change is in exactly one object, whenever the process ends, because
//! * the position is below every change that waits, so that a restart reads each of them again, and
//!   a lane's `seq` tells it which of those are in objects already;
//! * facts are recorded after the PUT; after a crash in between, the lane starts from the old facts
//!   and meets the object under the very name that it wants to use next, where its content decides
//!   (`place`); the range may differ from what we would roll now, then its range is taken and what
//!   comes after it is read again;
//! * facts are synced before the position is returned, so that the journal keeps every change that a
//!   restart may ask for.
//!
//! Steps of the fail-point build (`deltapoll_state::fail`): `prefix.listed` nothing foreign was found,
//! the prefix is not claimed yet; `archive.put.before`; `archive.put.after` there is an answer, the facts
//! do not know it yet; `archive.header.read` what is in the place of an object is about to be judged;
//! `archive.facts.after` the facts are synced. Those within a PUT to a directory: [`crate::io::object`].
//!
//! Layout, in reading order: [`name`] names objects, [`settings`] is what we are told, `reading` reads
//! the journal, `lane` holds what waits, `place` puts objects and judges what is there, `prefix` looks
//! for what is not ours, `ledger` is what the journal remembers, [`ends`] is what the objects say of it.

#[cfg(test)]
mod crash;
pub mod ends;
#[cfg(test)]
mod fateful;
mod lane;
mod ledger;
pub mod name;
mod place;
mod prefix;
mod reading;
pub mod settings;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltapoll_state::fail;

use crate::change::{Epoch, Seq};
use crate::fault::Fault;
use crate::follower::{Facts, Follower, Log, Logs, SealedBatch};
use crate::io::object::Objects;

use lane::{Lane, Make, Object};
use ledger::Ledger;
pub use ledger::POSITION;
use place::{Placed, Placer};
pub use prefix::{Inventory, inventory};
pub use settings::{Control, Health, Metrics, Settings, System, Time};

/// Objects of different topic-partitions that are put at once: enough to hide a store's latency, few
/// enough for a slow line.
const PARALLEL: usize = 4;

/// Writes published changes as Avro objects.
pub struct Archive {
    settings: Settings,
    make: Make,
    placer: Placer,
    ledger: Ledger,
    lanes: Vec<Lane>,
    index: BTreeMap<String, BTreeMap<u32, usize>>,
    log: Option<Box<dyn Log>>,
    /// The last batch that was read; what waits in lanes is from batches up to here.
    read: Seq,
    published: Seq,
    claimed: bool,
}

impl Archive {
    /// Reads what the journal remembers; sends no request yet.
    ///
    /// # Errors
    /// When the directory archives to another prefix, or its facts make no sense (exit 4).
    pub fn new(
        settings: Settings,
        logs: Arc<dyn Logs>,
        facts: Arc<dyn Facts>,
        objects: Arc<Objects>,
        time: Arc<dyn Time>,
    ) -> Result<Archive, Fault> {
        let ledger = Ledger::open(facts)?;
        ledger.check_prefix(objects.url())?;
        let make = Make {
            lineage: settings.lineage.clone(),
            codec: settings.codec,
        };
        let mut archive = Archive {
            make,
            placer: Placer {
                objects,
                logs,
                control: Arc::default(),
                metrics: Arc::default(),
                time,
            },
            lanes: Vec::new(),
            index: BTreeMap::new(),
            log: None,
            read: ledger.position().unwrap_or(settings.start),
            published: Seq(0),
            claimed: false,
            ledger,
            settings,
        };
        for lane in archive.ledger.lanes()? {
            archive.insert(lane);
        }
        Ok(archive)
    }

    /// Wishes from other threads.
    #[must_use]
    pub fn control(&self) -> Arc<Control> {
        Arc::clone(&self.placer.control)
    }

    /// Numbers for other threads.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.placer.metrics)
    }

    /// Rolls and uploads all that waits and ends where an epoch ends; returns the position.
    ///
    /// # Errors
    /// As [`Follower::advance`].
    pub fn flush(&mut self) -> Result<Seq, Fault> {
        self.settle(|_, lane| lane.is_whole())?;
        Ok(self.position())
    }

    /// Before the first object: the prefix is recorded as ours, or holds nothing foreign (R26).
    /// False: stopped before that was known.
    fn claim(&mut self) -> Result<bool, Fault> {
        let objects = Arc::clone(&self.placer.objects);
        let sweep = || objects.sweep(name::TOPICS);
        if self.placer.insist("topics", sweep)?.is_none() {
            return Ok(false);
        }
        if !self.ledger.check_prefix(objects.url())? {
            let lineage = self.make.lineage.clone();
            let look = || prefix::foreign(&objects, &lineage);
            match self.placer.insist("topics", look)? {
                None => return Ok(false),
                Some(Some(found)) if !fail::broken("r26") => {
                    return Err(prefix::in_use(objects.url(), &found));
                }
                Some(_) => fail::step("prefix.listed"),
            }
            // IMPORTANT: synced before the first PUT; a later start must not take our own objects, or
            // those that somebody else adds, for the state of an unused prefix.
            self.ledger.claim(objects.url(), self.settings.start)?;
        }
        self.claimed = true;
        Ok(true)
    }

    /// Reads up to `published`, rolling what is full. False: stopped.
    fn read_on(&mut self) -> Result<bool, Fault> {
        while self.read < self.published {
            let log = match &mut self.log {
                Some(log) => log,
                none => none.insert(self.placer.logs.after(self.read)?),
            };
            let batch = reading::next(&mut **log, self.read)?;
            self.take(&batch)?;
            self.read = batch.seq;
            if !self.roll_full(batch.last)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, batch: &SealedBatch) -> Result<(), Fault> {
        reading::each(batch, |topic, at, change| {
            let lane = self.lane(topic, change.partition)?;
            self.lanes[lane].push(&self.make, at, change)
        })?;
        if batch.last {
            self.lanes.iter_mut().for_each(Lane::end_epoch);
        }
        Ok(())
    }

    fn lane(&mut self, topic: &str, partition: u32) -> Result<usize, Fault> {
        let known = self
            .index
            .get(topic)
            .and_then(|lanes| lanes.get(&partition));
        if let Some(lane) = known {
            return Ok(*lane);
        }
        if !name::check(topic) {
            return Err(Fault::usage(format!(
                "topic '{topic}' cannot be archived: use ASCII letters, digits, '.', '_' and '-'"
            )));
        }
        Ok(self.insert(Lane::new(topic, partition, 0, Seq(0))))
    }

    fn insert(&mut self, lane: Lane) -> usize {
        let at = self.lanes.len();
        let lanes = self.index.entry(lane.topic.clone()).or_default();
        lanes.insert(lane.partition, at);
        self.lanes.push(lane);
        at
    }

    fn roll_full(&mut self, epoch_ends: bool) -> Result<bool, Fault> {
        if !self.settle(|archive, lane| lane.is_full(&archive.settings.roll))? {
            return Ok(false);
        }
        while epoch_ends && self.held() > self.settings.held_bytes_max {
            let fullest = self.lanes.iter().map(Lane::held).max();
            if !self.settle(|_, lane| lane.is_whole() && Some(lane.held()) == fullest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rolls what is due by age, or by somebody's wish. Only now that everything published is read:
    /// after an outage, rolling by age while catching up would make an object of every epoch.
    fn roll_due(&mut self) -> Result<bool, Fault> {
        let control = Arc::clone(&self.placer.control);
        if control.take_flush() {
            return self.settle(|_, lane| lane.is_whole());
        }
        let oldest = self.oldest();
        if control.take_relieve()
            && !self.settle(|_, lane| lane.is_whole() && lane.waits_from() == oldest)?
        {
            return Ok(false);
        }
        let now = self.placer.time.unix_ms();
        self.settle(|archive, lane| {
            let due = lane.waits_since().map(|since| archive.due_ms(since));
            lane.is_whole() && due.is_some_and(|due| due <= now)
        })
    }

    /// Puts the lanes that `wanted` picks, again and again until it picks none (an object that was
    /// there before may hold less than what waits). False: stopped.
    fn settle(&mut self, wanted: impl Fn(&Archive, &Lane) -> bool) -> Result<bool, Fault> {
        loop {
            let picked = |lane: &usize| wanted(self, &self.lanes[*lane]);
            let lanes: Vec<usize> = (0..self.lanes.len()).filter(picked).collect();
            if lanes.is_empty() {
                return Ok(true);
            }
            for lanes in lanes.chunks(PARALLEL) {
                if !self.put(lanes)? {
                    return Ok(false);
                }
            }
        }
    }

    /// Puts these lanes' objects at once, one each. False: stopped.
    fn put(&mut self, lanes: &[usize]) -> Result<bool, Fault> {
        let mut objects = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let object = self.lanes[*lane].object(&self.make)?;
            let object = object.expect("only lanes where something waits are picked");
            assert!(
                object.header.seq_last <= self.published,
                "only what is published is read"
            );
            objects.push(object);
        }
        let placed = place_all(&self.placer, &objects, self.published);
        let mut all = true;
        let mut settled = Vec::with_capacity(lanes.len());
        for ((lane, object), placed) in lanes.iter().zip(&objects).zip(placed) {
            match placed? {
                Placed::Stopped => all = false,
                Placed::Until { last, seq } => {
                    self.lanes[*lane].settle(last, seq);
                    if last < object.header.last {
                        self.refill(*lane)?;
                    }
                    settled.push(*lane);
                }
            }
        }
        // IMPORTANT: after refilling; the position must be below what waits again.
        let position = self.position();
        let settled = settled.iter().map(|lane| &self.lanes[*lane]);
        self.ledger.record(settled, position)?;
        Ok(all)
    }

    /// Reads again what waited in the lane and is not in the object that was found in its place.
    fn refill(&mut self, lane: usize) -> Result<(), Fault> {
        let (lane, make) = (&mut self.lanes[lane], &self.make);
        reading::range(&*self.placer.logs, lane.archived, self.read, |batch| {
            reading::each(batch, |topic, at, change| {
                if topic != lane.topic || change.partition != lane.partition {
                    return Ok(());
                }
                lane.push(make, at, change)
            })?;
            if batch.last {
                lane.end_epoch();
            }
            Ok(())
        })
    }

    fn held(&self) -> usize {
        self.lanes.iter().map(Lane::held).sum()
    }

    fn oldest(&self) -> Option<Seq> {
        self.lanes.iter().filter_map(Lane::waits_from).min()
    }

    /// What was read, lowered to just before the oldest change that is in no object (R24).
    fn position(&self) -> Seq {
        match self.oldest() {
            Some(oldest) if !fail::broken("r24") => Seq(oldest.0 - 1),
            _ => self.read,
        }
    }

    /// When an object must roll whose first change was sealed in `since` (Unix ms). Epochs are Unix
    /// time, and so the age goes on across restarts: a run a minute from cron still rolls.
    fn due_ms(&self, since: Epoch) -> u64 {
        let age = u64::try_from(self.settings.roll.age.as_millis()).unwrap_or(u64::MAX);
        since.0.saturating_add(age)
    }
}

impl Follower for Archive {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        self.published = self.published.max(upto);
        if !self.claimed && !self.claim()? {
            return Ok(self.position());
        }
        if self.read_on()? {
            self.roll_due()?;
        }
        let position = self.position();
        self.ledger.record(std::iter::empty(), position)?;
        Ok(position)
    }

    fn due(&self) -> Option<Instant> {
        let whole = self.lanes.iter().filter(|lane| lane.is_whole());
        let due = whole
            .filter_map(Lane::waits_since)
            .min()
            .map(|since| self.due_ms(since))?;
        let wait = Duration::from_millis(due.saturating_sub(self.placer.time.unix_ms()));
        self.placer.time.now().checked_add(wait)
    }
}

fn place_all(placer: &Placer, objects: &[Object], published: Seq) -> Vec<Result<Placed, Fault>> {
    let [first, others @ ..] = objects else {
        return Vec::new();
    };
    std::thread::scope(|scope| {
        let place = |object| move || placer.place(object, published);
        let others: Vec<_> = others.iter().map(|o| scope.spawn(place(o))).collect();
        let mut placed = vec![placer.place(first, published)];
        for other in others {
            let result = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            placed.push(result);
        }
        placed
    })
}

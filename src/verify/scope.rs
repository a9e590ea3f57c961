//! What all sides speak of: topics, their partitions (lanes), and how far each is judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::change::{KeyHash, Seq};
use crate::fault::Fault;
use crate::io::committed::{Span, Stamp};
use crate::io::kafka::look::Keeping;
use crate::log;

use super::report::Finding;

/// A topic.
#[derive(Debug)]
pub struct Topic {
    pub name: String,
    pub spans: Vec<Span>,
    pub keeping: Keeping,
    /// Keys that are gone leave no trace in it (`removed = "ignore"`).
    pub silent: bool,
}

impl Topic {
    /// Whether the oldest records of `partition` are gone, as they may be.
    pub fn lost_front(&self, partition: u32) -> bool {
        let span = self.spans.iter().find(|span| span.partition == partition);
        self.keeping.deletes && span.is_some_and(|span| span.first > 0)
    }
}

/// A topic's partition.
#[derive(Debug)]
pub struct Lane {
    /// Its place among the topics.
    pub topic: usize,
    pub partition: u32,
    /// The last batch that is in an object of it.
    pub archived: Seq,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scope {
    pub topics: Vec<Topic>,
    pub lanes: Vec<Lane>,
    /// By topic and partition.
    pub index: BTreeMap<(usize, u32), usize>,
    /// The last committed batch, as it was read first.
    pub published: Seq,
    /// What is at or before this batch has no other side: it was never archived, and is retired.
    pub floor: Seq,
    /// Epochs up to this one are those of a predecessor (`state reset`).
    pub after: u64,
    pub seed: u64,
    /// Whether records say what they are.
    pub headers: bool,
    /// Whether values are without line breaks, as in the local topic log.
    pub one_line: bool,
    /// Whether nobody writes meanwhile.
    pub stopped: bool,
    pub archive: bool,
}

impl Scope {
    /// The place of a topic, if it is one of ours.
    pub fn topic(&self, name: &str) -> Option<usize> {
        self.topics.iter().position(|topic| topic.name == name)
    }

    /// The lane of a partition.
    pub fn lane(&mut self, topic: usize, partition: u32) -> usize {
        let lanes = &mut self.lanes;
        *self.index.entry((topic, partition)).or_insert_with(|| {
            lanes.push(Lane {
                topic,
                partition,
                archived: Seq(0),
            });
            lanes.len() - 1
        })
    }

    /// The lane of a partition that is known.
    pub fn known_lane(&self, topic: usize, partition: u32) -> Option<usize> {
        self.index.get(&(topic, partition)).copied()
    }

    /// Whether a record belongs to an earlier history.
    pub fn is_past(&self, stamp: Option<&Stamp>, at: u64) -> bool {
        self.after > 0 && stamp.map_or(at, |stamp| stamp.epoch.0) <= self.after
    }

    /// Whether batch `seq` of `lane` must be in topic and archive, or topic and journal.
    pub fn has_other_side(&self, lane: usize, seq: Seq) -> bool {
        let known = self.stopped || seq <= self.lanes[lane].archived;
        known && self.floor < seq && seq <= self.published
    }

    /// A finding in `lane`.
    pub fn at(&self, lane: usize) -> Finding {
        let lane = &self.lanes[lane];
        Finding {
            topic: self.topics[lane.topic].name.clone(),
            partition: Some(lane.partition),
            ..Finding::default()
        }
    }
}

/// A change as one side shows it.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub lane: usize,
    pub key: &'a [u8],
    pub hash: KeyHash,
    /// `None`: the record says nothing.
    pub stamp: Option<Stamp>,
    pub value: Option<&'a [u8]>,
}

/// Shows how far we are, and ends the work when somebody asks to stop.
#[derive(Debug)]
pub struct Watch {
    bar: Option<ProgressBar>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// A bar on a terminal, nothing elsewhere.
    pub fn new(stop: Arc<AtomicBool>) -> Watch {
        let bar = log::is_live().then(|| {
            let template = "{bar:30} {percent}% {wide_msg}";
            let style = ProgressStyle::with_template(template).expect("the template is sound");
            let bar = log::terminal().add(ProgressBar::new(0).with_style(style));
            bar.set_message("looking");
            bar
        });
        Watch { bar, stop }
    }

    /// So much is to be read.
    pub fn expect(&self, changes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(changes);
        }
    }

    /// What is being read.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// One more is read.
    pub fn seen(&self) -> Result<(), Fault> {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Fault::failed("stopped before everything was compared"));
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

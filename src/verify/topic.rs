//! The topics' side: committed records, from Kafka or from the local topic log.

use std::collections::BTreeMap;

use crate::change::Kind as Change;
use crate::change::{Epoch, Seq};
use crate::config::{Config, Removed};
use crate::dataflow::dedup::removal_event;
use crate::fault::Fault;
use crate::identity;
use crate::io::committed::{Committed, Stamp};
use crate::io::json::hash;
use crate::io::kafka::look::{self, Keeping};
use crate::io::kafka::spans::Records as KafkaRecords;
use crate::io::kafka::topics;
use crate::io::local::spans::Records as LocalRecords;

use super::report::{Finding, Kind, Report};
use super::scope::{Scope, Sight, Topic, Watch};
use super::standing::Standing;

/// See the module.
pub enum Topics {
    Kafka(KafkaRecords),
    /// `None`: nothing was ever committed.
    Local(Option<LocalRecords>),
}

impl Topics {
    pub fn open(config: &Config) -> Result<Topics, Fault> {
        Ok(match config.kafka {
            Some(_) => Topics::Kafka(KafkaRecords::open(config)?),
            None => Topics::Local(LocalRecords::open(&config.data_dir)?),
        })
    }

    /// Finds `names`, and up to where they are read.
    pub fn survey(
        &self,
        config: &Config,
        standing: &Standing,
        names: &[String],
        report: &mut Report,
    ) -> Result<Vec<Topic>, Fault> {
        let topic = |name: &String, spans, keeping| Topic {
            name: name.clone(),
            spans,
            keeping,
            silent: is_silent(config, name),
        };
        let kafka = match self {
            Topics::Kafka(kafka) => kafka,
            Topics::Local(local) => {
                let expires = Keeping {
                    compacts: false,
                    deletes: true,
                    lag_ms: 0,
                };
                let spans = |name| local.as_ref().map_or(Ok(Vec::new()), |log| log.spans(name));
                let each = names.iter();
                return each
                    .map(|name| Ok(topic(name, spans(name)?, expires)))
                    .collect();
            }
        };
        let there = there(config, standing, names, report)?;
        let present: Vec<&str> = there.keys().map(String::as_str).collect();
        let keeping = look::keeping(config, &present)?;
        let mut found = Vec::new();
        for ((name, partitions), keeping) in there.iter().zip(keeping) {
            found.push(topic(name, kafka.spans(name, *partitions)?, keeping));
        }
        let absent = names.iter().filter(|name| !there.contains_key(*name));
        let keeps = Keeping {
            compacts: false,
            deletes: false,
            lag_ms: 0,
        };
        found.extend(absent.map(|name| topic(name, Vec::new(), keeps)));
        Ok(found)
    }

    /// Shows every record, with its lane; returns the lines that are none, by topic and partition, with
    /// the offset that they should have.
    pub fn each(
        &self,
        scope: &Scope,
        watch: &Watch,
        visit: &mut dyn FnMut(&Sight<'_>, &Committed<'_>) -> Result<(), Fault>,
    ) -> Result<Vec<(usize, u32, u64)>, Fault> {
        let mut wrong = Vec::new();
        for (at, topic) in scope.topics.iter().enumerate() {
            watch.say(&topic.name);
            let mut show = |record: &Committed<'_>| {
                watch.seen()?;
                let Some(lane) = scope.known_lane(at, record.partition) else {
                    return Ok(());
                };
                let sight = Sight {
                    lane,
                    key: record.key,
                    hash: hash::key(scope.seed, record.key),
                    stamp: record.stamp.filter(|_| scope.headers),
                    value: record.value,
                };
                visit(&sight, record)
            };
            match self {
                Topics::Kafka(kafka) => kafka.read(&topic.name, &topic.spans, &mut show)?,
                Topics::Local(None) => {}
                Topics::Local(Some(local)) => {
                    let mut note = |partition, offset| wrong.push((at, partition, offset));
                    local.read(&topic.name, &mut show, &mut note)?;
                }
            }
        }
        Ok(wrong)
    }
}

/// Whether nothing is published for keys that are gone, by the configuration of the topic's source.
fn is_silent(config: &Config, topic: &str) -> bool {
    let mut sources = config.source.iter();
    sources.any(|(name, source)| config.topic(name) == topic && source.removed == Removed::Ignore)
}

/// The topics that exist, with their partitions.
fn there(
    config: &Config,
    standing: &Standing,
    names: &[String],
    report: &mut Report,
) -> Result<BTreeMap<String, u32>, Fault> {
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let fed = identity::known(&standing.facts)?;
    let mut there = BTreeMap::new();
    for (name, seen) in names
        .iter()
        .zip(look::look(config, &all, Some(&standing.facts))?)
    {
        let recorded = topics::recorded(&standing.facts, name)?;
        let is_fed = recorded.is_some() && fed.iter().any(|cell| cell.topic == *name);
        let wrong = match (&seen, recorded.and_then(|topic| topic.id)) {
            (None, _) if is_fed => "it is gone",
            (Some(is), Some(was)) if is.id.as_ref().is_some_and(|id| *id != was) => {
                "it was deleted and made again"
            }
            _ => "",
        };
        if !wrong.is_empty() {
            report.add(Kind::Topic, || Finding {
                topic: name.clone(),
                what: wrong.into(),
                ..Finding::default()
            });
        }
        if let Some(seen) = seen {
            there.insert(name.clone(), seen.partitions);
        } else if !is_fed {
            report.note(format!("topic {name} is not there"), 1);
        }
    }
    Ok(there)
}

/// Whether a record says that its key is gone.
pub fn is_removal(sight: &Sight<'_>) -> bool {
    match (sight.stamp, sight.value) {
        (_, None) => true,
        (Some(stamp), _) => stamp.kind == Change::Removed,
        (None, Some(value)) => {
            let key = std::str::from_utf8(sight.key);
            key.is_ok_and(|key| removal_event(key).as_bytes() == value)
        }
    }
}

/// What can be said of a topic's records one after another, with nothing to compare them with: whose
/// they are, and that batches and epochs never go back (R21).
#[derive(Default)]
pub struct Sequence {
    /// The highest so far, by lane.
    last: BTreeMap<usize, (Seq, Epoch)>,
    records: BTreeMap<usize, u64>,
    past: u64,
}

impl Sequence {
    pub fn look(
        &mut self,
        scope: &Scope,
        sight: &Sight<'_>,
        record: &Committed<'_>,
        report: &mut Report,
    ) {
        let topic = scope.lanes[sight.lane].topic;
        *self.records.entry(topic).or_default() += 1;
        if scope.is_past(record.stamp.as_ref(), record.at) {
            self.past += 1;
            return;
        }
        let finding = || Finding {
            key: Some(String::from_utf8_lossy(sight.key).into_owned()),
            offset: Some(record.offset),
            seq: sight.stamp.map(|stamp| stamp.seq),
            ..scope.at(sight.lane)
        };
        let Some(Stamp { epoch, seq, .. }) = sight.stamp else {
            if scope.headers {
                report.add(Kind::Foreign, finding);
            }
            return;
        };
        if seq > scope.published {
            if scope.stopped {
                report.add(Kind::Beyond, || Finding {
                    what: format!("committed are batches up to {}", scope.published),
                    ..finding()
                });
            }
            return;
        }
        let last = self.last.entry(sight.lane).or_insert((seq, epoch));
        let follows = match seq.cmp(&last.0) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => epoch == last.1,
            std::cmp::Ordering::Greater => epoch >= last.1,
        };
        if follows {
            *last = (seq, epoch);
        } else {
            report.add(Kind::Backwards, || Finding {
                what: format!("epoch {epoch}, after batch {} of epoch {}", last.0, last.1),
                ..finding()
            });
        }
    }

    /// What was read.
    pub fn tell(&self, scope: &Scope, report: &mut Report) {
        for (at, topic) in scope.topics.iter().enumerate() {
            let records = self.records.get(&at).copied().unwrap_or(0);
            let partitions = topic.spans.len();
            report.read(format!(
                "topic {}: {records} records in {partitions} partitions",
                topic.name
            ));
        }
        report.note(
            "{} records are of the history before a state reset",
            self.past,
        );
    }
}

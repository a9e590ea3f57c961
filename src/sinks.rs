//! Which followers a configuration asks for, and where each of them is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;

use crate::change::Seq;
use crate::clock;
use crate::config::Config;
use crate::dataflow::message::Who;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::follower::{Facts, Follower, Logs};
use crate::identity;
use crate::io::archive::{Archive, Control, Settings, System};
use crate::io::kafka::incarnation;
use crate::io::kafka::{self, KafkaPublisher, OPEN_MAX, Setup};
use crate::io::lineage;
use crate::io::local::{self, LocalPublisher};
use crate::io::object::Objects;
use crate::republish;
use crate::run::Options;
use crate::stop::Stop;

/// The followers of a run, and what the rest of it must know of them.
pub struct Sinks {
    /// Identity of the directory's history.
    pub lineage: String,
    /// Seed of all hashes.
    pub seed: u64,
    /// Where every follower is.
    pub positions: BTreeMap<Who, Seq>,
    /// By name.
    pub topics: BTreeMap<String, Topic>,
    /// Kafka or the local topic log; for measuring, nowhere.
    pub publish: Box<dyn Follower>,
    /// Objects, if any.
    pub archive: Option<Box<dyn Follower>>,
    /// What the followers count.
    pub counters: Counters,
    /// Asks whoever holds back the journal to let go (R29).
    pub relief: Relief,
}

/// Asks the archive to roll what holds back its position (R29).
#[derive(Clone, Default)]
pub struct Relief {
    control: Option<Arc<Control>>,
    asked: Arc<AtomicBool>,
}

impl Relief {
    /// Asks, once for each time that it is done.
    pub fn ask(&self) {
        if let Some(control) = &self.control
            && !self.asked.swap(true, Ordering::AcqRel)
        {
            control.relieve();
        }
    }
}

/// What the followers count.
#[derive(Clone, Default)]
pub struct Counters {
    /// Of Kafka.
    pub kafka: Option<Arc<kafka::Metrics>>,
    /// Of the archive.
    pub archive: Option<Arc<crate::io::archive::Metrics>>,
}

/// What `dedup` must know of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// The count that keys are mapped under (R22).
    pub partitions: u32,
    /// Bytes that a record may have.
    pub record_max: usize,
}

/// Opens the followers; `None`: stopped while waiting for Kafka.
///
/// # Errors
/// When the directory does not belong to what the configuration names.
pub fn open(
    config: &Config,
    directory: &Directory,
    options: Options,
    stop: &Stop,
    runtime: &Runtime,
) -> Result<Option<Sinks>, Fault> {
    let ledger = &directory.ledger;
    let lineage = lineage::open(ledger)?;
    // IMPORTANT: before anything is sealed or fenced (R17).
    let incarnation = incarnation::open(ledger, directory.start.seq)?;
    let mut followers = vec![Who::Remember, Who::Publish];
    followers.extend(config.archive.is_some().then_some(Who::Archive));
    let positions = directory.positions(&followers)?;
    let logs: Arc<dyn Logs> = Arc::new(ledger.clone());
    let facts: Arc<dyn Facts> = Arc::new(ledger.clone());
    let mut counters = Counters::default();
    let (publish, topics): (Box<dyn Follower>, _) = match &config.kafka {
        _ if options.discard => (
            Box::new(Discarding),
            without_kafka(config, ledger, positions[&Who::Publish])?,
        ),
        Some(_) => {
            let names = topic_names(config, ledger, positions[&Who::Publish])?;
            let flag = stop.flag();
            let Some(plan) = kafka::prepare(config, &names, ledger, &flag)? else {
                return Ok(None);
            };
            let publisher = KafkaPublisher::new(Setup {
                open_max: OPEN_MAX,
                config: Arc::new(config.clone()),
                topics: names,
                logs: logs.clone(),
                facts: facts.clone(),
                lineage: lineage.clone(),
                incarnation,
                position: positions[&Who::Publish],
                stop: flag,
                late: stop.late_flag(),
            });
            counters.kafka = Some(publisher.metrics());
            let record_max = config.limits.record_max.map_or(u64::MAX, |most| most.0);
            let topic = |(name, topic): (String, kafka::topics::Topic)| {
                let record_max = record_max.min(topic.record_max());
                let record_max = usize::try_from(record_max).unwrap_or(usize::MAX);
                (
                    name,
                    Topic {
                        partitions: topic.partitions,
                        record_max,
                    },
                )
            };
            (
                Box::new(publisher),
                plan.topics.into_iter().map(topic).collect(),
            )
        }
        None => {
            let publisher = LocalPublisher::open(local::Setup {
                data_dir: directory.path().to_owned(),
                retain: config.local.retain,
                lineage: lineage.clone(),
                logs: logs.clone(),
                position: positions[&Who::Publish],
                sealed: directory.start.seq,
            })?;
            (
                Box::new(publisher),
                without_kafka(config, ledger, positions[&Who::Publish])?,
            )
        }
    };
    let mut relief = Relief::default();
    let archive = match &config.archive {
        None => None,
        Some(archive) => {
            let objects = Objects::open(&archive.url, &archive.options, runtime.handle().clone())?;
            let mut settings = Settings::new(archive.roll, archive.codec, lineage.id.clone());
            settings.start = positions[&Who::Archive];
            let follower =
                Archive::new(settings, logs, facts, Arc::new(objects), Arc::new(System))?;
            counters.archive = Some(follower.metrics());
            relief.control = Some(follower.control());
            Some(Box::new(Closing {
                follower,
                flush: options.flush_archive,
                relief: relief.clone(),
            }) as Box<dyn Follower>)
        }
    };
    let (lineage, seed) = (lineage.id, lineage.hash_seed);
    Ok(Some(Sinks {
        lineage,
        seed,
        positions,
        topics,
        publish,
        archive,
        counters,
        relief,
    }))
}

/// Topics that are not Kafka's: one partition each.
fn without_kafka(
    config: &Config,
    facts: &dyn Facts,
    published: Seq,
) -> Result<BTreeMap<String, Topic>, Fault> {
    let record_max = (config.limits.record_max).map_or(u64::from(u32::MAX), |most| most.0);
    let topic = Topic {
        partitions: 1,
        record_max: usize::try_from(record_max).unwrap_or(usize::MAX),
    };
    let names = topic_names(config, facts, published)?;
    Ok(names.into_iter().map(|name| (name, topic)).collect())
}

/// Every topic that is configured or still named in the journal.
fn topic_names(config: &Config, facts: &dyn Facts, published: Seq) -> Result<Vec<String>, Fault> {
    let configured = config
        .source
        .keys()
        .map(|name| config.topic(name).to_owned());
    let known = identity::known(facts)?.into_iter().map(|cell| cell.topic);
    let old = republish::old_topics(facts, published)?;
    let mut names: Vec<String> = configured.chain(known).chain(old).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Publishes nowhere: what is sealed counts as published (see [`Options::discard`]).
struct Discarding;

impl Follower for Discarding {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        Ok(upto)
    }
}

/// An archive that may upload what waits before the end.
struct Closing {
    follower: Archive,
    flush: bool,
    relief: Relief,
}

impl Follower for Closing {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        let position = self.follower.advance(upto);
        self.relief.asked.store(false, Ordering::Release);
        position
    }

    fn close(&mut self, upto: Seq) -> Result<Seq, Fault> {
        if self.flush {
            self.follower.control().flush();
        }
        self.follower.advance(upto)
    }

    fn due(&self) -> Option<std::time::Instant> {
        if self.relief.asked.load(Ordering::Acquire) {
            return Some(clock::now());
        }
        self.follower.due()
    }
}

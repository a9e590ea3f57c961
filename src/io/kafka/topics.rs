//! Topics as the directory knows them, and as they are (R11, R22, R23, R32).
//!
//! The journal's facts hold the cluster's id (`kafka/cluster`), each topic's id, partition count and
//! size limit (`topic/<name>`), and the progress topic (`kafka/progress`): recorded on first sight,
//! compared ever after. The recorded partition count is the mapping of keys to partitions, for ever: a
//! raised count keeps it, with a warning; a lowered count, another topic id or another cluster is
//! refused.
//!
//! While Kafka is unreachable the plan is made of the facts, if they hold all topics (R18); what is
//! true is checked again when the publisher starts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deltapoll_state::fail;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Create};
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::kafka::admin::{Admin, Creation, TopicConfig};
use crate::io::kafka::describe::Described;
use crate::io::kafka::error::Error;
use crate::io::kafka::link::Backoff;
use crate::io::kafka::settings::{Settings, Sizes};

const CLUSTER: &str = "kafka/cluster";
const PROGRESS: &str = "kafka/progress";
const TOPIC: &str = "topic/";

/// The fact that records the topic `name`.
#[must_use]
pub fn fact(name: &str) -> String {
    format!("{TOPIC}{name}")
}

/// Facts from which a directory is made again: the progress topic, and the topics that keys are mapped
/// under; ids and limits are added when Kafka is asked.
#[must_use]
pub fn founding(config: &Config, partitions: &BTreeMap<String, u32>) -> Vec<(String, String)> {
    let progress = ProgressTopic {
        topic: config.progress_topic(),
        id: None,
    };
    let progress = serde_json::to_string(&progress).expect("plain data");
    let topic = |(name, partitions): (&String, &u32)| {
        let topic = Topic {
            id: None,
            partitions: *partitions,
            max_message_bytes: 0,
        };
        (
            fact(name),
            serde_json::to_string(&topic).expect("plain data"),
        )
    };
    let mut facts: Vec<_> = partitions.iter().map(topic).collect();
    facts.push((PROGRESS.into(), progress));
    facts
}

/// The topic `name` as the directory knows it.
///
/// # Errors
/// When the fact is damaged.
pub fn recorded(facts: &dyn Facts, name: &str) -> Result<Option<Topic>, Fault> {
    known(facts, &fact(name))
}

/// Changes stay readable one by one for so long (G1): 7 days.
const COMPACTION_LAG_MS: &str = "604800000";
/// What a record needs beside its key, value, source and cell: the batch's and the record's frame, and
/// the headers' names and numbers.
const RECORD_OVERHEAD: u64 = 320;

/// A topic under the mapping that this directory uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id; `None`: the brokers are too old for ids.
    pub id: Option<String>,
    /// The count that keys are mapped under.
    pub partitions: u32,
    /// The largest record batch that it takes.
    pub max_message_bytes: u64,
}

impl Topic {
    /// The most that key, value, source name and cell label of one record may take together (R11).
    #[must_use]
    pub fn record_max(&self) -> u64 {
        self.max_message_bytes.saturating_sub(RECORD_OVERHEAD)
    }
}

/// The topics that this run publishes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// By name.
    pub topics: BTreeMap<String, Topic>,
    /// Whether Kafka was asked; otherwise the plan is what the journal knows.
    pub confirmed: bool,
}

impl TopicPlan {
    pub(crate) fn sizes(&self) -> Sizes {
        let limits = || self.topics.values().map(|topic| topic.max_message_bytes);
        Sizes {
            largest: limits().max().unwrap_or(1_000_000),
            smallest: limits().min().unwrap_or(1_000_000),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ProgressTopic {
    topic: String,
    id: Option<String>,
}

/// Makes the plan for `topics` before anything is polled: asks Kafka, makes what is missing, and
/// compares with the facts. Waits for Kafka as long as the facts do not do. `None`: stopped meanwhile.
///
/// # Errors
/// When the cluster or a topic is not what the directory feeds, or a permanent cause stands against it.
pub fn prepare(
    config: &Config,
    topics: &[String],
    facts: &dyn Facts,
    stop: &AtomicBool,
) -> Result<Option<TopicPlan>, Fault> {
    let settings = Settings::read(config)?;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    let mut told = false;
    loop {
        let why = match survey(&settings, config, topics, facts, stop) {
            Ok(plan) => {
                warn_of_raised_counts(&plan);
                return Ok(Some(plan.plan));
            }
            Err(Error::Stopped) => return Ok(None),
            Err(Error::Stop(fault)) => return Err(fault),
            Err(Error::Retry(why) | Error::Redo { why, .. }) => why,
        };
        if let Some(plan) = remembered(config, topics, facts)? {
            tracing::warn!(
                "kafka cannot be asked about its topics ({why}); polling goes on with what the \
                 journal knows of them"
            );
            return Ok(Some(plan));
        }
        if !told {
            told = true;
            tracing::warn!("waiting for kafka, which has to be asked about new topics: {why}");
        }
        backoff.pause(|| stop.load(Ordering::Relaxed));
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
}

/// A plan that Kafka confirmed, and the topics that have more partitions than it uses.
pub(crate) struct Survey {
    pub(crate) plan: TopicPlan,
    raised: Vec<(String, u32, u32)>,
}

/// Asks Kafka once; makes what is missing, compares with the facts, records what is new.
pub(crate) fn survey(
    settings: &Settings,
    config: &Config,
    topics: &[String],
    facts: &dyn Facts,
    stop: &AtomicBool,
) -> Result<Survey, Error> {
    let admin = Admin::open(settings, stop)?;
    let cluster = admin.cluster_id()?;
    let mut news = compare_cluster(&cluster, settings, facts)?;
    let progress = config.progress_topic();
    let create = config.kafka.as_ref().map(|kafka| kafka.create);
    let create = create.unwrap_or_default();
    let mut names: Vec<&str> = topics.iter().map(String::as_str).collect();
    names.push(&progress);
    let described = ensure(&admin, &names, &progress, create, facts)?;
    let configs = admin.configs(&names)?;
    let mut survey = Survey {
        plan: TopicPlan {
            topics: BTreeMap::new(),
            confirmed: true,
        },
        raised: Vec::new(),
    };
    let last = names.len() - 1;
    let progress_fact = check_progress(&progress, &described[last], &configs[last], facts)?;
    for ((name, described), config) in names.iter().zip(&described).zip(&configs).take(last) {
        let topic = compare_topic(name, described, config, facts)?;
        if described.partitions > topic.partitions {
            let counts = (topic.partitions, described.partitions);
            survey.raised.push((name.to_string(), counts.0, counts.1));
        }
        record(&mut news, facts, format!("{TOPIC}{name}"), &topic);
        survey.plan.topics.insert(name.to_string(), topic);
    }
    record(&mut news, facts, PROGRESS.into(), &progress_fact);
    if !news.is_empty() {
        // IMPORTANT: synced before anything is polled or published under this mapping.
        facts.set(news, true)?;
    }
    Ok(survey)
}

/// The plan made of the facts alone, if they hold every topic.
fn remembered(
    config: &Config,
    topics: &[String],
    facts: &dyn Facts,
) -> Result<Option<TopicPlan>, Fault> {
    let progress: Option<ProgressTopic> = known(facts, PROGRESS)?;
    if progress.is_none_or(|progress| progress.topic != config.progress_topic()) {
        return Ok(None);
    }
    let mut plan = BTreeMap::new();
    for name in topics {
        let Some(topic) = known(facts, &format!("{TOPIC}{name}"))? else {
            return Ok(None);
        };
        plan.insert(name.clone(), topic);
    }
    Ok(Some(TopicPlan {
        topics: plan,
        confirmed: false,
    }))
}

type News = Vec<(String, Option<String>)>;

pub(super) fn compare_cluster(
    cluster: &str,
    settings: &Settings,
    facts: &dyn Facts,
) -> Result<News, Fault> {
    let mut news = News::new();
    match known::<String>(facts, CLUSTER)? {
        Some(known) if known != cluster => Err(Fault::directory(format!(
            "this directory feeds the kafka cluster '{known}', but {} is the cluster '{cluster}'; \
             point [kafka].bootstrap back, use another data_dir, or give this one up with \
             `deltapoll state reset`",
            settings.bootstrap()
        ))),
        _ => {
            record(&mut news, facts, CLUSTER.into(), &cluster.to_owned());
            Ok(news)
        }
    }
}

/// Describes `names` (the last is the progress topic), making those that are missing and that the
/// journal does not remember.
fn ensure(
    admin: &Admin<'_>,
    names: &[&str],
    progress: &str,
    create: Create,
    facts: &dyn Facts,
) -> Result<Vec<Described>, Error> {
    let mut made = false;
    let is_known = |name: &str| {
        let of_progress = name == progress && !fail::broken("r23");
        let of_topic = name != progress && !fail::broken("r22");
        of_progress && facts.get(PROGRESS).is_some() || of_topic && facts.get(&fact(name)).is_some()
    };
    for (name, described) in names.iter().zip(admin.describe_known(names, is_known)?) {
        if described.is_some() {
            continue;
        }
        let is_progress = *name == progress;
        if is_known(name) {
            return Err(gone(name, is_progress).into());
        }
        let topic = [
            ("cleanup.policy", "compact"),
            ("min.compaction.lag.ms", COMPACTION_LAG_MS),
        ];
        // Only the last record counts: small segments keep reading at start short.
        let one = [("cleanup.policy", "compact"), ("segment.ms", "3600000")];
        admin.create(&Creation {
            name,
            partitions: if is_progress { 1 } else { create.partitions },
            replication: create.replication,
            config: if is_progress { &one } else { &topic },
        })?;
        tracing::info!("created the topic '{name}'");
        made = true;
    }
    if made {
        // Other brokers may not know them yet: then again, soon.
        tracing::debug!("asking for the new topics");
    }
    let described = admin.describe(names)?;
    let present = |(name, described): (&&str, Option<Described>)| {
        described.ok_or_else(|| Error::Retry(format!("the topic '{name}' is not there yet")))
    };
    names.iter().zip(described).map(present).collect()
}

fn gone(name: &str, is_progress: bool) -> Fault {
    if is_progress {
        return Fault::directory(format!(
            "the progress topic '{name}' is gone, and with it the proof of what is published; \
             restore it, or begin anew with `deltapoll state reset`"
        ));
    }
    Fault::directory(format!(
        "the topic '{name}', which this directory feeds, is gone; restore it, publish to another \
         one (`topic`) with `deltapoll state republish`, or begin anew with `deltapoll state reset`"
    ))
}

fn compare_topic(
    name: &str,
    described: &Described,
    config: &TopicConfig,
    facts: &dyn Facts,
) -> Result<Topic, Fault> {
    let mut topic = Topic {
        id: described.id.clone(),
        partitions: described.partitions,
        max_message_bytes: config.max_message_bytes,
    };
    let Some(known) = known::<Topic>(facts, &fact(name))? else {
        return Ok(topic);
    };
    if fail::broken("r22") {
        return Ok(topic);
    }
    if let (Some(was), Some(is)) = (&known.id, &described.id)
        && was != is
    {
        return Err(Fault::directory(format!(
            "the topic '{name}' was deleted and made again: this directory feeds the one with id \
             {was}, the one there now has id {is}; publish everything again with `deltapoll state \
             republish`, or begin anew with `deltapoll state reset`"
        )));
    }
    if described.partitions < known.partitions {
        return Err(Fault::directory(format!(
            "the topic '{name}' has {} partitions, this directory maps keys to {}; restore it, \
             publish everything again with `deltapoll state republish`, or begin anew with \
             `deltapoll state reset`",
            described.partitions, known.partitions
        )));
    }
    topic.partitions = known.partitions;
    topic.id = topic.id.or(known.id);
    Ok(topic)
}

/// R23: the progress topic is ours alone, one partition, compacted and nothing else.
fn check_progress(
    name: &str,
    described: &Described,
    config: &TopicConfig,
    facts: &dyn Facts,
) -> Result<ProgressTopic, Fault> {
    let known: Option<ProgressTopic> = known(facts, PROGRESS)?;
    if fail::broken("r23") {
        return Ok(ProgressTopic {
            topic: name.into(),
            id: described.id.clone(),
        });
    }
    if let Some(known) = &known {
        if known.topic != name {
            return Err(Fault::directory(format!(
                "this directory's progress is in the topic '{}', the configuration says '{name}'; \
                 set [kafka].progress_topic back, or begin anew with `deltapoll state reset`",
                known.topic
            )));
        }
        if let (Some(was), Some(is)) = (&known.id, &described.id)
            && was != is
        {
            return Err(Fault::directory(format!(
                "the progress topic '{name}' was deleted and made again (id {was}, now {is}): the \
                 proof of what is published is lost; begin anew with `deltapoll state reset`"
            )));
        }
    }
    if described.partitions != 1 {
        return Err(Fault::directory(format!(
            "the progress topic '{name}' has {} partitions and must have one; name another one in \
             [kafka].progress_topic",
            described.partitions
        )));
    }
    if config.cleanup_policy.trim() != "compact" {
        return Err(Fault::directory(format!(
            "the progress topic '{name}' has cleanup.policy '{}', which forgets what is published; \
             set it to 'compact'",
            config.cleanup_policy
        )));
    }
    Ok(ProgressTopic {
        topic: name.into(),
        id: described.id.clone().or(known.and_then(|known| known.id)),
    })
}

fn warn_of_raised_counts(survey: &Survey) {
    for (name, mapped, there) in &survey.raised {
        tracing::warn!(
            "the topic '{name}' has {there} partitions; keys stay in the first {mapped}, as this \
             directory maps them (`deltapoll state republish` makes use of all)"
        );
    }
}

fn known<T: DeserializeOwned>(facts: &dyn Facts, name: &str) -> Result<Option<T>, Fault> {
    let Some(text) = facts.get(name) else {
        return Ok(None);
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Fault::directory(format!(
            "the journal's fact '{name}' is damaged ({error}); bring the directory back from a \
             copy, or begin anew with `deltapoll state reset`"
        ))
    })
}

/// Adds the fact to `news` unless it is known as it is.
fn record<T: Serialize>(news: &mut News, facts: &dyn Facts, name: String, value: &T) {
    let text = serde_json::to_string(value).expect("plain data");
    if facts.get(&name).as_ref() != Some(&text) {
        news.push((name, Some(text)));
    }
}

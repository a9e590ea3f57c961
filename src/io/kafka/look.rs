//! A look at the cluster that changes nothing: whether it answers, and what its topics are. For
//! commands that do not publish; in bounded time, without a producer.

use std::sync::atomic::AtomicBool;

use crate::config::Config;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::kafka::admin::Admin;
use crate::io::kafka::error::Error;
use crate::io::kafka::settings::Settings;
use crate::io::kafka::topics::{self, Topic, TopicPlan};

/// A topic as it is; `None`: there is none of that name.
pub type Seen = Option<Topic>;

/// What `names` are now, in their order; with `facts`, only of the cluster that these name.
///
/// # Errors
/// When Kafka does not answer within seconds, or is another cluster than the one in `facts`.
pub fn look(
    config: &Config,
    names: &[&str],
    facts: Option<&dyn Facts>,
) -> Result<Vec<Seen>, Fault> {
    let settings = Settings::read(config)?;
    let never = AtomicBool::new(false);
    let asked = || -> Result<Vec<Seen>, Error> {
        let admin = Admin::open(&settings, &never)?;
        let cluster = admin.cluster_id()?;
        if let Some(facts) = facts {
            topics::compare_cluster(&cluster, &settings, facts)?;
        }
        let described = admin.describe(names)?;
        let seen = described.into_iter().map(|described| {
            let described = described?;
            Some(Topic {
                id: described.id,
                partitions: described.partitions,
                max_message_bytes: 0,
            })
        });
        Ok(seen.collect())
    };
    asked().map_err(told)
}

/// What a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Of several records with one key, it may keep the last alone.
    pub compacts: bool,
    /// It may drop the oldest records.
    pub deletes: bool,
    /// But not of those that are younger than this.
    pub lag_ms: u64,
}

/// What `names`, which exist, keep, in their order.
///
/// # Errors
/// When Kafka does not answer within seconds.
pub fn keeping(config: &Config, names: &[&str]) -> Result<Vec<Keeping>, Fault> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let settings = Settings::read(config)?;
    let never = AtomicBool::new(false);
    let configs = Admin::open(&settings, &never).and_then(|admin| admin.configs(names));
    let keeping = configs.map_err(told)?.into_iter().map(|config| {
        let mut policies = config.cleanup_policy.split(',').map(str::trim);
        Keeping {
            compacts: policies.clone().any(|policy| policy == "compact"),
            deletes: policies.any(|policy| policy == "delete"),
            lag_ms: config.compaction_lag_ms,
        }
    });
    Ok(keeping.collect())
}

/// Compares `names` with what `facts` say of them, and adds to these what was not known. Makes no topic
/// that is among the facts.
///
/// # Errors
/// When Kafka does not answer within seconds, or a topic is another one, or gone.
pub fn compare(config: &Config, names: &[String], facts: &dyn Facts) -> Result<TopicPlan, Fault> {
    let settings = Settings::read(config)?;
    let never = AtomicBool::new(false);
    let survey = topics::survey(&settings, config, names, facts, &never);
    Ok(survey.map_err(told)?.plan)
}

fn told(error: Error) -> Fault {
    match error {
        Error::Stop(fault) => fault,
        other => Fault::failed(format!("kafka cannot be asked: {other}")),
    }
}

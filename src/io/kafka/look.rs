//! A look at the cluster that changes nothing: whether it answers, and what its topics are. For
//! commands that do not publish; in bounded time, without a producer.

use std::sync::atomic::AtomicBool;

use crate::config::Config;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::kafka::admin::Admin;
use crate::io::kafka::error::Error;
use crate::io::kafka::settings::Settings;
use crate::io::kafka::topics::{self, Topic};

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
    asked().map_err(|error| match error {
        Error::Stop(fault) => fault,
        other => Fault::failed(format!("kafka cannot be asked: {other}")),
    })
}

//! What has become of the topics that a source's records are in (R22, R32): whether there is something
//! to take back there, and whether keys stay where they are.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::identity::Known;
use crate::io::kafka::topics;

use super::Look;

/// What has become of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes records under the mapping that the directory knows.
    AsRecorded,
    /// It has more partitions than the mapping of keys.
    Raised,
    /// It is gone, or was made again.
    Lost,
}

/// A topic that records are in.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    pub standing: Standing,
    /// The count that its keys are mapped under (R22).
    pub partitions: u32,
}

/// What has become of the topics that `known` cells are in, by name.
pub fn standings(
    config: &Config,
    facts: &dyn Facts,
    known: &[Known],
    look: Look<'_>,
) -> Result<BTreeMap<String, Mapped>, Fault> {
    let mut names: Vec<&str> = known.iter().map(|known| known.topic.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut standings = BTreeMap::new();
    if config.kafka.is_none() {
        let mapped = Mapped {
            standing: Standing::AsRecorded,
            partitions: 1,
        };
        return Ok(names
            .iter()
            .map(|name| ((*name).to_owned(), mapped))
            .collect());
    }
    for (name, seen) in names.iter().zip(look(&names, facts)?) {
        let recorded = topics::recorded(facts, name)?;
        let standing = match (&recorded, &seen) {
            (None, _) | (_, None) => Standing::Lost,
            (Some(was), Some(is)) if was.id.is_some() && is.id.is_some() && was.id != is.id => {
                Standing::Lost
            }
            (Some(was), Some(is)) if is.partitions < was.partitions => Standing::Lost,
            (Some(was), Some(is)) if is.partitions > was.partitions => Standing::Raised,
            _ => Standing::AsRecorded,
        };
        let partitions = recorded.map_or(1, |topic| topic.partitions);
        standings.insert(
            (*name).to_owned(),
            Mapped {
                standing,
                partitions,
            },
        );
    }
    Ok(standings)
}

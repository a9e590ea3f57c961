//! The facts of a directory that is made again, and what its configuration says of its cells.

use std::collections::BTreeMap;

use crate::change::{CellId, Seq};
use crate::config::cell::Cell as Configured;
use crate::config::{Config, OnCellRemoved, Removed};
use crate::dataflow::message::Who;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::identity::{self, Known};
use crate::io::json::canonical::Canonical;
use crate::io::json::pointer::Pointer;
use crate::io::kafka::incarnation;
use crate::io::kafka::look;
use crate::io::kafka::progress::Progress;
use crate::io::kafka::topics;
use crate::io::lineage::Lineage;
use crate::rules::Rules;

use super::cells::{Cell, Cells, Made};
use super::draft::Draft;

/// The facts that follow from the progress record and the configuration, those of the archive left out.
///
/// # Errors
/// When the configuration names topics that were not published to, or they are not there any more
/// (exit 4).
pub fn draft(config: &Config, progress: &Progress) -> Result<Draft, Fault> {
    let topics = configured_topics(config, progress)?;
    let lineage = lineage(progress);
    let draft = Draft::default();
    draft.extend([
        lineage.fact(),
        incarnation::recorded(&progress.incarnation, Seq(progress.seq)),
    ]);
    let mapped: BTreeMap<String, u32> = topics
        .iter()
        .map(|name| (name.clone(), progress.partitions[name]))
        .collect();
    draft.extend(topics::founding(config, &mapped));
    // Nothing is made: all of them are among the facts.
    look::compare(config, &topics, &draft)?;
    identity::assign(config, &draft)?;
    for source in config.source.values() {
        Rules::number(&draft, &source.ignore)?;
    }
    let seq = progress.seq.to_string();
    draft.extend([Who::Remember, Who::Publish].map(|who| (who.fact().to_owned(), seq.clone())));
    Ok(draft)
}

/// Who the directory was.
#[must_use]
pub fn lineage(progress: &Progress) -> Lineage {
    Lineage {
        id: progress.lineage.clone(),
        hash_seed: progress.hash_seed,
        predecessor: progress.predecessor.clone(),
        earlier: Vec::new(),
        // The record does not say where a predecessor ended.
        after: 0,
    }
}

fn configured_topics(config: &Config, progress: &Progress) -> Result<Vec<String>, Fault> {
    let names = config
        .source
        .keys()
        .map(|name| config.topic(name).to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    let published = &progress.partitions;
    let Some(new) = names.iter().find(|name| !published.contains_key(*name)) else {
        return Ok(names);
    };
    let published: Vec<&str> = published.keys().map(String::as_str).collect();
    Err(Fault::directory(format!(
        "the topic '{new}' of the configuration is not one that '{}' published to ({}): put back the \
         settings that it published with, rebuild, and change them afterwards (`deltapoll state republish` \
         where `topic` changes)",
        config.name,
        published.join(", ")
    )))
}

/// The cells that `facts` and the configuration know, to be compared with records.
///
/// # Errors
/// When a cell's settings are not those of the directory (exit 4), or a fact is damaged.
pub fn cells(
    config: &Config,
    facts: &dyn Facts,
    seed: u64,
    partitions: BTreeMap<String, u32>,
    keeps_unknown: bool,
) -> Result<Cells, Fault> {
    let wanted = identity::wanted(config);
    let mut cells = Vec::new();
    for known in identity::known(facts)? {
        let same =
            |(_, w): &&(Configured, Known)| w.source == known.source && w.label == known.label;
        let configured = wanted.iter().find(same);
        let (made, ignore, rule) = match configured {
            Some((_, wanted)) if wanted.identity != known.identity => {
                return Err(identity::changed(&known));
            }
            Some((cell, _)) => {
                let source = &config.source[&known.source];
                let rule = Rules::number(facts, &source.ignore)?;
                let pointers = |texts: &[String]| -> Result<Vec<Pointer>, Fault> {
                    let parsed = texts.iter().map(|text| Pointer::parse(text));
                    parsed.collect::<Result<_, _>>().map_err(Fault::usage)
                };
                let made = Made {
                    prefix: cell.key_prefix.clone(),
                    suffix: cell.key_suffix.clone(),
                    keys: pointers(&source.key)?,
                    removed: source.removed,
                    keeps_keys: source.removed != Removed::Ignore,
                };
                (Some(made), pointers(&source.ignore)?, rule)
            }
            None => (None, Vec::new(), 0),
        };
        cells.push(Cell {
            id: CellId(known.id),
            source: known.source,
            label: known.label,
            topic: known.topic,
            made,
            canonical: Canonical::new(&ignore, seed),
            rule,
        });
    }
    let keeps = keeps_unknown || config.on_cell_removed == Some(OnCellRemoved::Keep);
    Ok(Cells::new(seed, cells, partitions, keeps))
}

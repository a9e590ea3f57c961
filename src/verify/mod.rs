//! `verify`: proves that topic, archive and state agree, or says where they do not.
//!
//! A differential computation: each side shows its changes, the topic with +1, the other side with -1;
//! what remains after consolidation disagrees. Nothing is written, made or fenced.
//!
//! * On a stopped pipeline: topic against archive (and against the journal for what no object has yet),
//!   change by change; the topic's last value of each key against the state. What is sealed and not
//!   published yet is told, and is no disagreement.
//! * On a running one: topic and archive up to the position that was read first.
//!
//! Memory: keys and changes are compared by ranges of hashes, in as many passes over all sides as fit.
//!
//! Layout, in reading order: [`standing`] is what the directory knows, [`scope`] what all sides speak
//! of; [`topic`], [`archive`] and [`state`] are the sides; [`table`] is one pass, [`compare`] all of
//! them; [`name`] finds out the keys of what is left, [`report`] tells it.

mod archive;
mod compare;
mod name;
mod report;
mod scope;
mod standing;
mod state;
mod table;
mod topic;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::change::Seq;
use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use crate::identity;
use crate::republish;
use crate::rules::Rules;

use archive::Archive;
use compare::{Counts, Sides};
use report::{Finding, Kind, Report};
use scope::{Scope, Watch};
use standing::Standing;
use state::State;
use topic::Topics;

/// Less would be a pass for each handful of changes.
const MEMORY_MIN: u64 = 16 << 10;

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether nothing disagrees.
    pub agrees: bool,
    /// What was read and what disagrees.
    pub text: String,
}

/// Verifies the pipeline of `config` in about `memory` bytes.
///
/// # Errors
/// When there is nothing to verify, the directory is damaged or not the one that published last, or a
/// side cannot be read.
pub fn verify(config: &Config, memory: u64, stop: Arc<AtomicBool>) -> Result<Verdict, Fault> {
    let began = clock::now();
    let watch = Watch::new(stop);
    let mut report = Report::default();
    let (sides, counts) = look(config, &mut report)?;
    let passes = counts.passes(memory.max(MEMORY_MIN));
    watch.expect(counts.read().saturating_mul(passes as u64));
    sides.compare(passes, &watch, &mut report)?;
    name::name(&sides, &watch, &mut report)?;
    drop(watch);
    let took = clock::now().duration_since(began).as_secs_f64();
    let s = if passes == 1 { "" } else { "es" };
    report.read(format!("compared in {passes} pass{s} and {took:.1} s"));
    Ok(Verdict {
        agrees: report.agrees(),
        text: report.text(&compared(&sides)),
    })
}

/// Which sides there are.
fn compared(sides: &Sides) -> String {
    let published = sides.scope.published;
    match (&sides.archive, &sides.state) {
        (Some(_), Some(_)) => "topic, archive and state".to_owned(),
        (None, Some(_)) => "topic and state".to_owned(),
        (Some(_), None) => format!("up to batch {published} topic and archive"),
        (None, None) => format!("up to batch {published} the topic's batches and epochs"),
    }
}

/// Finds all sides, and how much there is.
fn look(config: &Config, report: &mut Report) -> Result<(Sides, Counts), Fault> {
    let standing = Standing::find(config)?;
    let mut archive = Archive::open(config, &standing)?;
    let state = match standing.is_stopped() {
        true => Some(State::open(config, &standing)?),
        false => None,
    };
    if state.is_none() {
        report.note("a pipeline is running here: the state is not compared", 1);
    }
    let topics = Topics::open(config)?;
    let names = names(config, &standing, archive.as_ref(), state.as_ref())?;
    let mut scope = Scope {
        published: standing.published,
        floor: match &archive {
            Some(archive) => archive.start,
            None => Seq(standing.oldest.0 - 1),
        },
        after: standing.lineage.after,
        seed: standing.lineage.hash_seed,
        headers: config.kafka.as_ref().is_none_or(|kafka| kafka.headers),
        one_line: config.kafka.is_none(),
        stopped: standing.is_stopped(),
        archive: archive.is_some(),
        topics: topics.survey(config, &standing, &names, report)?,
        ..Scope::default()
    };
    let mut counts = Counts::default();
    for topic in 0..scope.topics.len() {
        for span in scope.topics[topic].spans.clone() {
            scope.lane(topic, span.partition);
            counts.records += span.offsets();
        }
    }
    if let Some(archive) = &mut archive {
        archive.survey(&mut scope)?;
        counts.archived = archive.changes;
    }
    if let Some(state) = &state {
        counts.entries = state.survey(report)?;
        counts.sealed = journal(config, &standing, &mut scope, report)?;
    }
    let sides = Sides {
        rules: Rules::read(&standing.facts)?,
        scope,
        standing,
        topics,
        archive,
        state,
    };
    Ok((sides, counts))
}

/// Every topic that somebody speaks of.
fn names(
    config: &Config,
    standing: &Standing,
    archive: Option<&Archive>,
    state: Option<&State>,
) -> Result<Vec<String>, Fault> {
    let configured = config.source.keys();
    let mut names: Vec<String> = configured
        .map(|name| config.topic(name).to_owned())
        .collect();
    let known = identity::known(&standing.facts)?.into_iter();
    names.extend(known.map(|cell| cell.topic));
    names.extend(republish::old_topics(&standing.facts, Seq(0))?);
    names.extend(archive.into_iter().flat_map(Archive::topics).cloned());
    names.extend(state.into_iter().flat_map(State::topics).cloned());
    names.sort();
    names.dedup();
    Ok(names)
}

/// Looks at what the journal holds: how many changes, how many of them are not published, and whether
/// the last published epoch is whole (R21).
fn journal(
    config: &Config,
    standing: &Standing,
    scope: &mut Scope,
    report: &mut Report,
) -> Result<u64, Fault> {
    let (mut count, mut waiting) = (0, 0);
    let before = Seq(standing.oldest.0 - 1);
    standing.changes(before, standing.sealed, &mut |head, frame, change| {
        count += 1;
        waiting += u64::from(frame.seq > standing.published && !change.silent);
        if let Some(topic) = scope.topic(&head.topic) {
            scope.lane(topic, change.partition);
        }
        Ok(())
    })?;
    report.read(format!(
        "journal: batches {} to {}, published up to {}",
        standing.oldest, standing.sealed, standing.published
    ));
    report.note("{} changes are sealed and not published yet", waiting);
    if let Some((first, last, bytes)) = standing.part()? {
        let limit = config.limits.transaction_bytes.0;
        if config.kafka.is_none() || (first > standing.oldest && bytes < limit) {
            report.add(Kind::Part, || Finding {
                seq: Some(last),
                what: format!(
                    "its epoch begins with batch {first} and goes on, with {bytes} bytes so far"
                ),
                ..Finding::default()
            });
        }
    }
    Ok(count)
}

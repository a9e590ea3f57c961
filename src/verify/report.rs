//! What was found: disagreements by kind, a few of each by name, and what was read.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::change::{KeyHash, Seq};

/// So many of a kind are told one by one.
const TOLD_MAX: usize = 20;

/// The kinds of disagreement, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A topic is not there, or another one has its name.
    Topic,
    /// A record that does not say what all of ours say.
    Foreign,
    /// A line of the local topic log that is none.
    Line,
    /// A record behind the last committed batch.
    Beyond,
    /// Batches or epochs that go back.
    Backwards,
    /// A part of an epoch is published.
    Part,
    /// An object that is not what it says, or not ours.
    Object,
    /// Changes that no object has.
    Gap,
    /// Changes that two objects have.
    Overlap,
    /// An object with changes that are not published.
    Ahead,
    /// A record that has no other side.
    TopicOnly,
    /// An archived or sealed change that has no record.
    Missing,
    /// A record that differs.
    Differs,
    /// Records of a batch in another order.
    Order,
    /// The topic's last value of a key is not what the state remembers.
    Value,
    /// A key of the state that the topic does not have.
    Forgotten,
    /// A key of the topic that the state does not have.
    Unremembered,
    /// Entries of a cell that the directory does not know.
    Cell,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Kind::Topic => "topics that are not the ones that this directory feeds",
            Kind::Foreign => "records that deltapoll did not write",
            Kind::Line => "lines of the topic log that are not what was written",
            Kind::Beyond => "records beyond the last committed batch",
            Kind::Backwards => "records whose batch or epoch goes back",
            Kind::Part => "epochs that are published in part",
            Kind::Object => "objects that are not sound",
            Kind::Gap => "changes that no object has",
            Kind::Overlap => "changes that several objects have",
            Kind::Ahead => "objects ahead of the topic",
            Kind::TopicOnly => "records in the topic that were never sealed or are not archived",
            Kind::Missing => "changes that the topic does not have",
            Kind::Differs => "records that differ between topic and archive or journal",
            Kind::Order => "batches whose records are in another order",
            Kind::Value => "keys whose last value is not what the state remembers",
            Kind::Forgotten => "keys of the state that the topic does not have",
            Kind::Unremembered => "keys of the topic that the state does not have",
            Kind::Cell => "cells in the state that the directory does not know",
        }
    }
}

/// One disagreement; what is not known of it is found out when all are counted.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Option<u32>,
    /// The key's hash.
    pub hash: Option<KeyHash>,
    /// The batch.
    pub seq: Option<Seq>,
    /// The key.
    pub key: Option<String>,
    /// Where in the topic.
    pub offset: Option<u64>,
    /// The object.
    pub object: Option<String>,
    /// Anything more.
    pub what: String,
}

impl Finding {
    fn line(&self) -> String {
        let mut line = "  ".to_owned();
        if !self.topic.is_empty() {
            let _ = write!(line, "topic {}, ", self.topic);
        }
        if let Some(partition) = self.partition {
            let _ = write!(line, "partition {partition}, ");
        }
        if let Some(offset) = self.offset {
            let _ = write!(line, "offset {offset}, ");
        }
        match (&self.key, self.hash) {
            (Some(key), _) => {
                let _ = write!(line, "key {key:?}, ");
            }
            (None, Some(hash)) => {
                let _ = write!(line, "key of hash {:032x}, ", hash.0);
            }
            (None, None) => {}
        }
        if let Some(seq) = self.seq.filter(|seq| *seq > Seq(0)) {
            let _ = write!(line, "batch {seq}, ");
        }
        if let Some(object) = &self.object {
            let _ = write!(line, "object {object}, ");
        }
        line.truncate(line.trim_end_matches(", ").len());
        match line.trim_start().is_empty() {
            _ if self.what.is_empty() => line,
            true => format!("  {}", self.what),
            false => format!("{line}: {}", self.what),
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    told: Vec<Finding>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Report {
    found: BTreeMap<Kind, Found>,
    notes: BTreeMap<String, u64>,
    read: Vec<String>,
}

impl Report {
    /// A disagreement; `finding` is made only if it is told.
    pub fn add(&mut self, kind: Kind, finding: impl FnOnce() -> Finding) {
        self.add_many(kind, 1, finding);
    }

    /// `count` disagreements that are told as one.
    pub fn add_many(&mut self, kind: Kind, count: u64, finding: impl FnOnce() -> Finding) {
        let found = self.found.entry(kind).or_default();
        found.count += count;
        if found.told.len() < TOLD_MAX {
            found.told.push(finding());
        }
    }

    /// Something that is as it should be and worth knowing, `count` times.
    pub fn note(&mut self, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.notes.entry(what.into()).or_default() += count;
        }
    }

    /// A line about what was read.
    pub fn read(&mut self, line: impl Into<String>) {
        self.read.push(line.into());
    }

    /// Whether nothing disagrees.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.found.is_empty()
    }

    /// What is told one by one, to be completed.
    pub fn told(&mut self) -> impl Iterator<Item = (Kind, &mut Finding)> {
        let each = self.found.iter_mut();
        each.flat_map(|(kind, found)| found.told.iter_mut().map(|finding| (*kind, finding)))
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self, compared: &str) -> String {
        let mut text = String::new();
        for line in &self.read {
            let _ = writeln!(text, "{line}");
        }
        for (what, count) in &self.notes {
            let _ = writeln!(text, "note: {}", what.replace("{}", &count.to_string()));
        }
        for (kind, found) in &self.found {
            let _ = writeln!(text, "DISAGREE: {}: {}", kind.title(), found.count);
            for finding in &found.told {
                let _ = writeln!(text, "{}", finding.line());
            }
            if found.count > found.told.len() as u64 {
                let _ = writeln!(text, "  and more: {} in all", found.count);
            }
        }
        let end = if self.agrees() {
            "agree"
        } else {
            "do NOT agree"
        };
        let _ = writeln!(text, "{compared} {end}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_twenty_of_a_kind_and_counts_them_all() {
        let mut report = Report::default();
        assert!(report.agrees());
        report.note("{} keys cannot be compared", 0);
        report.note("{} batches wait", 3);
        for offset in 0..25 {
            report.add(Kind::TopicOnly, || Finding {
                topic: "t".into(),
                partition: Some(2),
                offset: Some(offset),
                key: Some("k\n".into()),
                seq: Some(Seq(9)),
                ..Finding::default()
            });
        }
        let text = report.text("topic and state");
        assert!(
            text.starts_with("note: 3 batches wait\nDISAGREE: records in"),
            "{text}"
        );
        assert!(
            text.contains("  topic t, partition 2, offset 19, key \"k\\n\", batch 9\n"),
            "{text}"
        );
        assert!(!text.contains("offset 20,"), "{text}");
        assert!(
            text.ends_with("  and more: 25 in all\ntopic and state do NOT agree\n"),
            "{text}"
        );
    }
}

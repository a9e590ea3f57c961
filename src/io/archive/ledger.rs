//! What the journal remembers for the archive, as facts:
//!
//! * `archive/prefix`: the URL that belongs to this directory (R26);
//! * `archive/start`: where archiving began; 0 unless the archive was added later;
//! * `archive/position`: every change up to this batch is in an object, or need not be;
//! * `archive/<topic>/<p>` = `{"next","seq"}`: index of the next change, batch of the last archived.
//!
//! Facts are written synced, in one control frame: the position that `advance` returns lets the
//! journal forget changes, so it must not be ahead of the position that the next start reads.

use std::sync::Arc;

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

use super::lane::Lane;
use crate::change::Seq;
use crate::fault::Fault;
use crate::follower::Facts;

const PREFIX: &str = "archive/prefix";
const START: &str = "archive/start";
/// The fact that holds the position, from the first use of a prefix on.
pub const POSITION: &str = "archive/position";
const ALL: &str = "archive/";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneFact {
    next: u64,
    seq: u64,
}

/// The archive's facts.
pub struct Ledger {
    facts: Arc<dyn Facts>,
    position: Option<Seq>,
}

impl Ledger {
    /// Reads the position.
    ///
    /// # Errors
    /// When the fact does not make sense (exit 4).
    pub fn open(facts: Arc<dyn Facts>) -> Result<Ledger, Fault> {
        let position = facts
            .get(POSITION)
            .map(|text| parse(POSITION, &text))
            .transpose()?;
        let position = position.map(Seq);
        Ok(Ledger { facts, position })
    }

    /// The recorded position; `None`: this directory has never archived.
    pub fn position(&self) -> Option<Seq> {
        self.position
    }

    /// The lanes that have objects.
    ///
    /// # Errors
    /// When a fact does not make sense (exit 4).
    pub fn lanes(&self) -> Result<Vec<Lane>, Fault> {
        let mut lanes = Vec::new();
        for (name, text) in self.facts.under(ALL) {
            let Some((topic, partition)) = name[ALL.len()..].split_once('/') else {
                continue;
            };
            let partition = partition.parse().map_err(|_| senseless(&name, &text))?;
            let fact: LaneFact = parse(&name, &text)?;
            lanes.push(Lane::new(topic, partition, fact.next, Seq(fact.seq)));
        }
        Ok(lanes)
    }

    /// Whether `url` is the recorded prefix; `None`: none is recorded.
    ///
    /// # Errors
    /// When another is (exit 4).
    pub fn check_prefix(&self, url: &str) -> Result<bool, Fault> {
        let Some(text) = self.facts.get(PREFIX) else {
            return Ok(false);
        };
        let recorded: String = parse(PREFIX, &text)?;
        if recorded == url {
            return Ok(true);
        }
        Err(Fault::directory(format!(
            "this directory archives to {recorded}, but archive.url is {url}: objects would be \
             missing in both; set archive.url back to {recorded}, or start a new history with \
             'deltapoll state reset'"
        )))
    }

    /// Records that `url` belongs to this directory and that archiving begins after `start`.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn claim(&mut self, url: &str, start: Seq) -> Result<(), Fault> {
        let text = serde_json::to_string(url).expect("a string is JSON");
        let mut facts = vec![(PREFIX.to_owned(), Some(text))];
        if self.position.is_none() {
            facts.push((START.to_owned(), Some(start.to_string())));
            facts.push((POSITION.to_owned(), Some(start.to_string())));
        }
        self.facts.set(facts, true)?;
        self.position.get_or_insert(start);
        Ok(())
    }

    /// Records `lanes` and the position, if there is anything new in that.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn record<'a>(
        &mut self,
        lanes: impl Iterator<Item = &'a Lane>,
        position: Seq,
    ) -> Result<(), Fault> {
        assert!(
            self.position.is_none_or(|before| before <= position),
            "positions never go back"
        );
        let mut facts: Vec<_> = lanes.map(lane_fact).collect();
        if self.position != Some(position) {
            facts.push((POSITION.to_owned(), Some(position.to_string())));
        }
        if facts.is_empty() {
            return Ok(());
        }
        self.facts.set(facts, true)?;
        fail::step("archive.facts.after");
        self.position = Some(position);
        Ok(())
    }
}

fn lane_fact(lane: &Lane) -> (String, Option<String>) {
    let fact = LaneFact {
        next: lane.next,
        seq: lane.archived.0,
    };
    let text = serde_json::to_string(&fact).expect("two numbers are JSON");
    (
        format!("{ALL}{}/{}", lane.topic, lane.partition),
        Some(text),
    )
}

/// The facts of an archive that begins after `start`, is at `position`, and goes on after `lanes`.
pub fn founding(
    url: &str,
    start: Seq,
    position: Seq,
    lanes: impl Iterator<Item = Lane>,
) -> Vec<(String, String)> {
    let url = serde_json::to_string(url).expect("a string is JSON");
    let mut facts = vec![
        (PREFIX.to_owned(), url),
        (START.to_owned(), start.to_string()),
        (POSITION.to_owned(), position.to_string()),
    ];
    for lane in lanes {
        let (name, text) = lane_fact(&lane);
        facts.extend(text.map(|text| (name, text)));
    }
    facts
}

fn parse<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|_| senseless(name, text))
}

fn senseless(name: &str, text: &str) -> Fault {
    Fault::directory(format!(
        "the journal's fact '{name}' makes no sense: {text}"
    ))
}

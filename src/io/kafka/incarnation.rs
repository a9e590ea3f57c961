//! Which starts of this directory may have written a progress record (R17).
//!
//! Facts `incarnation/<n>` = `{"id","fencing","last"}`, by number. The highest is the current one. Its
//! last seq is fixed when the next one opens; until then whatever is sealed is sealed under it.
//!
//! Safety: a progress record is ours if it names an incarnation of this table and a seq that this
//! directory had sealed under it. A copy of a directory opens an incarnation of its own with a random
//! id, which the original never knows; what the original seals after the copy was taken is above the
//! last seq that the copy fixed. So whichever commits first, the other one sees that it is stale.

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

use crate::change::Seq;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::kafka::progress::Progress;

const PREFIX: &str = "incarnation/";

/// One start of a process on a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Counts the starts.
    pub n: u64,
    /// Random, 32 hexadecimal digits.
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: String,
    /// Whether it may have fenced, and so be in Kafka.
    fencing: bool,
    /// The last seq that was sealed under it; `None`: still current.
    last: Option<u64>,
}

/// Opens the next incarnation, synced; nothing may be sealed before this returns. `sealed` is the last
/// seq in the journal.
///
/// # Errors
/// When the table is damaged or cannot be written.
pub fn open(facts: &dyn Facts, sealed: Seq) -> Result<Incarnation, Fault> {
    let table = read(facts)?;
    let mut news = Vec::new();
    for (n, mut entry) in table.iter().cloned() {
        if !entry.fencing {
            // It never had a producer: it cannot be in Kafka.
            news.push((name(n), None));
        } else if entry.last.is_none() {
            entry.last = Some(sealed.0);
            news.push((name(n), Some(text(&entry))));
        }
    }
    let current = Incarnation {
        n: table.last().map_or(1, |(n, _)| n + 1),
        id: format!("{:032x}", rand::random::<u128>()),
    };
    let entry = Entry {
        id: current.id.clone(),
        fencing: false,
        last: None,
    };
    news.push((name(current.n), Some(text(&entry))));
    facts.set(news, true)?;
    Ok(current)
}

/// The fact that `shown`, which Kafka shows at `last`, is the only one that may have published (R35).
#[must_use]
pub fn recorded(shown: &Incarnation, last: Seq) -> (String, String) {
    let entry = Entry {
        id: shown.id.clone(),
        fencing: true,
        last: Some(last.0),
    };
    (name(shown.n), text(&entry))
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// Which start it was.
    #[serde(flatten)]
    pub incarnation: Incarnation,
    /// Whether it may be in Kafka.
    pub fencing: bool,
    /// The last seq that was sealed under it; `None`: it is the last one.
    pub last: Option<u64>,
}

/// The table, by number.
///
/// # Errors
/// When it is damaged.
pub fn table(facts: &dyn Facts) -> Result<Vec<Start>, Fault> {
    let start = |(n, entry): (u64, Entry)| Start {
        incarnation: Incarnation { n, id: entry.id },
        fencing: entry.fencing,
        last: entry.last,
    };
    Ok(read(facts)?.into_iter().map(start).collect())
}

/// Marks `current` as one that may be in Kafka, synced; must precede `init_transactions`.
pub(crate) fn mark_fencing(facts: &dyn Facts, current: &Incarnation) -> Result<(), Fault> {
    let entry = Entry {
        id: current.id.clone(),
        fencing: true,
        last: None,
    };
    let sync = !fail::broken("r17");
    facts.set(vec![(name(current.n), Some(text(&entry)))], sync)
}

/// Whether this directory wrote `record`, under any of its incarnations.
///
/// # Errors
/// When the table is damaged.
pub fn is_ours(facts: &dyn Facts, record: &Progress) -> Result<bool, Fault> {
    let table = read(facts)?;
    Ok(table.iter().any(|(n, entry)| {
        *n == record.incarnation.n
            && entry.id == record.incarnation.id
            && (entry.last.is_none_or(|last| record.seq <= last) || fail::broken("r17"))
    }))
}

/// Forgets incarnations before the one that Kafka shows: no record can name them any more.
pub(crate) fn prune(facts: &dyn Facts, shown: &Incarnation) -> Result<(), Fault> {
    let old = read(facts)?.into_iter().filter(|(n, _)| *n < shown.n);
    let news: Vec<_> = old.map(|(n, _)| (name(n), None)).collect();
    if news.is_empty() || fail::broken("r17") {
        return Ok(());
    }
    facts.set(news, false)
}

fn read(facts: &dyn Facts) -> Result<Vec<(u64, Entry)>, Fault> {
    let damaged = |name: &str| {
        Fault::directory(format!(
            "the journal's fact '{name}' is damaged; bring the directory back from a copy, or begin anew \
             with `deltapoll state reset`"
        ))
    };
    let one = |(name, text): (String, String)| {
        let n = name[PREFIX.len()..].parse().map_err(|_| damaged(&name))?;
        let entry = serde_json::from_str(&text).map_err(|_| damaged(&name))?;
        Ok((n, entry))
    };
    facts.under(PREFIX).into_iter().map(one).collect()
}

/// Padded, so that the order of names is the order of numbers.
fn name(n: u64) -> String {
    format!("{PREFIX}{n:020}")
}

fn text(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("plain data")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Table(Mutex<BTreeMap<String, String>>);

    impl Facts for Table {
        fn get(&self, name: &str) -> Option<String> {
            self.0.lock().expect("sound").get(name).cloned()
        }

        fn under(&self, prefix: &str) -> Vec<(String, String)> {
            let table = self.0.lock().expect("sound");
            let all = table.iter().filter(|(name, _)| name.starts_with(prefix));
            all.map(|(n, t)| (n.clone(), t.clone())).collect()
        }

        fn set(&self, facts: Vec<(String, Option<String>)>, _: bool) -> Result<(), Fault> {
            let mut table = self.0.lock().expect("sound");
            for (name, text) in facts {
                match text {
                    Some(text) => table.insert(name, text),
                    None => table.remove(&name),
                };
            }
            Ok(())
        }
    }

    fn record(incarnation: &Incarnation, seq: u64) -> Progress {
        Progress {
            version: 1,
            lineage: "l".into(),
            predecessor: None,
            hash_seed: 7,
            incarnation: incarnation.clone(),
            seq,
            epoch: 1,
            partitions: BTreeMap::new(),
        }
    }

    #[test]
    fn r17_an_incarnation_owns_what_was_sealed_under_it_and_no_more() {
        let facts = Table::default();
        let first = open(&facts, Seq(0)).expect("opens");
        mark_fencing(&facts, &first).expect("marks");
        assert!(is_ours(&facts, &record(&first, 40)).expect("reads"));
        let second = open(&facts, Seq(50)).expect("opens");
        assert_eq!(second.n, 2);
        assert!(is_ours(&facts, &record(&first, 50)).expect("reads"));
        assert!(
            !is_ours(&facts, &record(&first, 51)).expect("reads"),
            "sealed by another directory under the same incarnation"
        );
        let stranger = Incarnation {
            n: 2,
            id: "other".into(),
        };
        assert!(!is_ours(&facts, &record(&stranger, 1)).expect("reads"));
    }

    #[test]
    fn r17_an_incarnation_that_never_fenced_is_dropped_by_the_next() {
        let facts = Table::default();
        let first = open(&facts, Seq(0)).expect("opens");
        let second = open(&facts, Seq(3)).expect("opens");
        assert_eq!(second.n, 2);
        assert!(!is_ours(&facts, &record(&first, 1)).expect("reads"));
        assert_eq!(facts.under(PREFIX).len(), 1);
    }

    #[test]
    fn r17_what_is_older_than_the_shown_incarnation_is_pruned() {
        let facts = Table::default();
        let mut all = Vec::new();
        for n in 0..3 {
            let opened = open(&facts, Seq(n)).expect("opens");
            mark_fencing(&facts, &opened).expect("marks");
            all.push(opened);
        }
        prune(&facts, &all[1]).expect("prunes");
        assert!(!is_ours(&facts, &record(&all[0], 0)).expect("reads"));
        assert!(is_ours(&facts, &record(&all[1], 1)).expect("reads"));
        assert!(is_ours(&facts, &record(&all[2], 9)).expect("reads"));
    }
}

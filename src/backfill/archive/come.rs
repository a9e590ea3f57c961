//! How far a cell has come in an archive: the name part of its [`Place`](crate::snapshot::Place).
//!
//! It says of each partition which change is the next, and not only the epoch: objects of partitions are
//! put at their own pace, and so one that comes later may hold changes of epochs that were read before.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::change::Epoch;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Come {
    /// Whose archive it is.
    pub lineage: String,
    /// The last epoch; first in the text, so that places with one time are in its order.
    pub epoch: Epoch,
    /// By partition, the index of the first change that is not done.
    pub next: BTreeMap<u32, u64>,
}

const WORD: &str = "archive";

impl Come {
    pub fn read(name: &str) -> Option<Come> {
        let mut words = name.split(' ');
        let epoch = Epoch(words.next()?.parse().ok()?);
        let lineage = words.by_ref().nth(1).filter(|_| name.contains(WORD))?;
        let next = |word: &str| {
            let (partition, next) = word.split_once(':')?;
            Some((partition.parse().ok()?, next.parse().ok()?))
        };
        let come = Come {
            lineage: lineage.to_owned(),
            epoch,
            next: words.map(next).collect::<Option<_>>()?,
        };
        // A file may have any name, but hardly this one.
        (come.write() == name).then_some(come)
    }

    pub fn write(&self) -> String {
        let mut name = format!("{:020} {WORD} {}", self.epoch.0, self.lineage);
        for (partition, next) in &self.next {
            write!(name, " {partition}:{next}").expect("a String takes everything");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_no_file_is_taken_for_it() {
        let come = Come {
            lineage: "00ff".into(),
            epoch: Epoch(1_785_542_400_123),
            next: [(0, 7), (12, 1 << 40)].into(),
        };
        assert_eq!(Come::read(&come.write()), Some(come.clone()));
        let later = Come {
            epoch: Epoch(10_000_000_000_000_000_000),
            ..come
        };
        assert!(come_before(&later));
        for name in ["", "a.json", "7 archive x 0:1", "archive/x/2026 01.json"] {
            assert_eq!(Come::read(name), None, "{name}");
        }
    }

    fn come_before(later: &Come) -> bool {
        let sooner = Come {
            epoch: Epoch(9),
            ..later.clone()
        };
        sooner.write() < later.write()
    }
}

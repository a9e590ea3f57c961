//! Whether a topic still holds every change that is in no object yet (R35).
//!
//! A compacted topic forgets a record once a later one has its key, but never one that is younger than
//! `min.compaction.lag.ms`, nor anything behind it. So nothing is missing after the last archived change
//! of a topic-partition if what comes after it is young, and between the two lies no more than the end
//! of a transaction. What cannot be proven is a gap.

use std::collections::BTreeMap;

use crate::change::Seq;
use crate::fault::Fault;
use crate::io::archive::ends::Ends;
use crate::io::kafka::look::Keeping;
use crate::io::kafka::records::Mark;
use crate::io::published::Published;

/// What the clocks of brokers and of machines that polled may differ, as a part of the lag.
const MARGIN: u64 = 8;

/// See [`Gaps::find`].
pub type Hole<'a> = &'a dyn Fn(&str, u32, u64, u64) -> Result<u64, Fault>;

/// A topic's changes against what is in objects.
pub struct Gaps {
    /// By topic and partition.
    lanes: BTreeMap<String, BTreeMap<u32, Lane>>,
}

struct Lane {
    archived: Seq,
    mark: Mark,
    compacts: bool,
    /// Records that are not older than this are all there.
    young_ms: u64,
    /// The last record that is in an object.
    before: Option<Seen>,
    /// The first record without headers since.
    mute: Option<u64>,
    waits: bool,
    gap: Option<String>,
    /// Offsets that must hold nothing but the end of a transaction.
    suspect: Option<(u64, u64)>,
}

#[derive(Clone, Copy)]
struct Seen {
    offset: u64,
    young: bool,
}

impl Gaps {
    /// Nothing read yet. `ends` says what is in objects, `keeping` what topics keep.
    #[must_use]
    pub fn new(
        marks: &BTreeMap<String, BTreeMap<u32, Mark>>,
        ends: &Ends,
        keeping: &BTreeMap<String, Keeping>,
        now_ms: u64,
    ) -> Gaps {
        let mut lanes: BTreeMap<String, BTreeMap<u32, Lane>> = BTreeMap::new();
        for (topic, marks) in marks {
            let keeping = keeping.get(topic).copied();
            let lag = keeping.map_or(0, |keeping| keeping.lag_ms);
            for (partition, mark) in marks {
                let end = ends.get(&(topic.clone(), *partition));
                let archived = end.map_or(Seq(0), |(_, seq)| *seq);
                let lane = Lane {
                    archived,
                    mark: *mark,
                    compacts: keeping.is_none_or(|keeping| keeping.compacts),
                    young_ms: now_ms.saturating_sub(lag - lag / MARGIN),
                    before: None,
                    mute: None,
                    waits: false,
                    gap: None,
                    suspect: None,
                };
                lanes
                    .entry(topic.clone())
                    .or_default()
                    .insert(*partition, lane);
            }
        }
        Gaps { lanes }
    }

    /// Whether `record` is in no object yet.
    pub fn waits(&mut self, record: &Published<'_>) -> bool {
        let lanes = self.lanes.get_mut(record.topic);
        let lane = lanes.and_then(|lanes| lanes.get_mut(&record.partition));
        lane.is_some_and(|lane| lane.take(record))
    }

    /// The first gap; `None`: nothing is missing. `hole` says how many offsets in a row hold no record, of
    /// a topic's partition, between two.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn find(&mut self, hole: Hole<'_>) -> Result<Option<String>, Fault> {
        let lanes = self.lanes.iter_mut();
        let lanes = lanes.flat_map(|(topic, lanes)| lanes.iter_mut().map(move |l| (topic, l)));
        for (topic, (partition, lane)) in lanes {
            lane.end();
            let mut gap = lane.gap.take();
            if gap.is_none()
                && let Some((from, to)) = lane.suspect
                && hole(topic, *partition, from, to)? > 1
            {
                gap = Some(format!(
                    "between offsets {from} and {to} records may have been compacted away"
                ));
            }
            if let Some(gap) = gap {
                return Ok(Some(format!(
                    "topic '{topic}' partition {partition} after batch {}: {gap}",
                    lane.archived
                )));
            }
        }
        Ok(None)
    }
}

impl Lane {
    fn take(&mut self, record: &Published<'_>) -> bool {
        let young = !self.compacts || record.timestamp > self.young_ms;
        let offset = record.offset;
        let Some(told) = record.told else {
            self.mute.get_or_insert(offset);
            return false;
        };
        if told.seq <= self.archived {
            self.before = Some(Seen { offset, young });
            self.mute = None;
            return false;
        }
        self.hear();
        if !self.waits {
            self.waits = true;
            self.reaches(offset);
        }
        if !young {
            self.gap.get_or_insert_with(|| {
                format!(
                    "batch {} is older than the topic's min.compaction.lag.ms",
                    told.seq
                )
            });
        }
        true
    }

    /// The end of the partition is reached.
    fn end(&mut self) {
        self.hear();
        if !self.waits {
            self.reaches(self.mark.end);
        }
    }

    /// A record without headers after the last archived one may wait or not.
    fn hear(&mut self) {
        if let Some(mute) = self.mute {
            self.gap
                .get_or_insert_with(|| format!("the record at offset {mute} has no headers"));
        }
    }

    /// Nothing that waits is read before `next`: is that so because nothing was there?
    fn reaches(&mut self, next: u64) {
        let from = match self.before {
            Some(before) if before.young => return,
            Some(before) => before.offset + 1,
            // Where nothing is in an object, everything since the very first record waits.
            None if self.archived == Seq(0) => 0,
            None => {
                let gone = || "its last archived record is not in the topic any more".to_owned();
                self.gap.get_or_insert_with(gone);
                return;
            }
        };
        if from < self.mark.low {
            let low = self.mark.low;
            self.gap
                .get_or_insert_with(|| format!("the topic begins with offset {low} only"));
        } else if from < next {
            self.suspect = Some((from, next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Epoch, Kind};
    use crate::io::published::Told;

    const NOW_MS: u64 = 1_000_000_000;
    const LAG_MS: u64 = 80_000;
    const OLD: u64 = NOW_MS - LAG_MS;
    const YOUNG: u64 = NOW_MS - LAG_MS / 2;

    /// A partition of records (offset, time, seq; 0: no headers), of which those up to `archived` are in
    /// an object.
    struct Topic {
        archived: u64,
        mark: Mark,
        compacts: bool,
        hole: u64,
    }

    impl Topic {
        /// How many records wait, and the gap.
        fn look(&self, records: &[(u64, u64, u64)]) -> (usize, String) {
            let place = ("t".to_owned(), 0);
            let ends = match self.archived {
                0 => Ends::new(),
                seq => Ends::from([(place, (9, Seq(seq)))]),
            };
            let marks = BTreeMap::from([("t".to_owned(), BTreeMap::from([(0, self.mark)]))]);
            let keeping = Keeping {
                compacts: self.compacts,
                deletes: false,
                lag_ms: LAG_MS,
            };
            let keeping = BTreeMap::from([("t".to_owned(), keeping)]);
            let mut gaps = Gaps::new(&marks, &ends, &keeping, NOW_MS);
            let mut waits = 0;
            for (offset, timestamp, seq) in records {
                let told = Told {
                    kind: Kind::Added,
                    epoch: Epoch(*seq),
                    seq: Seq(*seq),
                    polled_at: *timestamp,
                    cell: None,
                };
                waits += usize::from(gaps.waits(&Published {
                    topic: "t",
                    partition: 0,
                    offset: *offset,
                    timestamp: *timestamp,
                    key: b"k",
                    value: None,
                    told: (*seq > 0).then_some(told),
                }));
            }
            let gap = gaps.find(&|_, _, _, _| Ok(self.hole)).unwrap();
            (waits, gap.unwrap_or_default())
        }
    }

    #[test]
    fn r35_what_may_have_been_compacted_away_is_a_gap_and_nothing_else_is() {
        let mark = |low, end| Mark { low, end };
        let topic = |archived, mark| Topic {
            archived,
            mark,
            compacts: true,
            hole: 1,
        };
        let seen = |topic: &Topic, records: &[(u64, u64, u64)], waits: usize, word: &str| {
            let (found, gap) = topic.look(records);
            assert_eq!(found, waits, "{records:?}");
            let right = if word.is_empty() {
                gap.is_empty()
            } else {
                gap.contains(word)
            };
            assert!(right, "{records:?}: {gap}, not {word}");
        };
        let seven = topic(7, mark(0, 20));
        seen(&seven, &[(3, YOUNG, 7), (9, YOUNG, 8)], 1, "");
        seen(&seven, &[(3, OLD, 7), (5, YOUNG, 8)], 1, "");
        seen(&seven, &[(3, OLD, 7), (5, OLD, 8)], 1, "batch 8 is older");
        seen(&seven, &[(5, YOUNG, 8)], 1, "not in the topic any more");
        seen(&seven, &[(3, YOUNG, 7)], 0, "");
        seen(&seven, &[], 0, "not in the topic any more");
        let holes = Topic {
            hole: 2,
            ..topic(7, mark(0, 20))
        };
        seen(
            &holes,
            &[(3, OLD, 7), (6, YOUNG, 8)],
            1,
            "between offsets 4 and 6",
        );
        seen(&holes, &[(3, OLD, 7)], 0, "between offsets 4 and 20");
        seen(&holes, &[(3, YOUNG, 7), (9, YOUNG, 8)], 1, "");
        let deletes = Topic {
            compacts: false,
            ..topic(7, mark(3, 20))
        };
        seen(&deletes, &[(3, OLD, 7), (9, OLD, 8)], 1, "");
        seen(&deletes, &[(5, OLD, 8)], 1, "not in the topic any more");
        // Nothing is in an object yet: all there ever was waits.
        seen(&topic(0, mark(0, 20)), &[(0, YOUNG, 1)], 1, "");
        seen(&topic(0, mark(0, 0)), &[], 0, "");
        seen(
            &topic(0, mark(4, 20)),
            &[(4, YOUNG, 1)],
            1,
            "begins with offset 4",
        );
        // Without headers nobody knows.
        seen(&seven, &[(3, YOUNG, 7), (4, YOUNG, 0)], 0, "no headers");
        seen(&seven, &[(2, OLD, 0), (3, YOUNG, 7)], 0, "");
        seen(&topic(0, mark(0, 20)), &[(0, YOUNG, 0)], 0, "no headers");
    }
}

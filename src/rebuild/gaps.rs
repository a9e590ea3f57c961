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
use crate::io::kafka::records::{Mark, Records};
use crate::io::published::Published;

/// What the clocks of brokers and of machines that polled may differ, as a part of the lag.
const MARGIN: u64 = 8;

/// A topic's changes against what is in objects.
pub struct Gaps {
    lanes: BTreeMap<(String, u32), Lane>,
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
        records: &Records,
        ends: &Ends,
        keeping: &BTreeMap<String, Keeping>,
        now_ms: u64,
    ) -> Gaps {
        let mut lanes = BTreeMap::new();
        for (topic, marks) in records.marks() {
            let keeping = keeping.get(topic).copied();
            let lag = keeping.map_or(0, |keeping| keeping.lag_ms);
            for (partition, mark) in marks {
                let place = (topic.clone(), *partition);
                let archived = ends.get(&place).map_or(Seq(0), |(_, seq)| *seq);
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
                lanes.insert(place, lane);
            }
        }
        Gaps { lanes }
    }

    /// Whether `record` is in no object yet.
    pub fn waits(&mut self, record: &Published<'_>) -> bool {
        let place = (record.topic.to_owned(), record.partition);
        let lane = self.lanes.get_mut(&place);
        lane.is_some_and(|lane| lane.take(record))
    }

    /// The first gap; `None`: nothing is missing.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn find(&mut self, records: &Records) -> Result<Option<String>, Fault> {
        for ((topic, partition), lane) in &mut self.lanes {
            lane.end();
            let mut gap = lane.gap.take();
            if gap.is_none()
                && let Some((from, to)) = lane.suspect
                && records.longest_hole(topic, *partition, from, to)? > 1
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

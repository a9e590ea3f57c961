//! The comparison: as many passes over all sides as fit into the memory, one range of hashes each, and
//! what is left of each pass judged.

use deltapoll_state::range::Range;

use crate::change::Seq;
use crate::clock;
use crate::fault::Fault;
use crate::io::committed::Stamp;
use crate::rules::Rules;

use super::archive::Archive;
use super::report::{Finding, Kind, Report};
use super::scope::{Scope, Sight, Watch};
use super::standing::Standing;
use super::state::State;
use super::table::{CHANGE_BYTES, Change, KEY_BYTES, Key, Order, Side, Table};
use super::topic::{Sequence, Topics};

/// The broker's clock and ours may differ by so much.
const CLOCKS_MS: u64 = 60_000;

/// All sides.
pub struct Sides {
    pub scope: Scope,
    pub standing: Standing,
    pub topics: Topics,
    pub archive: Option<Archive>,
    /// `None`: somebody writes there.
    pub state: Option<State>,
    pub rules: Rules,
}

/// How much there is, at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Offsets in topics.
    pub records: u64,
    pub archived: u64,
    /// In the journal.
    pub sealed: u64,
    pub entries: u64,
}

impl Counts {
    /// Passes that keep within `memory` bytes.
    pub fn passes(self, memory: u64) -> usize {
        let changes = self.records + self.archived + self.sealed;
        let keys = self.records + self.entries;
        let bytes = changes * CHANGE_BYTES + keys * KEY_BYTES;
        usize::try_from(bytes.div_ceil(memory)).map_or(usize::MAX, |passes| passes.max(1))
    }

    /// What one pass reads.
    pub fn read(self) -> u64 {
        self.records + self.archived
    }
}

impl Sides {
    /// Compares in `passes`.
    pub fn compare(&self, passes: usize, watch: &Watch, report: &mut Report) -> Result<(), Fault> {
        for pass in 0..passes {
            let range = Range::of(pass, passes);
            let mut table = Table::new(&self.scope, &self.rules, range);
            if let Some(state) = &self.state {
                state.each(
                    &self.scope,
                    &self.standing,
                    range,
                    &mut |topic, hash, print| {
                        table.state(topic, hash, print);
                    },
                )?;
            }
            self.read_topics(&mut table, pass == 0, watch, report)?;
            self.read_others(&mut table, pass == 0, watch, report)?;
            self.judge(&mut table, report);
        }
        Ok(())
    }

    fn read_topics(
        &self,
        table: &mut Table<'_>,
        first: bool,
        watch: &Watch,
        report: &mut Report,
    ) -> Result<(), Fault> {
        let scope = &self.scope;
        let mut sequence = Sequence::default();
        let wrong = self.topics.each(scope, watch, &mut |sight, record| {
            if first {
                sequence.look(scope, sight, record, report);
            }
            if scope.is_past(record.stamp.as_ref(), record.at) {
                return Ok(());
            }
            let has_other = match sight.stamp {
                Some(stamp) => scope.has_other_side(sight.lane, stamp.seq),
                None => !scope.headers,
            };
            if has_other {
                table.change(sight, Side::Topic);
            }
            table.value(sight);
            Ok(())
        })?;
        table.end(Side::Topic);
        if !first {
            return Ok(());
        }
        sequence.tell(scope, report);
        for (topic, partition, offset) in wrong {
            report.add(Kind::Line, || Finding {
                topic: scope.topics[topic].name.clone(),
                partition: Some(partition),
                offset: Some(offset),
                ..Finding::default()
            });
        }
        Ok(())
    }

    fn read_others(
        &self,
        table: &mut Table<'_>,
        first: bool,
        watch: &Watch,
        report: &mut Report,
    ) -> Result<(), Fault> {
        let scope = &self.scope;
        if let Some(archive) = &self.archive {
            let report = first.then_some(report);
            archive.each(scope, watch, report, &mut |sight, _| {
                let seq = sight.stamp.map_or(Seq(0), |stamp| stamp.seq);
                if scope.has_other_side(sight.lane, seq) {
                    table.change(sight, Side::Other);
                }
            })?;
        }
        if scope.stopped {
            watch.say("the journal");
            self.sealed(&mut |sight| {
                table.change(sight, Side::Other);
                Ok(())
            })?;
            self.standing.changes(
                scope.published,
                self.standing.sealed,
                &mut |head, _, change| {
                    if let Some(topic) = scope.topic(&head.topic) {
                        table.coming(topic, change);
                    }
                    Ok(())
                },
            )?;
        }
        table.end(Side::Other);
        Ok(())
    }

    /// Shows the published changes that the journal has and no object.
    pub fn sealed(
        &self,
        visit: &mut dyn FnMut(&Sight<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (scope, standing) = (&self.scope, &self.standing);
        let after = scope.floor.max(Seq(standing.oldest.0 - 1));
        if after >= scope.published {
            return Ok(());
        }
        standing.changes(after, scope.published, &mut |head, frame, change| {
            let topic = scope.topic(&head.topic);
            let lane = topic.and_then(|topic| scope.known_lane(topic, change.partition));
            let Some(lane) = lane.filter(|_| !change.silent) else {
                return Ok(());
            };
            if scope.archive && frame.seq <= scope.lanes[lane].archived {
                return Ok(());
            }
            visit(&Sight {
                lane,
                key: change.key.as_bytes(),
                hash: change.hash,
                stamp: Some(Stamp {
                    kind: change.kind,
                    epoch: frame.epoch,
                    seq: frame.seq,
                    polled_at: head.polled_at,
                }),
                value: change.value,
            })
        })
    }

    fn judge(&self, table: &mut Table<'_>, report: &mut Report) {
        let (keys, unknown) = table.consolidate();
        report.note(
            "{} keys have a fingerprint that this build cannot compare",
            unknown,
        );
        let of_key = |a: &(Change, isize), b: &(Change, isize)| {
            a.0.lane == b.0.lane && a.0.hash() == b.0.hash()
        };
        for left in table.changes.chunk_by(of_key) {
            self.judge_changes(left, table, report);
        }
        for left in table
            .orders
            .chunk_by(|a, b| (a.0.lane, a.0.seq) == (b.0.lane, b.0.seq))
        {
            self.judge_order(left, report);
        }
        if self.state.is_some() {
            for left in keys.chunk_by(|a, b| a.0.topic == b.0.topic && a.0.hash() == b.0.hash()) {
                self.judge_key(left, report);
            }
        }
    }

    /// What is left of one key's changes in a lane.
    fn judge_changes(&self, left: &[(Change, isize)], table: &Table<'_>, report: &mut Report) {
        let scope = &self.scope;
        for of_batch in left.chunk_by(|a, b| a.0.seq == b.0.seq) {
            let more = of_batch.iter().filter(|(_, diff)| *diff > 0).count();
            let change = of_batch[0].0;
            let lane = change.lane as usize;
            let archived = scope.archive && Seq(change.seq) <= scope.lanes[lane].archived;
            let finding = |what: &str| Finding {
                hash: Some(change.hash()),
                seq: Some(Seq(change.seq)),
                what: what.to_owned(),
                ..scope.at(lane)
            };
            if change.seq == 0 && more > 0 && !self.knows_all() {
                report.note(
                    "{} records without headers are not compared one by one",
                    more as u64,
                );
            } else if more == of_batch.len() {
                report.add(Kind::TopicOnly, || {
                    finding(match archived {
                        true => "not in the archive, or less often",
                        false => "not in the journal, or less often",
                    })
                });
            } else if more > 0 {
                report.add(Kind::Differs, || finding(""));
            } else if self.may_be_missing(&change, left, table) {
                report.note("{} changes are compacted or expired in the topic", 1);
            } else {
                report.add(Kind::Missing, || {
                    finding(match archived {
                        true => "in the archive; not in the topic, or less often",
                        false => "in the journal; not in the topic, or less often",
                    })
                });
            }
        }
    }

    /// Whether without headers each record of the topic has another side.
    fn knows_all(&self) -> bool {
        self.scope.stopped && self.scope.floor == Seq(0)
    }

    /// Whether the topic may have forgotten a change: expired from its front, or compacted, which needs
    /// age and a later record of the key, or that it is a tombstone.
    fn may_be_missing(&self, change: &Change, left: &[(Change, isize)], table: &Table<'_>) -> bool {
        let lane = &self.scope.lanes[change.lane as usize];
        let topic = &self.scope.topics[lane.topic];
        let first = table.first.get(&change.lane).copied();
        if topic.lost_front(lane.partition) && first.is_none_or(|first| change.seq <= first) {
            return true;
        }
        if !topic.keeping.compacts {
            return false;
        }
        if change.seq == 0 {
            return true;
        }
        let age = clock::unix_ms().saturating_sub(change.polled_at);
        let topic = u32::try_from(lane.topic).expect("far below 4 G topics");
        let known = table.keys.get(&(topic, change.hash()));
        let later = known.is_some_and(|known| known.last > change.seq)
            || left
                .iter()
                .any(|(other, diff)| *diff < 0 && other.seq > change.seq);
        let keeping = &self.scope.topics[lane.topic].keeping;
        age.saturating_add(CLOCKS_MS) >= keeping.lag_ms && (later || change.tombstone)
    }

    /// The same keys in another order; what differs otherwise is told by key.
    fn judge_order(&self, left: &[(Order, isize)], report: &mut Report) {
        let [(one, _), (other, _)] = left else { return };
        if (one.count, one.set) == (other.count, other.set) {
            report.add(Kind::Order, || Finding {
                seq: Some(Seq(one.seq)),
                ..self.scope.at(one.lane as usize)
            });
        }
    }

    fn judge_key(&self, left: &[(Key, isize)], report: &mut Report) {
        let (key, diff) = left[0];
        let topic = &self.scope.topics[key.topic as usize];
        let finding = || Finding {
            topic: topic.name.clone(),
            hash: Some(key.hash()),
            ..Finding::default()
        };
        if left.len() > 1 {
            report.add(Kind::Value, finding);
        } else if diff > 0 && topic.silent {
            report.note(
                "{} keys are gone without a record (removed = \"ignore\")",
                1,
            );
        } else if diff > 0 {
            report.add(Kind::Unremembered, finding);
        } else if topic
            .spans
            .iter()
            .any(|span| topic.lost_front(span.partition))
        {
            report.note(
                "{} keys of the state are older than what the topic keeps",
                1,
            );
        } else {
            report.add(Kind::Forgotten, finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_passes_as_keep_what_is_held_within_the_memory() {
        let counts = Counts {
            records: 1_000_000,
            archived: 1_000_000,
            sealed: 10,
            entries: 300,
        };
        let bytes = 2_000_010 * CHANGE_BYTES + 1_000_300 * KEY_BYTES;
        for (memory, passes) in [
            (bytes, 1),
            (bytes - 1, 2),
            (bytes / 2, 2),
            (bytes / 7 + 1, 7),
        ] {
            assert_eq!(counts.passes(memory), passes, "{memory}");
        }
        assert_eq!(Counts::default().passes(1), 1);
    }
}

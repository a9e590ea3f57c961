//! Names what is told: hashes are enough to compare, but a person wants the key, where it is in the
//! topic, and in which object. One more reading of the sides that know, only when something disagrees.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::{KeyHash, Seq};
use crate::fault::Fault;

use super::compare::Sides;
use super::report::{Finding, Kind, Report};
use super::scope::{Sight, Watch};

/// What was seen of one key.
#[derive(Default)]
struct Seen {
    key: String,
    /// Offset by topic, partition and batch; the last one counts.
    offsets: BTreeMap<(String, u32, Seq), u64>,
    /// Of each topic, the last.
    last: BTreeMap<String, (u32, u64)>,
    /// Objects by topic, partition and batch.
    objects: BTreeMap<(String, u32, Seq), String>,
}

type Names = BTreeMap<KeyHash, Seen>;

/// Completes what `report` tells one by one.
pub fn name(sides: &Sides, watch: &Watch, report: &mut Report) -> Result<(), Fault> {
    let unnamed =
        |(_, finding): (Kind, &mut Finding)| finding.hash.filter(|_| finding.key.is_none());
    let wanted: BTreeSet<KeyHash> = report.told().filter_map(unnamed).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let scope = &sides.scope;
    let mut names = Names::new();
    let place = |sight: &Sight<'_>| {
        let lane = &scope.lanes[sight.lane];
        let seq = sight.stamp.map_or(Seq(0), |stamp| stamp.seq);
        let seq = if scope.headers { seq } else { Seq(0) };
        (scope.topics[lane.topic].name.clone(), lane.partition, seq)
    };
    sides.topics.each(scope, watch, &mut |sight, record| {
        if let Some(seen) = seen(&mut names, &wanted, sight) {
            let place = place(sight);
            seen.last.insert(place.0.clone(), (place.1, record.offset));
            seen.offsets.insert(place, record.offset);
        }
        Ok(())
    })?;
    if let Some(archive) = &sides.archive {
        archive.each(scope, watch, None, &mut |sight, object| {
            if let Some(seen) = seen(&mut names, &wanted, sight) {
                seen.objects.insert(place(sight), object.to_owned());
            }
        })?;
    }
    if scope.stopped {
        sides.sealed(&mut |sight| {
            seen(&mut names, &wanted, sight);
            Ok(())
        })?;
    }
    for (kind, finding) in report.told() {
        complete(sides, &names, kind, finding)?;
    }
    Ok(())
}

fn seen<'a>(
    names: &'a mut Names,
    wanted: &BTreeSet<KeyHash>,
    sight: &Sight<'_>,
) -> Option<&'a mut Seen> {
    wanted.contains(&sight.hash).then(|| {
        let seen = names.entry(sight.hash).or_default();
        seen.key = String::from_utf8_lossy(sight.key).into_owned();
        seen
    })
}

fn complete(sides: &Sides, names: &Names, kind: Kind, finding: &mut Finding) -> Result<(), Fault> {
    let Some(hash) = finding.hash.filter(|_| finding.key.is_none()) else {
        return Ok(());
    };
    if let Some(seen) = names.get(&hash) {
        finding.key = Some(seen.key.clone());
        match (finding.partition, finding.seq) {
            (Some(partition), Some(seq)) => {
                let place = (finding.topic.clone(), partition, seq);
                finding.offset = seen.offsets.get(&place).copied();
                finding.object = seen.objects.get(&place).cloned();
            }
            _ if kind != Kind::Forgotten => {
                if let Some((partition, offset)) = seen.last.get(&finding.topic) {
                    (finding.partition, finding.offset) = (Some(*partition), Some(*offset));
                }
            }
            _ => {}
        }
    } else if let Some(state) = &sides.state {
        finding.key = state.key(&finding.topic, hash)?;
    }
    Ok(())
}

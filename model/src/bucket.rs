//! The archive: objects that are put once, and judged by content.

use crate::action::{Action, Successor};
use crate::bounds::{Bounds, Broken};
use crate::journal::sync;
use crate::process::refuse;
use crate::state::{Bucket, Exit, Object, Process, Seq, State};

pub(crate) fn successors(state: &State, bounds: &Bounds, at: usize, out: &mut Vec<Successor>) {
    let Some(process) = state.processes[at].as_ref().filter(|p| p.begun) else {
        return;
    };
    if !bounds.archive {
        return;
    }
    if process.archived > process.facts.archived {
        let mut next = *state;
        record(&mut next, bounds, at);
        out.push((Action::RecordArchived { at }, next));
        return;
    }
    for upto in ends(state, bounds, at) {
        let mut next = *state;
        put(&mut next, bounds, at, upto);
        out.push((Action::Put { at, upto }, next));
        if state.spent.losses == bounds.losses || state.bucket.late.is_some() {
            continue;
        }
        let Some(object) = roll(state, at, upto) else {
            continue;
        };
        // The connection ends, nothing is there: PUT again, and the first one may still arrive.
        let mut next = *state;
        next.spent.losses += 1;
        next.bucket.late = Some(object);
        if bounds.is(Broken::R25AmbiguousIsDone) {
            next.process(at).archived = upto;
        }
        out.push((Action::PutLate { at, upto }, next));
    }
}

/// A PUT of which nobody knows arrives; only the first one of a name counts.
pub(crate) fn late(state: &State, out: &mut Vec<Successor>) {
    if let Some(object) = state.bucket.late {
        let mut next = *state;
        next.bucket.late = None;
        create(&mut next.bucket, object);
        out.push((Action::LatePut, next));
    }
}

/// R24: where an object may end: after any epoch that is published.
fn ends(state: &State, bounds: &Bounds, at: usize) -> Vec<Seq> {
    let (Some(directory), Some(process)) = (&state.directories[at], &state.processes[at]) else {
        return Vec::new();
    };
    let limit = match bounds.is(Broken::R24AheadOfPublish) {
        true => process.published.map(|_| process.sealed),
        false => process.published,
    };
    let from = process.archived.max(process.archive_from) + 1;
    (from..=limit.unwrap_or(0))
        .filter(|seq| directory.batch(*seq).is_none_or(|batch| batch.last))
        .collect()
}

/// What waits up to `upto`; `None`: the journal does not hold it.
fn roll(state: &State, at: usize, upto: Seq) -> Option<Object> {
    let directory = state.directories[at].as_ref().expect("it is there");
    let process = state.processes[at].as_ref().expect("it runs");
    let from = process.archived.max(process.archive_from) + 1;
    let records = (from..=upto).map(|seq| directory.batch(seq));
    Some(Object {
        first: process.archived + 1,
        records: records.collect::<Option<Vec<_>>>()?.into_iter().collect(),
    })
}

/// R25.
fn put(state: &mut State, bounds: &Bounds, at: usize, upto: Seq) {
    let Some(object) = roll(state, at, upto) else {
        return refuse(state, at, Exit::Directory);
    };
    let name = object.first;
    let there = state
        .bucket
        .objects
        .iter()
        .find(|o| o.first == name)
        .copied();
    let settled = match there {
        None => {
            create(&mut state.bucket, object);
            Some(upto)
        }
        Some(_) if bounds.is(Broken::R25Overwrites) => {
            let mut all = state.bucket.objects.iter_mut();
            *all.find(|o| o.first == name).expect("it is there") = object;
            Some(upto)
        }
        Some(_) if bounds.is(Broken::R25NotJudged) => Some(upto),
        Some(_) if bounds.is(Broken::R25AlwaysConflict) => None,
        Some(there) => judge(state, at, &there),
    };
    match settled {
        Some(last) => state.process(at).archived = last,
        None => refuse(state, at, Exit::Directory),
    }
}

fn create(bucket: &mut Bucket, object: Object) {
    if bucket
        .objects
        .iter()
        .all(|there| there.first != object.first)
    {
        bucket.objects.push(object);
    }
}

/// What is there is ours if it is published and holds our changes over its range; then its end counts.
fn judge(state: &State, at: usize, there: &Object) -> Option<Seq> {
    let directory = state.directories[at].as_ref().expect("it is there");
    let published = state.processes[at].as_ref().and_then(|p| p.published)?;
    let last = there.records.last()?.seq;
    let mut records = there.records.iter();
    let ours = records.all(|record| {
        directory
            .batch(record.seq)
            .is_some_and(|ours| ours.is(record))
    });
    (last <= published && ours).then_some(last)
}

/// R24: after the object its facts, synced; the position is below what is in no object.
fn record(state: &mut State, bounds: &Bounds, at: usize) {
    let process: &mut Process = state.process(at);
    process.facts.archived = process.archived;
    process.facts.archive = match bounds.is(Broken::R24PositionIsRead) {
        true => process.published.unwrap_or(process.archived),
        false => process.archived,
    };
    sync(state, at);
}

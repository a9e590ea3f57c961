//! The journal of a running process: decide and append, seal, retire.

use crate::action::{Action, Successor};
use crate::bounds::{Bounds, Broken};
use crate::state::{Batch, Directory, KEYS, Process, Seq, State, Step, answer, seen_by};

pub(crate) fn successors(state: &State, bounds: &Bounds, at: usize, out: &mut Vec<Successor>) {
    let (Some(directory), Some(process)) = (&state.directories[at], &state.processes[at]) else {
        return;
    };
    if !process.begun || process.publisher.step == Step::Stopped {
        return;
    }
    // R1: the next poll is requested when the last one's outcome is back.
    if directory.tail.is_empty() {
        // R9: what validators describe is not asked for again.
        let unasked = bounds.validators && process.facts.validators == state.world;
        if process.decided != answer(state.world) && !unasked {
            out.push((Action::Poll { at, new: false }, poll(state, bounds, at)));
        }
        if state.world < bounds.worlds {
            let mut next = *state;
            next.world += 1;
            let next = poll(&next, bounds, at);
            out.push((Action::Poll { at, new: true }, next));
        }
    } else {
        let mut next = *state;
        sync(&mut next, at);
        out.push((Action::Sync { at }, next));
        if state.spent.crashes < bounds.crashes {
            out.push((Action::SyncFails { at }, sync_fails(state, bounds, at)));
        }
    }
    let past = past(process, bounds);
    if bounds.retire && directory.oldest <= past && directory.tail.is_empty() {
        let mut next = *state;
        retire(&mut next, bounds, at, past);
        out.push((Action::Retire { at }, next));
    }
}

/// R12: a snapshot's changes are the frames of one epoch, contiguous; the last one is marked.
fn poll(state: &State, bounds: &Bounds, at: usize) -> State {
    let mut next = *state;
    let world = next.world;
    let seen = answer(world);
    let (directory, process) = next.both(at);
    let changed: Vec<usize> = (0..KEYS)
        .filter(|key| process.decided[*key] != seen[*key])
        .collect();
    if bounds.rot > 0 {
        directory.proven = directory.end();
    }
    for key in &changed {
        let seq = directory.tail.last().map_or(directory.end(), |b| b.seq) + 1;
        let batch = Batch {
            seq,
            key: u8::try_from(*key).expect("few keys"),
            value: seen[*key],
            last: Some(key) == changed.last(),
            by: process.by,
            after: decided_by(directory, seq - 1),
        };
        directory.tail.push(batch);
        process.decided[*key] = batch.value;
        if bounds.is(Broken::R12SeenBeforeSync) {
            show(directory, process, batch);
        }
    }
    if bounds.is(Broken::R09BeforeSeal) {
        directory.facts.validators = world;
    }
    next
}

/// Ghost: who decided batch `seq` of this directory.
fn decided_by(directory: &Directory, seq: Seq) -> u8 {
    let held = directory.batch(seq);
    let held = held.or_else(|| directory.history.iter().find(|b| b.seq == seq).copied());
    held.map_or(0, |batch| batch.by)
}

/// A batch is sealed: followers see it, and it is a promise (G3).
pub(crate) fn show(directory: &mut Directory, process: &mut Process, batch: Batch) {
    process.sealed = batch.seq;
    process.values[usize::from(batch.key)] = batch.value;
    promise(directory, batch);
}

/// Ghost.
pub(crate) fn promise(directory: &mut Directory, batch: Batch) {
    if batch.seq > directory.history.last().map_or(0, |last| last.seq) {
        directory.history.push(batch);
    }
}

/// R12: one fsync makes durable all that was appended, with the facts that ride in it (R9) and lazy ones,
/// and shows it to followers.
pub(crate) fn sync(state: &mut State, at: usize) {
    let (directory, process) = state.both(at);
    if let Some(world) = seen_by(&directory.tail) {
        process.facts.validators = world;
    }
    directory.facts = process.facts;
    let tail = directory.tail;
    for batch in tail.iter().copied() {
        directory.batches.push(batch);
        if batch.seq > process.sealed {
            show(directory, process, batch);
        }
    }
    directory.tail.truncate(0);
}

/// R15: a failed fsync ends the process: what is in the page cache can be read and may never become
/// durable, whatever a later fsync says.
fn sync_fails(state: &State, bounds: &Bounds, at: usize) -> State {
    let mut next = *state;
    next.spent.crashes += 1;
    if bounds.is(Broken::R15GoesOn) {
        sync(&mut next, at);
        next.directory(at).cached = true;
    } else {
        next.processes[at] = None;
    }
    next
}

/// R30: what all followers are past.
fn past(process: &Process, bounds: &Bounds) -> Seq {
    let facts = &process.facts;
    let mut past = facts.publish;
    if !bounds.is(Broken::R30NotRemember) {
        past = past.min(facts.remember);
    }
    if bounds.archive && !bounds.is(Broken::R30NotArchive) {
        past = past.min(facts.archive);
    }
    past
}

/// R14, R30: a new segment, whose header repeats all facts; then older ones are deleted.
fn retire(state: &mut State, bounds: &Bounds, at: usize, past: Seq) {
    if !bounds.is(Broken::R30PositionsLater) {
        sync(state, at);
    }
    let directory = state.directory(at);
    directory.batches.retain(|batch| batch.seq > past);
    directory.oldest = past + 1;
}

//! A process: how it starts, and what `remember` does in it.

use crate::action::{Action, Successor};
use crate::bounds::{Bounds, Broken};
use crate::faults::is_backup;
use crate::journal::{promise, sync};
use crate::properties::Property;
use crate::state::{
    Directory, Exit, Incarnation, KEYS, Process, Publisher, Seq, State, Step, begins_with, fold,
    seen_by,
};

pub(crate) fn successors(state: &State, bounds: &Bounds, at: usize, out: &mut Vec<Successor>) {
    let Some(directory) = &state.directories[at] else {
        return;
    };
    let Some(process) = &state.processes[at] else {
        let most = bounds.crashes + bounds.stops + bounds.mixes + bounds.restarts;
        let may_start = directory.ended.is_none() && directory.starts <= most;
        if may_start && !is_backup(state, bounds, at) {
            let mut next = *state;
            open(&mut next, bounds, at);
            out.push((Action::Open { at }, next));
        }
        return;
    };
    if !process.begun {
        let mut next = *state;
        begin(&mut next, bounds, at);
        out.push((Action::Begin { at }, next));
        return;
    }
    if !bounds.remember {
        return;
    }
    for worker in 0..KEYS {
        if process.written[worker] < process.sealed {
            let mut next = *state;
            write_pages(&mut next, bounds, at, worker);
            out.push((Action::WritePages { at, worker }, next));
        }
    }
    if process.facts.remember < reported(process, bounds) {
        let mut next = *state;
        flush(&mut next, bounds, at);
        out.push((Action::Flush { at }, next));
    }
}

/// The journal is opened: what was durable must be there, what is kept becomes durable, positions must
/// make sense.
fn open(state: &mut State, bounds: &Bounds, at: usize) {
    let directory = state.directory(at);
    directory.starts += 1;
    if !recover(directory, bounds) {
        refuse(state, at, Exit::Directory);
        return;
    }
    let sealed = directory.end();
    let kept: Vec<_> = directory.batches.to_vec();
    kept.iter().for_each(|batch| promise(directory, *batch));
    // G3: what was sealed is there; and nothing else.
    let promised = directory.history.last().map_or(0, |last| last.seq);
    let held = directory.history.get(usize::from(directory.oldest) - 1..);
    let lost = !directory.damaged
        && (sealed < promised || held.is_none_or(|held| !begins_with(held, &directory.batches)));
    let halved = directory.batches.last().is_some_and(|batch| !batch.last);
    if !bounds.is(Broken::R16Unchecked) && !are_sound(directory, bounds) {
        refuse(state, at, Exit::Directory);
        return;
    }
    let directory = state.directory(at);
    if bounds.rot > 0 {
        directory.proven = directory.end();
    }
    let facts = directory.facts;
    let silent = directory.rotten > 0;
    if lost || halved || silent {
        state.find(Property::G3);
    }
    state.processes[at] = Some(Process {
        begun: false,
        facts,
        n: 0,
        id: 0,
        by: 0,
        sealed,
        decided: Default::default(),
        values: Default::default(),
        written: [facts.remember; KEYS],
        publisher: Publisher {
            step: Step::Out,
            position: facts.publish,
            committed: false,
            epoch: 0,
            fenced: 0,
        },
        published: None,
        archive_from: facts.archive,
        archived: facts.archived,
    });
}

/// R13: what is damage. R12: an unfinished epoch is cut. R14: what is kept without proof is durable in
/// a new segment before anybody reads it. False: damaged.
fn recover(directory: &mut Directory, bounds: &Bounds) -> bool {
    if directory.hole {
        return false;
    }
    if directory.rotten > 0 {
        if !bounds.is(Broken::R13DamageIsTorn) {
            return false;
        }
        let kept = usize::from(directory.rotten.saturating_sub(directory.oldest));
        directory.batches.truncate(kept);
        directory.tail.truncate(0);
    }
    if directory.torn {
        if bounds.is(Broken::R13TornIsDamage) {
            return false;
        }
        // It was not synced when the frames after it were written: the file ends here.
        directory.tail.truncate(0);
        directory.torn = false;
    }
    if !bounds.is(Broken::R12HalfEpochKept) {
        let whole = directory.tail.iter().rposition(|batch| batch.last);
        directory.tail.truncate(whole.map_or(0, |last| last + 1));
    }
    if bounds.is(Broken::R14NotWrittenAnew) && !directory.tail.is_empty() {
        directory.cached = true;
    }
    let tail = directory.tail;
    if let Some(world) = seen_by(&tail) {
        directory.facts.validators = world;
    }
    for batch in tail.iter().copied() {
        directory.batches.push(batch);
    }
    directory.tail.truncate(0);
    true
}

/// R16, and R27 of the store: positions are within the journal, pages are of its time.
fn are_sound(directory: &Directory, bounds: &Bounds) -> bool {
    let (facts, end) = (&directory.facts, directory.end());
    let within = |position| directory.oldest <= position + 1 && position <= end;
    let pages = &directory.pages;
    within(facts.remember)
        && within(facts.publish)
        && (!bounds.archive || within(facts.archive))
        && facts.remember <= pages.at
        && pages.at <= end
        && (pages.begun <= end || bounds.is(Broken::R16PagesAhead))
}

/// A process ends with exit 3 or 4, and is not started again.
pub(crate) fn refuse(state: &mut State, at: usize, exit: Exit) {
    if !is_asked_for(state, at) {
        state.find(Property::Refusal);
    }
    state.directory(at).ended = Some(exit);
    state.processes[at] = None;
}

/// Whether the protocol asks for a refusal: something happened to the directory's files, or what is
/// committed is not of this directory's history.
fn is_asked_for(state: &State, at: usize) -> bool {
    let directory = state.directories[at].as_ref().expect("it is there");
    let of_others = |by: u8| directory.known & (1 << by) == 0;
    let broker = &state.broker;
    let stale = broker.progress.is_some_and(|record| of_others(record.by))
        || !begins_with(&directory.history, &broker.topic);
    directory.damaged || stale
}

/// R17: a new incarnation, before anything is sealed or fenced. R28: the state is what was sealed.
fn begin(state: &mut State, bounds: &Bounds, at: usize) {
    state.starts += 1;
    let by = state.starts;
    let (directory, process) = state.both(at);
    directory.known |= 1 << by;
    process.by = by;
    let table = &mut process.facts.table;
    match table.last().copied() {
        Some(last) if bounds.is(Broken::R17SameIncarnation) => {
            (process.n, process.id) = (last.n, last.id);
        }
        newest => {
            (process.n, process.id) = (newest.map_or(1, |row| row.n + 1), by);
            table.retain(|row| row.fencing);
            let sealed = process.sealed;
            for row in table.iter_mut() {
                row.last.get_or_insert(sealed);
            }
            table.push(Incarnation {
                n: process.n,
                id: process.id,
                fencing: false,
                last: None,
            });
        }
    }
    process.begun = true;
    let start = directory.pages.values;
    let after = process.facts.remember;
    let unread = directory.batches.iter().filter(|b| b.seq > after);
    let unread: Vec<_> = unread.copied().collect();
    process.values = match bounds.is(Broken::R28NoReplay) {
        true => start,
        false => fold(start, &unread),
    };
    process.decided = process.values;
    if !bounds.is(Broken::R17NotSynced) {
        sync(state, at);
    }
}

/// R27: pages are written from what is sealed, by each worker those of its range: here, of its key.
fn write_pages(state: &mut State, bounds: &Bounds, at: usize, worker: usize) {
    let (directory, process) = state.both(at);
    directory.pages.values[worker] = match bounds.is(Broken::R27AheadOfSeal) {
        true => process.decided[worker],
        false => process.values[worker],
    };
    // R16: said before they are written, or pages of now would be taken for those of an older journal.
    directory.pages.begun = process.sealed;
    process.written[worker] = process.sealed;
    if bounds.is(Broken::R27PositionFirst) {
        directory.pages.at = reported(process, bounds);
        process.facts.remember = reported(process, bounds);
    }
}

/// R27: one position for all workers, the least of what they report.
fn reported(process: &Process, bounds: &Bounds) -> Seq {
    let written = process.written.iter().copied();
    let reported = match bounds.is(Broken::R27Greatest) {
        true => written.max(),
        false => written.min(),
    };
    reported.expect("there are workers")
}

fn flush(state: &mut State, bounds: &Bounds, at: usize) {
    let (directory, process) = state.both(at);
    let mark = reported(process, bounds);
    directory.pages.at = mark;
    directory.flushed = directory.pages;
    process.facts.remember = mark;
}

//! What may go wrong around processes: they are killed, power is cut, directories are copied, lost,
//! damaged, put together from different times.

use crate::action::{Action, Successor};
use crate::bounds::Bounds;
use crate::state::{Directory, State};

pub(crate) fn successors(state: &State, bounds: &Bounds, at: usize, out: &mut Vec<Successor>) {
    let Some(directory) = &state.directories[at] else {
        return;
    };
    if state.spent.crashes == bounds.crashes || directory.ended.is_some() {
        return;
    }
    let running = state.processes[at].is_some();
    let volatile = !directory.tail.is_empty()
        || directory.cached
        || directory.torn
        || directory.pages != directory.flushed;
    // sled writes by itself: what was not flushed may be there or not.
    let choices: &[bool] = match directory.pages == directory.flushed {
        true => &[true],
        false => &[true, false],
    };
    for &pages in choices {
        for keep in 0..=directory.tail.len() {
            if running {
                let next = crash(state, at, keep, pages);
                out.push((Action::Kill { at, keep, pages }, next));
            }
            if running || volatile {
                let next = power_cut(state, at, keep, pages);
                out.push((power(at, keep, pages, false), next));
            }
        }
        if volatile && directory.tail.len() > 1 {
            let mut next = power_cut(state, at, 0, pages);
            next.directory(at).torn = true;
            next.directory(at).tail = directory.tail;
            out.push((power(at, 0, pages, true), next));
        }
    }
}

fn power(at: usize, keep: usize, pages: bool, torn: bool) -> Action {
    Action::PowerCut {
        at,
        keep,
        pages,
        torn,
    }
}

/// The process is gone. Of what it wrote and did not sync a part was still in its own memory.
fn crash(state: &State, at: usize, keep: usize, pages: bool) -> State {
    let mut next = *state;
    next.spent.crashes += 1;
    next.processes[at] = None;
    let directory = next.directory(at);
    directory.tail.truncate(keep);
    if !pages {
        directory.pages = directory.flushed;
    }
    next
}

/// So is the page cache.
fn power_cut(state: &State, at: usize, keep: usize, pages: bool) -> State {
    let mut next = crash(state, at, keep, pages);
    let directory = next.directory(at);
    directory.flushed = directory.pages;
    if directory.cached {
        directory.hole = true;
    }
    next
}

/// What happens to directories as a whole.
pub(crate) fn of_all(state: &State, bounds: &Bounds, out: &mut Vec<Successor>) {
    crate::broker::expire(state, bounds, out);
    let Some(first) = &state.directories[0] else {
        return;
    };
    let free = state.directories[1].is_none() && state.rebuild.is_none();
    if state.spent.copies < bounds.copies && free && first.starts > 0 {
        for (tail, pages) in [(true, true), (true, false), (false, true), (false, false)] {
            // What is nowhere else is in the page cache, or still in the process.
            if (tail || !first.tail.is_empty()) && (pages || first.pages != first.flushed) {
                let next = copy(state, first, tail, pages);
                out.push((Action::Copy { tail, pages }, next));
            }
        }
    }
    if state.spent.lost_disks < bounds.lost_disks && state.broker.progress.is_some() {
        let mut next = *state;
        next.spent.lost_disks += 1;
        next.directories[0] = None;
        next.processes[0] = None;
        out.push((Action::LoseDisk, next));
    }
    mix(state, bounds, out);
    if state.processes[0].is_some() {
        return;
    }
    if state.spent.rot < bounds.rot && first.rotten == 0 {
        let batches = first.batches.iter();
        for batch in batches.filter(|batch| batch.seq <= first.proven) {
            let mut next = *state;
            next.spent.rot += 1;
            next.directory(0).rotten = batch.seq;
            next.directory(0).damaged = true;
            out.push((Action::Rot { seq: batch.seq }, next));
        }
    }
}

/// A copy is durable.
fn copy(state: &State, first: &Directory, tail: bool, pages: bool) -> State {
    let mut next = *state;
    next.spent.copies += 1;
    let pages = match pages {
        true => first.pages,
        false => first.flushed,
    };
    let mut copy = Directory {
        starts: 0,
        ended: None,
        pages,
        flushed: pages,
        ..*first
    };
    if !tail {
        copy.tail.truncate(0);
    }
    // What never fenced until now is dropped by the copy (R17); should the original fence later, the copy
    // is stale.
    for row in first.facts.table.iter().filter(|row| !row.fencing) {
        copy.known &= !(1 << row.id);
    }
    next.directories[1] = Some(copy);
    next
}

/// Where a part of it is to be mixed with another directory, a copy is not started before.
pub(crate) fn is_backup(state: &State, bounds: &Bounds, at: usize) -> bool {
    let unmixed = |directory: &Directory| directory.starts == 0 && !directory.damaged;
    at == 1 && bounds.mixes > 0 && state.directories[1].as_ref().is_some_and(unmixed)
}

/// All is stopped; a part of a directory comes from a copy, and the rest of the other one is gone: older
/// pages, or pages of now under an older journal.
fn mix(state: &State, bounds: &Bounds, out: &mut Vec<Successor>) {
    let (Some(first), Some(second)) = (&state.directories[0], &state.directories[1]) else {
        return;
    };
    if state.spent.mixes == bounds.mixes || second.starts > 0 || first.pages == second.pages {
        return;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let mut next = *state;
        next.spent.mixes += 1;
        let pages = next.directory(from).pages;
        let directory = next.directory(to);
        (directory.pages, directory.flushed) = (pages, pages);
        directory.damaged = true;
        next.directories[from] = None;
        next.processes = Default::default();
        out.push((Action::Mix { from, to }, next));
    }
}

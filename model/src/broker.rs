//! Publishing: the start protocol, transactions, and the one way back from their errors.
//!
//! The broker keeps one transaction per epoch of our transactional id. `init_transactions` aborts what
//! is open and raises the epoch; whatever comes of an older epoch is refused from then on.

use crate::action::{Action, Successor};
use crate::bounds::{Bounds, Broken};
use crate::journal::sync;
use crate::process::refuse;
use crate::state::{Batch, Broker, Exit, Progress, Seq, State, Step, Transaction};

/// Fenced this often before the first commit: somebody else is alive (R19; three in the program).
const FENCED_MAX: u8 = 2;

pub(crate) fn successors(state: &State, bounds: &Bounds, at: usize, out: &mut Vec<Successor>) {
    let Some(process) = state.processes[at].as_ref().filter(|p| p.begun) else {
        return;
    };
    let mut then = |action, work: &dyn Fn(&mut State)| {
        let mut next = *state;
        work(&mut next);
        out.push((action, next));
    };
    let publisher = &process.publisher;
    let early = matches!(publisher.step, Step::Out | Step::Judged | Step::Marked);
    if early && !publisher.committed && state.spent.stops < bounds.stops {
        then(Action::Stop { at }, &|next| stop(next, bounds, at));
    }
    match publisher.step {
        Step::GaveUp => {}
        Step::Stopped => then(Action::End { at }, &|next| next.processes[at] = None),
        Step::Out if !publisher.committed => {
            then(Action::ReadProgress { at }, &|next| {
                first_read(next, bounds, at)
            });
        }
        Step::Judged => then(Action::MarkFencing { at }, &|next| mark(next, bounds, at)),
        Step::Out | Step::Marked => then(Action::Init { at }, &|next| init(next, at)),
        Step::Inited => then(Action::ReadAgain { at }, &|next| {
            read_again(next, bounds, at)
        }),
        Step::First | Step::Ready => {
            for upto in ends(state, bounds, at) {
                then(Action::Produce { at, upto }, &|next| {
                    produce(next, bounds, at, upto, false);
                });
                if state.spent.losses < bounds.losses && publisher.step == Step::Ready {
                    then(Action::ProduceUnanswered { at, upto }, &|next| {
                        next.spent.losses += 1;
                        produce(next, bounds, at, upto, true);
                    });
                }
            }
        }
        Step::Sent(upto) => {
            then(Action::Commit { at }, &|next| commit(next, at, upto));
            if is_fenced(state, at) || state.spent.losses == bounds.losses {
                return;
            }
            then(Action::CommitUnanswered { at }, &|next| {
                next.spent.losses += 1;
                settle(&mut next.broker);
                redo(next, bounds, at);
            });
            then(Action::CommitLate { at }, &|next| {
                next.spent.losses += 1;
                next.broker.late_commit = Some(next.broker.epoch);
                redo(next, bounds, at);
            });
        }
    }
}

/// What arrives, or happens, when nobody waits for it.
pub(crate) fn late(state: &State, out: &mut Vec<Successor>) {
    let broker = &state.broker;
    if let Some(epoch) = broker.late_commit {
        let mut next = *state;
        next.broker.late_commit = None;
        if epoch == broker.epoch {
            settle(&mut next.broker);
            out.push((Action::LateCommit, next));
        }
    }
    if let Some((epoch, batch)) = broker.late_record
        && epoch == broker.epoch
    {
        let mut next = *state;
        next.broker.late_record = None;
        let open = next.broker.open.get_or_insert_default();
        open.batches.push(batch);
        out.push((Action::LateRecord, next));
    }
}

/// R21: where a transaction may end: after any epoch that is sealed; where epochs are larger than a
/// transaction, after any batch.
fn ends(state: &State, bounds: &Bounds, at: usize) -> Vec<Seq> {
    let (Some(directory), Some(process)) = (&state.directories[at], &state.processes[at]) else {
        return Vec::new();
    };
    let position = process.publisher.position;
    if process.publisher.step == Step::First {
        return vec![position];
    }
    let cut = bounds.large_epochs || bounds.is(Broken::R21HalfEpoch);
    (position + 1..=process.sealed)
        // A batch that is gone is asked for all the same, and found missing.
        .filter(|seq| directory.batch(*seq).is_none_or(|batch| batch.last || cut))
        .collect()
}

/// R31: the publisher gives up. R24: what the journal knows of its position may be older than what is
/// published and archived, so that the archive is told nothing.
fn stop(state: &mut State, bounds: &Bounds, at: usize) {
    state.spent.stops += 1;
    let process = state.process(at);
    process.publisher.step = Step::Stopped;
    if bounds.is(Broken::R24BeforeStart) {
        process.published = Some(process.publisher.position);
    }
}

/// R18: progress is read before anybody is fenced.
fn first_read(state: &mut State, bounds: &Bounds, at: usize) {
    match judge(state, bounds, at) {
        Err(exit) => refuse(state, at, exit),
        Ok(position) => {
            let publisher = &mut state.process(at).publisher;
            publisher.step = Step::Judged;
            if bounds.is(Broken::R18ReadOnce) {
                publisher.position = position;
            }
        }
    }
}

/// R17: the mark is synced before `init_transactions`.
fn mark(state: &mut State, bounds: &Bounds, at: usize) {
    let process = state.process(at);
    process.publisher.step = Step::Marked;
    if !bounds.is(Broken::R17NoMark) {
        let n = process.n;
        let rows = process.facts.table.iter_mut();
        rows.filter(|row| row.n == n)
            .for_each(|row| row.fencing = true);
    }
    if !bounds.is(Broken::R17NotSynced) {
        sync(state, at);
    }
}

/// R18, R19: what is open is aborted, and its producer fenced, whoever that is.
fn init(state: &mut State, at: usize) {
    raise(&mut state.broker);
    let epoch = state.broker.epoch;
    let publisher = &mut state.process(at).publisher;
    publisher.epoch = epoch;
    publisher.step = Step::Inited;
}

/// Aborts what is open; older epochs are refused from now on.
fn raise(broker: &mut Broker) {
    broker.epoch += 1;
    broker.open = None;
    broker.late_commit = None;
    broker.late_record = None;
}

/// The second read of R18, and the way back of R19.
fn read_again(state: &mut State, bounds: &Bounds, at: usize) {
    let publisher = state.process(at).publisher;
    let unread = match publisher.committed {
        true => bounds.is(Broken::R19FromMemory),
        false => bounds.is(Broken::R18ReadOnce),
    };
    let judged = match unread {
        true => Ok(publisher.position),
        false => judge(state, bounds, at),
    };
    let position = match judged {
        Err(exit) => return refuse(state, at, exit),
        Ok(position) => position,
    };
    let shown = state.broker.progress;
    let process = state.process(at);
    process.publisher.position = position;
    process.facts.publish = position;
    if let Some(shown) = shown {
        // R17: no record can name an older one any more.
        process.facts.table.retain(|row| row.n >= shown.n);
    }
    if publisher.committed {
        process.publisher.step = Step::Ready;
        process.published = Some(position);
    } else {
        process.publisher.step = Step::First;
    }
}

/// Whether the committed record is ours, and what it proves (R17, R18, R19).
fn judge(state: &State, bounds: &Bounds, at: usize) -> Result<Seq, Exit> {
    let process = state.processes[at].as_ref().expect("it runs");
    let publisher = &process.publisher;
    let Some(record) = state.broker.progress else {
        return match publisher.position == 0 && !publisher.committed {
            true => Ok(0),
            false => Err(Exit::Directory),
        };
    };
    let ours = process.facts.table.iter().any(|row| {
        let within = row.last.is_none_or(|last| record.seq <= last);
        (row.n, row.id) == (record.n, record.id) && (within || bounds.is(Broken::R17NoLastSeq))
    });
    let current = (record.n, record.id) == (process.n, process.id);
    match publisher.committed {
        true if !ours || !current => Err(Exit::Fenced),
        false if !ours => Err(Exit::Directory),
        _ if record.seq < publisher.position => Err(Exit::Directory),
        _ => Ok(record.seq),
    }
}

fn is_fenced(state: &State, at: usize) -> bool {
    let process = state.processes[at].as_ref().expect("it runs");
    process.publisher.epoch != state.broker.epoch
}

/// R21: whole epochs, and last the record that says so. `unanswered`: the last change is on its way.
fn produce(state: &mut State, bounds: &Bounds, at: usize, upto: Seq, unanswered: bool) {
    if is_fenced(state, at) {
        return fenced(state, at);
    }
    let (directory, process) = state.both(at);
    let position = process.publisher.position;
    let batches: Option<Vec<Batch>> = (position + 1..=upto).map(|s| directory.batch(s)).collect();
    let Some(mut batches) = batches else {
        return refuse(state, at, Exit::Directory);
    };
    let process = state.process(at);
    let seq = match bounds.is(Broken::R21ProgressLater) {
        true => position,
        false => upto,
    };
    let progress = Progress {
        n: process.n,
        id: process.id,
        seq,
        by: process.by,
    };
    let epoch = state.broker.epoch;
    if unanswered {
        state.broker.late_record = batches.pop().map(|batch| (epoch, batch));
    }
    let open: &mut Transaction = state.broker.open.get_or_insert_default();
    batches.iter().for_each(|batch| open.batches.push(*batch));
    if unanswered && !bounds.is(Broken::R21NotAwaited) {
        return redo(state, bounds, at);
    }
    open.progress = Some(progress);
    state.process(at).publisher.step = Step::Sent(upto);
}

/// R21: only when the commit is answered the new position is proven.
fn commit(state: &mut State, at: usize, upto: Seq) {
    if is_fenced(state, at) {
        return fenced(state, at);
    }
    settle(&mut state.broker);
    let process = state.process(at);
    process.publisher.position = upto;
    process.publisher.committed = true;
    process.publisher.step = Step::Ready;
    process.facts.publish = upto;
    process.published = Some(upto);
}

/// The open transaction is committed.
fn settle(broker: &mut Broker) {
    let Some(open) = broker.open.take() else {
        return;
    };
    open.batches
        .iter()
        .for_each(|batch| broker.topic.push(*batch));
    if open.progress.is_some() {
        broker.progress = open.progress;
    }
}

/// R19, R20: the producer is dropped, whatever the error was; the next one finds out, for as long as it
/// takes.
fn redo(state: &mut State, bounds: &Bounds, at: usize) {
    let publisher = &mut state.process(at).publisher;
    if bounds.is(Broken::R19Abort) && publisher.step == Step::Ready {
        state.broker.open = None;
        return;
    }
    publisher.step = match bounds.is(Broken::R20GivesUp) {
        true => Step::GaveUp,
        false => Step::Out,
    };
}

/// R19: somebody else initialised transactions, or ours expired: both look the same.
fn fenced(state: &mut State, at: usize) {
    let publisher = &mut state.process(at).publisher;
    publisher.step = Step::Out;
    if !publisher.committed {
        publisher.fenced += 1;
        if publisher.fenced == FENCED_MAX {
            // Exit 3: both may be in the right, and somebody starts one of them again.
            state.processes[at] = None;
        }
    }
}

/// The broker gives up a transaction that takes too long.
pub(crate) fn expire(state: &State, bounds: &Bounds, out: &mut Vec<Successor>) {
    if state.broker.open.is_some() && state.spent.expiries < bounds.expiries {
        let mut next = *state;
        next.spent.expiries += 1;
        raise(&mut next.broker);
        out.push((Action::Expire, next));
    }
}

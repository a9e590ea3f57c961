//! R35: a new directory from progress record, topic and archive, beside one that may still be alive.
//!
//! Read the record; read the topic to a mark taken after it; look at the archive's last object; read
//! the record again: has it moved, start over. What is in no object goes back into the journal.

use crate::action::{Action, Successor};
use crate::bounds::{Bounds, Broken};
use crate::state::length;
use crate::state::{Batches, Directory, Facts, Incarnation, Pages, Progress, Rebuild, State, fold};

pub(crate) fn successors(state: &State, bounds: &Bounds, out: &mut Vec<Successor>) {
    let mut then = |action, work: &dyn Fn(&mut State)| {
        let mut next = *state;
        work(&mut next);
        out.push((action, next));
    };
    let topic_first = bounds.is(Broken::R35TopicFirst);
    match state.rebuild {
        None if may_begin(state, bounds) => {
            let first = Rebuild::default();
            let action = match topic_first {
                true => Action::RebuildTopic,
                false => Action::RebuildRecord,
            };
            then(action, &|next| {
                next.spent.rebuilds = next.spent.rebuilds.saturating_add(1).min(bounds.rebuilds);
                next.rebuild = Some(read(next, first, topic_first));
            });
        }
        None => {}
        Some(rebuild @ Rebuild { record: None, .. }) => {
            then(Action::RebuildRecord, &|next| {
                next.rebuild = Some(read(next, rebuild, false));
            });
        }
        Some(rebuild @ Rebuild { read: None, .. }) => {
            then(Action::RebuildTopic, &|next| {
                next.rebuild = Some(read(next, rebuild, true));
            });
        }
        Some(Rebuild {
            record: Some(record),
            read: Some(read),
        }) => {
            then(Action::RebuildFinish, &|next| {
                next.rebuild = None;
                if next.broker.progress == Some(record) || bounds.is(Broken::R35NotAgain) {
                    next.directories[1] = Some(build(next, bounds, record, read));
                } else {
                    next.spent.rebuilds -= 1;
                }
            });
        }
    }
}

/// Somebody begins when no directory is left, or because they believe so.
fn may_begin(state: &State, bounds: &Bounds) -> bool {
    if bounds.rebuilds == 0 || state.broker.progress.is_none() {
        return false;
    }
    let of_use = |directory: &Option<Directory>| directory.is_some_and(|d| d.ended.is_none());
    let needed = !state.directories.iter().any(of_use);
    !of_use(&state.directories[1]) && (needed || state.spent.rebuilds < bounds.rebuilds)
}

fn read(state: &State, mut rebuild: Rebuild, topic: bool) -> Rebuild {
    if topic {
        rebuild.read = Some(length(&state.broker.topic));
    } else {
        rebuild.record = state.broker.progress;
    }
    rebuild
}

fn build(state: &State, bounds: &Bounds, record: Progress, read: u8) -> Directory {
    let topic = &state.broker.topic;
    let seq = record.seq;
    let published: Batches = topic[..usize::from(seq)].iter().copied().collect();
    let last = state
        .bucket
        .objects
        .iter()
        .filter_map(|object| object.records.last());
    let archived = match bounds.archive {
        true => last.map(|record| record.seq).max().unwrap_or(0),
        false => seq,
    };
    let read_back = match bounds.is(Broken::R35NotReadBack) {
        true => seq,
        false => archived,
    };
    let mut table = crate::list::List::default();
    if !bounds.is(Broken::R35NoIncarnation) {
        table.push(Incarnation {
            n: record.n,
            id: record.id,
            fencing: true,
            last: Some(seq),
        });
    }
    let pages = Pages {
        values: fold(Default::default(), &topic[..usize::from(read)]),
        at: seq,
        begun: 0,
    };
    let mut directory = Directory {
        oldest: read_back + 1,
        facts: Facts {
            remember: seq,
            publish: seq,
            archive: read_back,
            archived,
            validators: 0,
            table,
        },
        pages,
        flushed: pages,
        history: published,
        known: 1 << record.by,
        ..Directory::default()
    };
    for batch in published.iter().filter(|batch| batch.seq > read_back) {
        let mut batch = *batch;
        // Nobody knows more of its epoch.
        batch.last |= batch.seq == seq;
        directory.batches.push(batch);
    }
    directory
}

//! What must hold in every state, and when nothing is left to do.

use std::fmt;

use crate::bounds::Bounds;
use crate::faults::is_backup;
use crate::state::{Batch, KEYS, SLOTS, State, Step, answer, begins_with, fold};

/// A promise that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Property {
    /// The committed topic is the beginning of one history: batches in order, each decided on top of
    /// the one before, none twice, none left out, no value twice in a row, epochs whole.
    G1,
    /// Objects follow each other without gap or overlap and hold the topic's changes.
    G2,
    /// A running process knows exactly what its directory sealed, and all of that is there.
    G3,
    /// A process refuses (exit 3 or 4) only where the protocol asks for it.
    Refusal,
    /// When nothing is left to do, a directory is alive, and what the API answers is in topic and archive;
    /// of two copies the other one has ended, or sealed nothing else.
    Progress,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::G1 => "G1: the topic is not one history, each batch once",
            Property::G2 => "G2: the archive is not the topic",
            Property::G3 => "G3: the state is not what was sealed",
            Property::Refusal => "a process refuses to go on, and no rule asks for that",
            Property::Progress => "nothing is left to do, but something sealed is not published",
        })
    }
}

impl Property {
    /// All of them.
    pub const ALL: [Property; 5] = [
        Property::G1,
        Property::G2,
        Property::G3,
        Property::Refusal,
        Property::Progress,
    ];

    /// Whether it holds in `state`.
    #[must_use]
    pub fn holds(self, state: &State, bounds: &Bounds) -> bool {
        if state.found == Some(self) {
            return false;
        }
        match self {
            Property::G1 => is_one_history(&state.broker.topic, bounds),
            Property::G2 => !bounds.archive || is_archive_of_topic(state),
            Property::G3 => (0..SLOTS).all(|at| knows_what_was_sealed(state, at)),
            Property::Refusal | Property::Progress => true,
        }
    }
}

fn is_one_history(topic: &[Batch], bounds: &Bounds) -> bool {
    let mut before = Batch {
        last: true,
        ..Batch::default()
    };
    let mut values = [0; KEYS];
    for batch in topic {
        let key = usize::from(batch.key);
        if batch.seq != before.seq + 1 || batch.after != before.by || values[key] >= batch.value {
            return false;
        }
        // An epoch that is not cut is decided as a whole.
        if !before.last && before.by != batch.by && !bounds.large_epochs {
            return false;
        }
        values[key] = batch.value;
        before = *batch;
    }
    before.last || bounds.large_epochs
}

/// Where topic and archive both reach they are the same; the archive may not be ahead for good.
fn is_archive_of_topic(state: &State) -> bool {
    let mut objects: Vec<_> = state.bucket.objects.to_vec();
    objects.sort_by_key(|object| object.first);
    let topic = &state.broker.topic;
    let mut next = 1;
    for object in &objects {
        if object.first != next {
            return false;
        }
        for record in object.records.iter() {
            let same = topic
                .get(usize::from(record.seq) - 1)
                .is_none_or(|b| b.is(record));
            if record.seq != next || !same {
                return false;
            }
            next += 1;
        }
    }
    true
}

fn knows_what_was_sealed(state: &State, at: usize) -> bool {
    let (Some(directory), Some(process)) = (&state.directories[at], &state.processes[at]) else {
        return true;
    };
    !process.begun || process.values == fold([0; KEYS], &directory.history)
}

/// Nothing is left to do: what is not as it should be.
#[must_use]
pub fn check_end(state: &State, bounds: &Bounds) -> Option<Property> {
    let alive = |at: &usize| {
        let goes_on = state.directories[*at].is_some_and(|d| d.ended.is_none());
        goes_on && !is_backup(state, bounds, *at)
    };
    let alive: Vec<usize> = (0..SLOTS).filter(alive).collect();
    let waits_for_somebody = alive.iter().any(|at| state.processes[*at].is_none());
    let damaged = state.directories.iter().flatten().any(|d| d.damaged);
    if waits_for_somebody || (alive.is_empty() && damaged) {
        return None;
    }
    if alive.is_empty() || !alive.iter().all(|at| is_done(state, *at)) {
        return Some(Property::Progress);
    }
    let archived: usize = state.bucket.objects.iter().map(|o| o.records.len()).sum();
    (bounds.archive && archived != state.broker.topic.len()).then_some(Property::G2)
}

fn is_done(state: &State, at: usize) -> bool {
    let (Some(directory), Some(process)) = (&state.directories[at], &state.processes[at]) else {
        return false;
    };
    let topic = &state.broker.topic;
    process.publisher.step == Step::Ready
        && directory.history.len() == topic.len()
        && begins_with(&directory.history, topic)
        && fold([0; KEYS], topic) == answer(state.world)
}

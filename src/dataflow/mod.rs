//! The graph, drawn once. Every operator is a file; what they say to each other is in [`message`].
//!
//! ```text
//!  worker 0      all workers          worker 0
//!
//!  poll --Polled--> dedup --Decided--> journal
//!       by key hash                        |
//!                                         Mark: sealed up to here
//!                      +-------------------+----+
//!                      v                        v
//!                  remember (all workers)     publish --Position--> archive
//!                      | Position               | Position            | Position
//!                      +------------------------+---------------------+--> retire
//! ```
//!
//! Time is the epoch ([`crate::change::Epoch`]). `poll` gives it, `dedup` and `journal` act on it when
//! the frontier has passed it. Behind the journal everything follows marks: each follower reads the
//! journal itself, on a thread of its own ([`follow`]), so that recovery, catching up and live are one
//! path. This module names no client library; [`crate::io`] names no timely type.

pub mod dedup;
pub mod follow;
pub mod journal;
pub mod message;
#[cfg(test)]
mod model;
pub mod poll;
pub mod remember;
pub(crate) mod replay;
pub mod retire;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use timely::dataflow::StreamVec;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::vec::Map;
use timely::worker::Worker;

use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;

use crate::change::Seq;
use crate::follower::{Follower, Logs};
use crate::snapshot::Plan;
use crate::stop;

use dedup::misses::Misses;
use message::{Arrival, Mark, Position, Who};

/// What every worker needs.
pub struct Common {
    /// The cells.
    pub plan: Arc<Plan>,
    /// The pages of all ranges.
    pub pages: Pages,
    /// The journal, for replay.
    pub logs: Arc<dyn Logs>,
    /// Up to where the pages are durable.
    pub remembered: Seq,
    /// What a clean exit saved, by worker.
    pub misses: Vec<Misses>,
    /// Counts pages of the state that were written.
    pub pages_written: Arc<AtomicU64>,
    /// Bytes given to the journal and not yet written.
    pub unwritten: Arc<AtomicUsize>,
}

/// What worker 0 has alone.
pub struct Alone {
    /// Where snapshots come in.
    pub inbox: poll::Inbox,
    /// The other end of the inbox, for what the graph tells itself.
    pub arrivals: Sender<Arrival>,
    /// Where epochs are sealed.
    pub sealing: journal::Sealing,
    /// Brings changes to Kafka or the local topic log.
    pub publish: Box<dyn Follower>,
    /// Brings changes to objects.
    pub archive: Option<Box<dyn Follower>>,
    /// What drops from the journal.
    pub retiring: retire::Retiring,
}

/// Starts the workers. They end by themselves some time after everything has answered the last mark;
/// nobody waits for that: the program leaves by process exit (R31).
///
/// # Panics
/// When a thread cannot be started.
pub fn start(workers: usize, common: Common, alone: Alone) {
    let (common, alone) = (Arc::new(common), Mutex::new(Some(alone)));
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        let alone = match worker.index() {
            0 => alone
                .lock()
                .expect("no worker panics while it takes its parts")
                .take(),
            _ => None,
        };
        build(worker, &common, alone);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
    });
    // Dropping the guards would wait.
    std::mem::forget(guards.expect("worker threads can be started"));
}

fn build(worker: &mut Worker, common: &Common, alone: Option<Alone>) {
    let (index, workers) = (worker.index(), worker.peers());
    let mut state = RangeState::new(common.pages.clone(), Range::of(index, workers));
    // R28: nothing is decided before replay has reached the end of the journal.
    if let Err(fault) = replay::replay(&mut state, &common.plan, &*common.logs, common.remembered) {
        stop::fatal(&fault);
    }
    let state: dedup::SharedState = Rc::new(RefCell::new(state));
    let misses = common.misses[index].clone();
    let wake: Rc<OnceCell<poll::Waker>> = Rc::default();
    let mut tell = None;
    let mut parts = (None, None, None, None, None, None);
    if let Some(alone) = alone {
        let flusher = remember::Flusher {
            pages: common.pages.clone(),
        };
        let inbox = alone.inbox.waking(wake.clone());
        tell = Some(alone.arrivals);
        let (sealing, publish, archive) = (alone.sealing, alone.publish, alone.archive);
        parts = (
            Some(inbox),
            Some(sealing),
            Some(flusher),
            Some(publish),
            archive,
            Some(alone.retiring),
        );
    }
    let (inbox, sealing, flusher, publish, archive, retiring) = parts;
    let next = move || {
        // IMPORTANT: send, then wake: the other way round the operator may look too early.
        if let (Some(tell), Some(wake)) = (&tell, wake.get()) {
            drop(tell.send(Arrival::Decided));
            wake();
        }
    };
    // The same graph on every worker, whether or not there is an archive: an absent follower says
    // nothing.
    worker.dataflow::<u64, _, _>(|scope| {
        let polled = poll::poll(scope, inbox);
        let (plan, pages) = (common.plan.clone(), common.pages.clone());
        let unwritten = common.unwritten.clone();
        let decided = dedup::dedup(polled, plan, state.clone(), misses, pages, unwritten);
        let sealed = journal::journal(decided, sealing, next);
        let remembered = remember::remember(
            sealed.clone(),
            state,
            common.pages.clone(),
            common.pages_written.clone(),
            flusher,
        );
        let published = follow::follow(sealed, Who::Publish, "Publish", publish);
        let archived = follow::follow(marks(published.clone()), Who::Archive, "Archive", archive);
        let positions = scope.concatenate([remembered, published, archived]);
        retire::retire(positions, retiring);
    });
}

/// What is published may be archived (R24).
fn marks<'scope>(positions: StreamVec<'scope, u64, Position>) -> StreamVec<'scope, u64, Mark> {
    positions.map(|at: Position| Mark {
        seq: at.seq,
        epoch: 0,
        bytes: 0,
        last: at.last,
    })
}

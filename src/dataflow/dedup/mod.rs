//! Dedup: which keys of a snapshot are new, changed or gone, on the worker that owns them.
//!
//! An epoch is decided when the frontier has passed it, on every key of the cell that this worker
//! remembers, whether or not an entry came for it (R3). Deciding one snapshot is one uninterrupted step (R7: nothing is written to
//! the cell's pages meanwhile); encoding its changes goes in steps, so that the journal keeps up and
//! memory stays bounded.

mod decide;
mod encode;
mod entries;
mod gather;
pub mod misses;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use deltapoll_state::pages::Pages;
use deltapoll_state::range_state::RangeState;

use crate::change::Epoch;
use crate::snapshot::{Plan, Tally};
use crate::stop;

pub(crate) use self::encode::removal_event;

use self::decide::Decider;
use self::encode::Encoder;
use self::gather::Gathered;
use self::misses::Misses;
use super::message::{Decided, Part, Polled, Share};

/// Encoded changes on their way to the journal may take this much memory, of all workers together.
const UNWRITTEN_BYTES_MAX: usize = 8 << 20;
/// How long to wait for the journal when they do.
const UNWRITTEN_PAUSE: Duration = Duration::from_millis(1);

/// What one worker remembers of its range, shared with `remember` on the same thread (R7).
pub type SharedState = Rc<RefCell<RangeState>>;

/// Builds the operator. `unwritten` counts the bytes given to the journal and not yet written.
pub fn dedup<'scope>(
    polled: StreamVec<'scope, u64, Polled>,
    plan: Arc<Plan>,
    state: SharedState,
    misses: Misses,
    pages: Pages,
    unwritten: Arc<AtomicUsize>,
) -> StreamVec<'scope, u64, Decided> {
    let scope = polled.scope();
    let worker = scope.index();
    let pact = Exchange::new(|polled: &Polled| polled.to as u64);
    polled.unary_frontier(pact, "Dedup", move |_, info| {
        let activator = scope.activator_for(info.address);
        let decider = Decider::new(plan.clone(), state);
        let mut dedup = Dedup {
            worker,
            decider,
            misses,
            pages,
            unwritten,
            queue: VecDeque::new(),
        };
        let mut gathered = Gathered::default();
        move |(input, frontier), output| {
            input.for_each(|time, data| {
                let capability = time.retain_least(0).expect("a message has a time");
                gathered.add(capability, data.drain(..));
            });
            dedup
                .queue
                .extend(gathered.passed(|epoch| !frontier.frontier().less_equal(&epoch)));
            let done = dedup.work(|capability, decided| output.session(capability).give(decided));
            if !done {
                activator.activate_after(UNWRITTEN_PAUSE);
            }
        }
    })
}

struct Dedup {
    worker: usize,
    decider: Decider,
    misses: Misses,
    pages: Pages,
    unwritten: Arc<AtomicUsize>,
    queue: VecDeque<Work>,
}

/// One epoch that the frontier has passed.
pub(super) struct Work {
    capability: Capability<u64>,
    snapshots: VecDeque<Part>,
    encoding: Option<(Encoder, Share)>,
    close: bool,
}

impl Dedup {
    /// Decides and encodes; `false`: the journal has to catch up first.
    fn work(&mut self, mut give: impl FnMut(&Capability<u64>, Decided)) -> bool {
        while let Some(work) = self.queue.front_mut() {
            let epoch = Epoch(*work.capability.time());
            loop {
                if let Some((encoder, share)) = &mut work.encoding {
                    while self.unwritten.load(Ordering::Acquire) < UNWRITTEN_BYTES_MAX {
                        let Some(body) = encoder.next(&self.decider.plan) else {
                            break;
                        };
                        self.unwritten.fetch_add(body.len(), Ordering::AcqRel);
                        give(&work.capability, Decided::Batch(body));
                    }
                    if !encoder.is_done() {
                        return false;
                    }
                    give(&work.capability, Decided::Share(share.clone()));
                    work.encoding = None;
                }
                let Some(part) = work.snapshots.pop_front() else {
                    break;
                };
                work.encoding = Some(decide_one(
                    &mut self.decider,
                    &mut self.misses,
                    self.worker,
                    epoch,
                    part,
                ));
            }
            if work.close {
                self.misses.save(&self.pages, self.worker);
                give(&work.capability, Decided::Closed);
            }
            self.queue.pop_front();
        }
        true
    }
}

fn decide_one(
    decider: &mut Decider,
    misses: &mut Misses,
    worker: usize,
    epoch: Epoch,
    mut part: Part,
) -> (Encoder, Share) {
    let (of, counts) = (part.of, part.counts);
    let (validators, place) = (part.validators.take(), part.place.take());
    let decision = decider.decide(epoch, part, misses).unwrap_or_else(|fault| {
        // What is remembered cannot be read: nothing that depends on it may go on (R28).
        stop::fatal(&fault)
    });
    let mut tally = decision.tally;
    if worker == 0 {
        // Every worker knows them: one of them counts.
        let counted = Tally {
            entries: counts.entries,
            keyless: counts.keyless,
            ..Tally::default()
        };
        tally.add(&counted);
    }
    let share = Share {
        of,
        tally,
        validators,
        place,
    };
    (decision.encoder, share)
}

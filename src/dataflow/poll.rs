//! Poll: where snapshots enter the graph, on worker 0.
//!
//! The operator never asks anybody anything and never waits: tokio tasks hand in whole snapshots
//! through a channel and wake it. It gives them their epoch *on arrival* (R2), so that a slow cell
//! never holds back another; snapshots that wait together share an epoch, at most one of each cell
//! (R1 makes sure: the next poll of a cell starts when the last one's outcome is back). One epoch is
//! decided at a time; sealing overlaps with deciding the next.
//!
//! Stored snapshots are read ahead: each gets an epoch of its own, in the order of their arrival, and as
//! soon as the last is decided. At the end those that wait are left for the next run, which knows by the
//! journal how far this one came.
//!
//! A worker gets all that it owns of a snapshot in one message (R3).

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, StreamVec};

use deltapoll_state::{fail, range};

use crate::change::Epoch;
use crate::clock;
use crate::io::json::extract::Counts;
use crate::snapshot::Snapshot;

use super::message::{Arrival, Chunk, Part, PollRef, Polled, PolledItem};

/// What `poll` needs on worker 0.
pub struct Inbox {
    /// Snapshots and decisions.
    pub arrivals: Receiver<Arrival>,
    /// The last sealed epoch: every new one is above it.
    pub last: Epoch,
    /// Shortest time between two seals.
    pub min: Duration,
    /// Told how to wake the operator, once it is built.
    pub ready: Box<dyn FnOnce(Waker) + Send>,
}

impl Inbox {
    /// Like this one, telling `wake` as well.
    pub(super) fn waking(self, wake: Rc<OnceCell<Waker>>) -> WakingInbox {
        WakingInbox { inbox: self, wake }
    }
}

/// An inbox on the worker's thread.
pub struct WakingInbox {
    inbox: Inbox,
    wake: Rc<OnceCell<Waker>>,
}

/// Wakes the operator from another thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

type Output<'a, 'b> = &'a mut OutputBuilderSession<'b, u64, CapacityContainerBuilder<Vec<Polled>>>;

/// Builds the operator; `inbox` is there on worker 0 only, the others drop their capability at once.
pub fn poll<'scope>(
    scope: Scope<'scope, u64>,
    inbox: Option<WakingInbox>,
) -> StreamVec<'scope, u64, Polled> {
    let workers = scope.peers();
    source(scope, "Poll", move |capability, info| {
        let mut poll = inbox.map(|WakingInbox { inbox, wake }| {
            let activator = scope.worker().sync_activator_for(info.address.to_vec());
            let waker: Waker = Arc::new(move || {
                // A worker that is gone takes the process with it: nobody is left to wake.
                let _ = activator.activate();
            });
            assert!(
                wake.set(waker.clone()).is_ok(),
                "the operator is built once"
            );
            (inbox.ready)(waker);
            Poll {
                arrivals: inbox.arrivals,
                capability: Some(capability),
                last: inbox.last,
                min: inbox.min,
                waiting: VecDeque::new(),
                deciding: false,
                released: None,
                closing: false,
                workers,
            }
        });
        let activator = scope.activator_for(info.address);
        move |output| {
            if let Some(wait) = poll.as_mut().and_then(|poll| poll.work(output)) {
                activator.activate_after(wait);
            }
        }
    })
}

struct Poll {
    arrivals: Receiver<Arrival>,
    capability: Option<Capability<u64>>,
    last: Epoch,
    min: Duration,
    waiting: VecDeque<Snapshot>,
    /// Whether an epoch is being decided.
    deciding: bool,
    /// When the last epoch was released.
    released: Option<Instant>,
    closing: bool,
    workers: usize,
}

impl Poll {
    /// Takes what arrived and releases an epoch if it may; otherwise says when to look again.
    fn work(&mut self, output: Output<'_, '_>) -> Option<Duration> {
        for arrival in self.arrivals.try_iter() {
            match arrival {
                Arrival::Snapshot(snapshot) => self.waiting.push_back(snapshot),
                Arrival::Decided => self.deciding = false,
                Arrival::Close => self.closing = true,
            }
        }
        if self.closing {
            self.waiting.retain(|snapshot| snapshot.stored.is_none());
        }
        if self.deciding || (self.waiting.is_empty() && !self.closing) {
            return None;
        }
        if fail::broken("r02") && self.waiting.len() == 1 && !self.closing {
            return None;
        }
        let stored = self.waiting.front().is_some_and(is_stored);
        let since = self.released.map(|at| clock::now().duration_since(at));
        if let Some(wait) = since.and_then(|since| self.min.checked_sub(since))
            && !wait.is_zero()
            && !self.closing
            && !stored
        {
            return Some(wait);
        }
        self.release(output);
        None
    }

    fn release(&mut self, output: Output<'_, '_>) {
        let Some(capability) = &mut self.capability else {
            return;
        };
        let epoch = Epoch(clock::unix_ms().max(self.last.0 + 1));
        capability.downgrade(&epoch.0);
        let mut session = output.session(&*capability);
        let together = match self.waiting.front() {
            Some(first) if is_stored(first) => 1,
            _ => self.waiting.iter().take_while(|s| !is_stored(s)).count(),
        };
        for snapshot in self.waiting.drain(..together) {
            for (to, part) in parts(snapshot, self.workers).into_iter().enumerate() {
                let item = PolledItem::Part(part);
                session.give(Polled { to, item });
            }
        }
        let closing = self.closing && self.waiting.is_empty();
        if closing {
            for to in 0..self.workers {
                session.give(Polled {
                    to,
                    item: PolledItem::Close,
                });
            }
        }
        drop(session);
        self.last = epoch;
        self.deciding = true;
        self.released = Some(clock::now());
        capability.downgrade(&(epoch.0 + 1));
        if closing {
            self.capability = None;
        }
    }
}

fn is_stored(snapshot: &Snapshot) -> bool {
    snapshot.stored.is_some()
}

/// What each worker gets of a snapshot that was scanned for so many.
///
/// # Panics
/// When it was scanned for another number.
#[must_use]
pub fn parts(snapshot: Snapshot, workers: usize) -> Vec<Part> {
    let place = snapshot.place().write();
    let gone = gone_by_owner(&snapshot, workers);
    let mut counts = Counts::default();
    let mut chunks = vec![Vec::new(); workers];
    for piece in snapshot.pieces {
        counts.add(piece.counts);
        assert_eq!(piece.owned.len(), workers, "scanned for as many");
        for (chunks, owned) in chunks.iter_mut().zip(piece.owned) {
            if !owned.seen.is_empty() {
                let bytes = piece.bytes.clone();
                chunks.push(Chunk { bytes, owned });
            }
        }
    }
    let of = PollRef {
        index: snapshot.index,
        poll: snapshot.poll,
    };
    let part = |(to, (chunks, gone))| Part {
        of,
        complete: snapshot.complete,
        counts,
        chunks,
        gone,
        polled_at: snapshot.polled_at,
        validators: snapshot.validators.clone().filter(|_| to == 0),
        place: (to == 0).then(|| place.clone()),
    };
    (0..).zip(chunks.into_iter().zip(gone)).map(part).collect()
}

/// The keys that are said to be gone, in order, by the worker that owns them.
fn gone_by_owner(snapshot: &Snapshot, workers: usize) -> Vec<Vec<u128>> {
    let mut all = vec![Vec::new(); workers];
    for hash in snapshot.stored.iter().flat_map(|stored| &stored.gone) {
        all[range::owner(*hash, workers)].push(hash.0);
    }
    all.iter_mut().for_each(|gone| gone.sort_unstable());
    all
}

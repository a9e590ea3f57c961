//! From stored snapshots into the graph: read ahead on other threads, handed in in order, within the
//! memory that is allowed from reading to seal (R29).
//!
//! Three tasks in a row: one reads ahead ([`Admission`]), one hands in what was read, one waits for
//! outcomes, takes them in the order of the snapshots, and gives the memory back.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Semaphore, watch};

use crate::clock;
use crate::config::secret;
use crate::fault::Fault;
use crate::io::http::budget::{Budget, Reservation};
use crate::io::json::scan::Scan;
use crate::snapshot::{Outcome, PollId, Snapshot, Stored, Verdict};
use crate::status::{Polled, Status};

use super::ahead::{Admission, Begun, Item, Stock};
use super::letters::Letters;
use super::progress::Progress;
use super::read::{Cut, Reading};
use super::{Done, OnBad};

/// Snapshots between reading and seal, at most: enough that many small ones share an fsync.
const AHEAD: usize = 512;
/// Bytes read ahead, at most: more brings nothing.
const AHEAD_BYTES: u64 = 64 << 20;

/// What a feed needs.
pub struct Feed {
    /// What is read, in order.
    pub stock: Stock,
    /// How files are read.
    pub reading: Reading,
    /// What entries are known by, by the cell's place in the plan.
    pub scans: Vec<Arc<Scan>>,
    /// Files that are read at a time.
    pub readers: usize,
    /// Memory that may be used, in bytes.
    pub staging: u64,
    /// Whether the journal has room.
    pub room: Box<dyn Fn() -> bool + Send + Sync>,
    /// Takes snapshots.
    pub hand_in: Box<dyn Fn(Snapshot) + Send + Sync>,
    /// Whether a snapshot is the whole cell.
    pub complete: bool,
    /// What becomes of files that cannot be used.
    pub on_bad: OnBad,
    /// Where they are listed.
    pub letters: Letters,
    /// Counts what was decided.
    pub status: Arc<Status>,
    /// Becomes true when it is to stop.
    pub stop: watch::Receiver<bool>,
}

/// What a feed leaves.
pub struct Fed {
    /// What was done.
    pub done: Done,
    /// Why it stopped before its end, if it did; not when it was told to.
    pub fault: Option<Fault>,
    /// The receivers that it was given.
    pub outcomes: Vec<UnboundedReceiver<Outcome>>,
}

/// What was read, in its order.
enum Entered {
    Snapshot(Waiting),
    /// A file that cannot be used, and is set aside.
    Bad {
        shown: String,
        /// Bytes as they are stored.
        size: u64,
        reason: String,
    },
}

/// A snapshot in the graph.
struct Waiting {
    index: usize,
    poll: PollId,
    /// Bytes that were read for it, as they are stored.
    size: u64,
    bytes: u64,
    /// Given back when the outcome is there.
    reservation: Reservation,
}

impl Waiting {
    fn begin(
        poll: PollId,
        item: Item,
        cut: Cut,
        reservation: Reservation,
        complete: bool,
    ) -> (Waiting, Snapshot) {
        let snapshot = Snapshot {
            index: item.index,
            poll,
            complete: complete && !item.partial,
            polled_at: item.polled_at,
            pieces: cut.pieces,
            validators: None,
            stored: Some(Stored {
                place: item.place,
                gone: item.gone,
            }),
        };
        let waiting = Waiting {
            index: item.index,
            poll,
            size: item.size,
            bytes: cut.bytes,
            reservation,
        };
        (waiting, snapshot)
    }
}

impl Feed {
    /// Feeds everything, until the end, a file that cannot be used, or a request to stop. `outcomes` are
    /// those of all cells, by their place in the plan.
    pub async fn feed(self, outcomes: Vec<UnboundedReceiver<Outcome>>) -> Fed {
        let since = clock::now();
        let (of, total) = (self.stock.snapshots(), self.stock.bytes());
        let strict = self.on_bad == OnBad::Stop;
        let (begin, mut begun) = mpsc::channel::<Result<Begun, Fault>>(AHEAD);
        let (enter, entered) = mpsc::channel::<Entered>(AHEAD);
        let Feed {
            stock,
            reading,
            scans,
            readers,
            staging,
            room,
            hand_in,
            complete,
            letters,
            status,
            stop,
            ..
        } = self;
        let admission = Admission {
            reading: Arc::new(reading),
            scans,
            readers: Arc::new(Semaphore::new(readers)),
            budget: Budget::new(staging.min(AHEAD_BYTES)),
            room,
            stop: stop.clone(),
        };
        let admitting = tokio::spawn(admission.admit(stock, begin));
        let bad = Bad {
            letters: Arc::new(letters),
            strict,
        };
        let progress = Progress::new(of, total, since);
        let told = Told {
            status,
            bad: bad.clone(),
            progress,
            stop: stop.clone(),
        };
        let waiting = tokio::spawn(told.collect(entered, outcomes));
        let mut fault = None;
        let mut poll = 0;
        while let Some(next) = begun.recv().await {
            let Begun { item, reading } = match next {
                Ok(begun) => begun,
                Err(stopped) => {
                    fault = Some(stopped);
                    break;
                }
            };
            let (cut, reservation) = reading.await.expect("a panic ends the process");
            if *stop.borrow() || waiting.is_finished() {
                break;
            }
            let cut = match cut {
                Ok(cut) => cut,
                Err(reason) if bad.strict => {
                    fault = Some(stopped_at(&item.shown, &reason));
                    break;
                }
                Err(reason) => {
                    // It is listed when its turn comes: a run that ends before that meets it again.
                    let (shown, size) = (item.shown, item.size);
                    let entering = Entered::Bad {
                        shown,
                        size,
                        reason,
                    };
                    if enter.send(entering).await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            poll += 1;
            let (entering, snapshot) = Waiting::begin(poll, item, cut, reservation, complete);
            // IMPORTANT: whoever waits for the outcome is told first; when nobody waits any more, nothing
            // more is handed in.
            if enter.send(Entered::Snapshot(entering)).await.is_err() {
                break;
            }
            hand_in(snapshot);
        }
        drop((enter, begun));
        admitting.abort();
        let (mut done, failed, outcomes) = waiting.await.expect("a panic ends the process");
        done.of = of;
        done.took = clock::now().duration_since(since);
        Fed {
            done,
            fault: failed.or(fault),
            outcomes,
        }
    }
}

/// What becomes of a file that cannot be used.
#[derive(Clone)]
struct Bad {
    letters: Arc<Letters>,
    strict: bool,
}

impl Bad {
    /// Sets it aside.
    ///
    /// # Errors
    /// Where the list cannot be written.
    fn take(&self, file: &str, reason: &str) -> Result<(), Fault> {
        tracing::warn!("{file} is set aside: {}", secret::redact(reason));
        self.letters.add(file, reason)
    }
}

/// Says that nothing after this file is read.
fn stopped_at(file: &str, reason: &str) -> Fault {
    Fault::failed(format!(
        "{file}: {}; what came before it is sealed: mend it, or go on without it with \
         --bad-files set-aside",
        secret::redact(reason)
    ))
}

/// Waits for outcomes.
struct Told {
    status: Arc<Status>,
    bad: Bad,
    progress: Progress,
    stop: watch::Receiver<bool>,
}

type Collected = (Done, Option<Fault>, Vec<UnboundedReceiver<Outcome>>);

impl Told {
    async fn collect(
        mut self,
        mut entered: mpsc::Receiver<Entered>,
        mut outcomes: Vec<UnboundedReceiver<Outcome>>,
    ) -> Collected {
        let mut done = Done::default();
        let mut fault = None;
        // What found nothing to seal does not wait for the fsync of those before it.
        let mut early = BTreeMap::new();
        while let Some(entered) = entered.recv().await {
            let waiting = match entered {
                Entered::Snapshot(waiting) => waiting,
                Entered::Bad {
                    shown,
                    size,
                    reason,
                } => {
                    if let Err(stopped) = self.bad.take(&shown, &reason) {
                        fault = Some(stopped);
                        break;
                    }
                    done.bad += 1;
                    self.progress.advance(size, &done);
                    continue;
                }
            };
            let outcome = loop {
                if let Some(outcome) = early.remove(&waiting.poll) {
                    break Some(outcome);
                }
                let outcome = tokio::select! {
                    biased;
                    outcome = outcomes[waiting.index].recv() => outcome,
                    // What is in the graph and not decided is left for the next run.
                    _ = self.stop.wait_for(|stop| *stop) => None,
                };
                let Some(outcome) = outcome else { break None };
                early.insert(outcome.poll, outcome);
            };
            let Some(outcome) = outcome else { break };
            drop(waiting.reservation);
            done.snapshots += 1;
            done.unchanged += u64::from(outcome.verdict == Verdict::Unchanged);
            done.bytes += waiting.bytes;
            done.tally.add(&outcome.tally);
            self.progress.advance(waiting.size, &done);
            (self.status).polled(waiting.index, Polled::Stored(outcome.tally));
        }
        (done, fault, outcomes)
    }
}

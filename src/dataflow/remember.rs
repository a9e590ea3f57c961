//! Remember: what was sealed goes to the pages, lazily, on the workers that own it (R27).
//!
//! Every ten seconds, or when 64 MiB were sealed, or at the end: each worker writes its part on its own
//! thread, where no scan of a cell is under way (R7), and reports; worker 0 waits for all and has the
//! store flushed by a follower of its own, off the thread. Until then a restart replays the journal
//! from the last position: pages may be ahead of the position, never behind.
//!
//! Safety: the overlay holds for each key the newest value that this worker decided, and the newest
//! sealed one where that differs; a page is only ever written from a sealed one. What the journal
//! holds is what the overlay got, so nothing is read back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;

use deltapoll_state::fail;
use deltapoll_state::pages::Pages;

use crate::change::{Epoch, Seq};
use crate::clock;
use crate::directory::{announce_pages, flush_pages};
use crate::fault::Fault;
use crate::follower::Follower;
use crate::stop;

use super::dedup::SharedState;
use super::follow::follow;
use super::message::{Mark, Position, Who};

const WRITE_AFTER: Duration = Duration::from_secs(10);
const WRITE_AFTER_BYTES: u64 = 64 << 20;

/// Builds the two operators: pages on every worker, the flush on worker 0.
pub fn remember<'scope>(
    marks: StreamVec<'scope, u64, Mark>,
    state: SharedState,
    pages: Pages,
    pages_written: Arc<AtomicU64>,
    flusher: Option<Flusher>,
) -> StreamVec<'scope, u64, Position> {
    let written = write(marks.broadcast(), state, pages, pages_written);
    let all = all_written(written);
    let flusher = flusher.map(|flusher| Box::new(flusher) as Box<dyn Follower>);
    follow(all, Who::Remember, "Flush", flusher)
}

/// A worker's report: written up to the mark.
type Report = (usize, Mark);

fn write<'scope>(
    marks: StreamVec<'scope, u64, Mark>,
    state: SharedState,
    pages: Pages,
    pages_written: Arc<AtomicU64>,
) -> StreamVec<'scope, u64, Report> {
    let scope = marks.scope();
    let worker = scope.index();
    marks.unary(Pipeline, "Remember", move |_, info| {
        let activator = scope.activator_for(info.address);
        let mut waiting: Option<(Capability<u64>, Mark, Instant)> = None;
        let mut written_bytes = 0;
        move |input, output| {
            input.for_each(|time, data| {
                let capability = time.retain_least(0).expect("a message has a time");
                for mark in data.drain(..) {
                    let since = waiting.as_ref().map(|(_, _, since)| *since);
                    let since = since.unwrap_or_else(|| {
                        // IMPORTANT: the time first, or the only wake-up comes a moment too early.
                        let now = clock::now();
                        activator.activate_after(WRITE_AFTER);
                        now
                    });
                    waiting = Some((capability.clone(), mark, since));
                }
            });
            let due = waiting.take_if(|(_, mark, since)| {
                mark.last
                    || mark.bytes - written_bytes >= WRITE_AFTER_BYTES
                    || clock::now().duration_since(*since) >= WRITE_AFTER
            });
            let Some((capability, mark, _)) = due else {
                return;
            };
            let epoch = Epoch(mark.epoch);
            announce_pages(&pages, worker, epoch).unwrap_or_else(|fault| stop::fatal(&fault));
            let written = state
                .borrow_mut()
                .write(epoch)
                .unwrap_or_else(|error| stop::fatal(&Fault::directory(error.to_string())));
            fail::step("remember.pages");
            pages_written.fetch_add(written.pages, Ordering::Relaxed);
            written_bytes = mark.bytes;
            output.session(&capability).give((worker, mark));
        }
    })
}

/// One mark for all workers: the least of what they report.
fn all_written<'scope>(reports: StreamVec<'scope, u64, Report>) -> StreamVec<'scope, u64, Mark> {
    let workers = reports.scope().peers();
    reports.unary(Exchange::new(|_: &Report| 0), "AllWritten", move |_, _| {
        let mut marks: Vec<Option<Mark>> = vec![None; workers];
        let mut given = 0;
        move |input, output| {
            input.for_each(|time, data| {
                for (worker, mark) in data.drain(..) {
                    marks[worker] = Some(mark);
                }
                let all: Option<Vec<Mark>> = marks.iter().copied().collect();
                let least =
                    all.and_then(|all| all.into_iter().min_by_key(|mark| (mark.seq, mark.last)));
                if let Some(least) = least.filter(|least| least.seq > given || least.last) {
                    given = least.seq;
                    output.session(&time).give(least);
                }
            });
        }
    })
}

/// Makes the pages durable.
pub struct Flusher {
    /// The store.
    pub pages: Pages,
}

impl Follower for Flusher {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        flush_pages(&self.pages, upto)?;
        fail::step("remember.flushed");
        Ok(upto)
    }
}

//! A run, from the configuration to the last word.
//!
//! Start: open the directory, check that it is the one for this configuration, find out about topics,
//! let every follower go on where it was, then poll. Stop: ask nobody any more, seal what has arrived,
//! write what is only in memory, give what is under way its time, and leave by process exit (R31).

mod polls;

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use deltapoll_state::fail;
use deltapoll_state::pages::Pages;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::backfill;
use crate::change::{CellId, Seq};
use crate::clock;
use crate::config::Config;
use crate::config::cell::Cell;
use crate::dataflow::dedup::misses::Misses;
use crate::dataflow::journal::Sealing;
use crate::dataflow::message::{Arrival, Position, Who};
use crate::dataflow::poll::{Inbox, Waker};
use crate::dataflow::retire::Retiring;
use crate::dataflow::{self, Alone, Common};
use crate::directory::Directory;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::identity;
use crate::io::json::pointer::Pointer;
use crate::mirror::Mirror;
use crate::phases::Phases;
use crate::republish;
use crate::rules::Rules;
use crate::sinks::{self, Sinks};
use crate::snapshot::{CellPlan, Outcome, Plan};
use crate::status::Status;
use crate::stop::Stop;

use polls::Polls;

/// How often a run that is ending looks whether its time is up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How a run is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Timely workers.
    pub workers: usize,
    /// Stop after this many finished attempts of every cell.
    pub rounds: Option<u64>,
    /// Roll and upload what waits before the end.
    pub flush_archive: bool,
    /// For measuring, and not to be had on the command line: what is sealed counts as published and goes
    /// nowhere, whatever is configured. The directory knows no better afterwards: it is to be thrown away.
    pub discard: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether every cell's last attempt was good.
    pub good: bool,
    /// Whether everything that was sealed is published.
    pub published: bool,
}

/// Runs until stopped or until its rounds are done, after a backfill if there is one. `stop` is requested
/// by a signal, from outside.
///
/// # Errors
/// A [`Fault`] says why it could not start; a fault of a running part ends the process by itself.
pub fn run(
    config: &Config,
    options: Options,
    backfill: Option<backfill::Work>,
    stop: &Stop,
    status: &Arc<Status>,
) -> Result<Ended, Fault> {
    let mut phases = Phases::begin();
    // IMPORTANT: neither is dropped. Followers may be at work when this returns: another process must
    // not have the directory before this one has ended, and requests need their runtime (R31).
    let mut directory = ManuallyDrop::new(Directory::open(&config.data_dir)?);
    let ledger = directory.ledger.clone();
    let identity::Assigned { cells, gone } = identity::assign(config, &ledger)?;
    let runtime = ManuallyDrop::new(runtime(options.workers)?);
    phases.end("journal");
    let sinks = sinks::open(config, &directory, options, stop, &runtime)?;
    let Some(sinks) = sinks else {
        return Ok(Ended {
            good: true,
            published: false,
        });
    };
    phases.end("topics");
    let plan = Arc::new(plan(config, &cells, &ledger, &sinks)?);
    let pages = directory.pages(&sinks.lineage, sinks.positions[&Who::Remember])?;
    // What `state republish` sealed before a crash is finished before anything is decided.
    republish::finish(&directory, &pages)?;
    let remembered = sinks.positions[&Who::Remember];
    let partitions = |topic: &str| sinks.topics[topic].partitions;
    let removed = republish::remove_cells(
        config,
        &mut directory,
        &pages,
        &plan,
        remembered,
        gone,
        partitions,
    )?;
    if removed > 0 {
        tracing::info!("{removed} keys of cells that are no longer configured are removed");
    }
    pages
        .split_for(options.workers)
        .map_err(|error| Fault::directory(error.to_string()))?;
    fail::step("start.split");
    let misses = Misses::take(&pages, options.workers)?;
    let pending: Vec<CellId> = (cells.iter().map(|(id, _)| *id))
        .filter(|id| misses.iter().any(|misses| misses.has(*id)))
        .collect();
    let live = backfill.as_ref().is_none_or(|work| work.then_run);
    let bounded = options.rounds.is_some() || !live;
    phases.end("state");

    let relief = sinks.relief.clone();
    let running = start(
        config, options, &directory, sinks, &plan, pages, misses, status,
    )?;
    phases.end("replay");
    tracing::info!("started in {phases}");
    let Running {
        inlet,
        outcomes,
        reached,
        mirror,
        with_archive,
    } = running;
    let polls = Polls {
        config,
        cells: &cells,
        directory: &directory,
        relief,
        inlet: &inlet,
        status,
        rounds: options.rounds,
        plan: plan.clone(),
        workers: options.workers,
    };
    let (mut outcomes, mut good, mut fault) = (outcomes, true, None);
    if let Some(work) = backfill {
        let fed = polls.backfill(work, outcomes, stop, &runtime)?;
        tracing::info!("backfill: {}", fed.done);
        (outcomes, fault) = (fed.outcomes, fed.fault);
    }
    if live && fault.is_none() {
        // After a backfill: what it decided is not described by older validators.
        let trusted = |cell| !pending.contains(&cell);
        let known = polls::known(config, &cells, &ledger, bounded, trusted);
        let polled = polls.start(known, outcomes, stop, &runtime)?;
        good = runtime.block_on(polled);
    }
    inlet.send(Arrival::Close);
    let published = wait_for_end(&reached, with_archive, bounded, stop, config.limits.grace);
    let sealed = ledger.counters().sealed.load(Ordering::Acquire);
    let published = published.is_some_and(|seq| seq.0 >= sealed);
    // What is lazy is worth writing once, at the end.
    ledger.set(Vec::new(), true)?;
    fail::step("exit.facts");
    mirror.refresh();
    match fault {
        Some(fault) => Err(fault),
        None => Ok(Ended { good, published }),
    }
}

/// The pipeline behind the polls.
struct Running {
    inlet: Inlet,
    /// By the cell's place in the plan.
    outcomes: Vec<mpsc::UnboundedReceiver<Outcome>>,
    reached: Receiver<Position>,
    mirror: Arc<Mirror>,
    with_archive: bool,
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is opened once and handed on here"
)]
fn start(
    config: &Config,
    options: Options,
    directory: &Directory,
    sinks: Sinks,
    plan: &Arc<Plan>,
    pages: Pages,
    misses: Vec<Misses>,
    status: &Arc<Status>,
) -> Result<Running, Fault> {
    let ledger = directory.ledger.clone();
    let (arrivals, inbox) = channel();
    let (ready, waker) = channel();
    let (positions, reached) = channel();
    let (outcome_senders, outcomes): (Vec<_>, Vec<_>) =
        plan.cells.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let unwritten = Arc::new(AtomicUsize::new(0));
    let with_archive = sinks.archive.is_some();
    let pages_written = Arc::new(AtomicU64::new(0));
    let common = Common {
        plan: plan.clone(),
        pages,
        logs: Arc::new(ledger.clone()),
        remembered: sinks.positions[&Who::Remember],
        misses,
        pages_written: pages_written.clone(),
        unwritten: unwritten.clone(),
    };
    let mirror = Arc::new(Mirror::new(
        status.clone(),
        plan,
        ledger.clone(),
        sinks.counters.clone(),
        pages_written,
    ));
    let (on_seal, on_reach) = (mirror.clone(), mirror.clone());
    let alone = Alone {
        inbox: Inbox {
            arrivals: inbox,
            last: directory.start.epoch,
            min: config.checkpoint.min,
            ready: Box::new(move |waker| drop(ready.send(waker))),
        },
        arrivals: arrivals.clone(),
        sealing: Sealing {
            ledger: ledger.clone(),
            plan: plan.clone(),
            unwritten,
            start: directory.start,
            outcome: Arc::new(move |outcome: Outcome, sealed| {
                if let Some(seq) = sealed {
                    on_seal.sealed(seq, outcome.index, outcome.tally.changes());
                }
                // A cell that polls no longer does not wait for its outcome.
                drop(outcome_senders[outcome.index].send(outcome));
            }),
        },
        publish: sinks.publish,
        archive: sinks.archive,
        retiring: Retiring {
            ledger: ledger.clone(),
            positions: sinks.positions,
            reached: Arc::new(move |position: Position| {
                on_reach.reached(position);
                let _ = positions.send(position);
            }),
        },
    };
    dataflow::start(options.workers, common, alone);
    let waker = waker
        .recv()
        .map_err(|_| Fault::failed("the dataflow did not start"))?;
    let inlet = Inlet { arrivals, waker };
    Ok(Running {
        inlet,
        outcomes,
        reached,
        mirror,
        with_archive,
    })
}

/// Where requests are made and answers are scanned, on so many threads.
///
/// # Errors
/// When there can be no thread for them.
pub fn runtime(threads: usize) -> Result<Runtime, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("io")
        .enable_all()
        .build();
    runtime.map_err(|error| Fault::failed(format!("cannot start the I/O threads: {error}")))
}

/// Where everything from outside enters the graph.
#[derive(Clone)]
struct Inlet {
    arrivals: Sender<Arrival>,
    waker: Waker,
}

impl Inlet {
    fn send(&self, arrival: Arrival) {
        // IMPORTANT: send, then wake. The graph ends only with the process.
        drop(self.arrivals.send(arrival));
        (self.waker)();
    }
}

fn plan(
    config: &Config,
    cells: &[(CellId, Cell)],
    facts: &dyn Facts,
    sinks: &Sinks,
) -> Result<Plan, Fault> {
    let mut plans = Vec::with_capacity(cells.len());
    for (id, cell) in cells {
        let source = &config.source[&cell.source];
        let topic = config.topic(&cell.source);
        let info = &sinks.topics[topic];
        let parse = |text: &String| Pointer::parse(text).map_err(Fault::usage);
        plans.push(CellPlan {
            id: *id,
            source: cell.source.clone(),
            label: cell.label.clone(),
            topic: topic.to_owned(),
            partitions: info.partitions,
            key_prefix: cell.key_prefix.clone(),
            key_suffix: cell.key_suffix.clone(),
            keys: source.key.iter().map(parse).collect::<Result<_, _>>()?,
            rule: Rules::number(facts, &source.ignore)?,
            removed: source.removed,
            removed_after: source.removed_after,
            record_max: info.record_max,
        });
    }
    Ok(Plan {
        cells: plans,
        seed: sinks.seed,
        rules: Arc::new(Rules::read(facts)?),
    })
}

/// Waits until every follower has answered the last mark; returns up to where publish came, if it did
/// answer (it may have been stopped before the end). Bounded runs wait for as long as it takes, others
/// for `grace` once pages are written.
fn wait_for_end(
    reached: &Receiver<Position>,
    with_archive: bool,
    bounded: bool,
    stop: &Stop,
    grace: Duration,
) -> Option<Seq> {
    let mut published = None;
    let mut waiting = vec![Who::Remember, Who::Publish];
    waiting.extend(with_archive.then_some(Who::Archive));
    let mut deadline = None;
    while !waiting.is_empty() {
        if deadline.is_none() && (!bounded || stop.requested()) {
            deadline = Some(clock::now() + grace);
        }
        match reached.recv_timeout(LOOK_AGAIN) {
            Ok(position) if position.last => {
                waiting.retain(|who| *who != position.who);
                if position.who == Who::Publish {
                    published = Some(Seq(position.seq));
                }
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let late = deadline.is_some_and(|deadline| clock::now() >= deadline);
        if late && !waiting.contains(&Who::Remember) {
            stop.end_grace();
            break;
        }
    }
    published
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn r31_a_publisher_that_was_stopped_before_the_end_says_how_far_it_came() {
        let (sender, reached) = channel();
        let last = |who, seq| Position {
            who,
            seq,
            last: true,
        };
        sender.send(last(Who::Publish, 3)).unwrap();
        sender.send(last(Who::Remember, 5)).unwrap();
        let end = |grace| wait_for_end(&reached, false, false, &Stop::default(), grace);
        assert_eq!(end(Duration::from_secs(60)), Some(Seq(3)));
        sender.send(last(Who::Remember, 5)).unwrap();
        assert_eq!(end(Duration::ZERO), None, "no answer in time");
    }
}

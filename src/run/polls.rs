//! What the tasks that poll are given, and what they leave for the next run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use deltapoll_state::fail;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::backfill::ahead::Stock;
use crate::backfill::feed::{Fed, Feed};
use crate::backfill::inputs::Inputs;
use crate::backfill::letters::Letters;
use crate::backfill::{self, Done, read};
use crate::change::CellId;
use crate::config::cell::Cell;
use crate::config::fingerprint::validator_identity;
use crate::config::{Config, Source};
use crate::dataflow::journal::validators_fact;
use crate::dataflow::message::Arrival;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::http::answer::Reading;
use crate::io::http::budget::Budget;
use crate::io::http::client;
use crate::io::http::pace::Pace;
use crate::io::http::schedule::{self, Shared};
use crate::io::http::validators::Validators;
use crate::io::json::pointer::Pointer;
use crate::mirror;
use crate::sinks::Relief;
use crate::snapshot::{Outcome, Place, Plan, Snapshot};
use crate::status::Status;
use crate::stop::{self, Stop};

use super::Inlet;

/// Files of a backfill that are read at a time: as many as workers, and this many at least.
const READERS_MIN: usize = 2;

/// What the last run knew of each cell, by its place in the plan.
pub(super) struct Known {
    /// When it is due (Unix ms).
    due: Option<u64>,
    /// Of the snapshot that the state holds.
    validators: Option<Validators>,
}

/// What the journal says of the cells. A bounded run is asked for now, whatever is due; `trusted` says
/// whether a cell's validators hold.
pub(super) fn known(
    config: &Config,
    cells: &[(CellId, Cell)],
    facts: &dyn Facts,
    bounded: bool,
    trusted: impl Fn(CellId) -> bool,
) -> Vec<Known> {
    let validators = known_validators(config, cells, facts, trusted);
    let due = |id: CellId| facts.get(&due_fact(id))?.parse().ok();
    let known = |((id, _), validators): (&(CellId, Cell), _)| Known {
        // What cannot be read is due now.
        due: if bounded { None } else { due(*id) },
        validators,
    };
    cells.iter().zip(validators).map(known).collect()
}

/// The polls of a run.
pub(super) struct Polls<'a> {
    pub(super) config: &'a Config,
    pub(super) cells: &'a [(CellId, Cell)],
    pub(super) directory: &'a Directory,
    pub(super) relief: Relief,
    pub(super) inlet: &'a Inlet,
    pub(super) status: &'a Arc<Status>,
    pub(super) rounds: Option<u64>,
    pub(super) plan: Arc<Plan>,
    pub(super) workers: usize,
}

impl Polls<'_> {
    /// Starts a task per cell; the future says whether the last attempt of every one was good.
    ///
    /// # Errors
    /// When there can be no client.
    pub(super) fn start(
        self,
        known: Vec<Known>,
        outcomes: Vec<mpsc::UnboundedReceiver<Outcome>>,
        stop: &Stop,
        runtime: &Runtime,
    ) -> Result<impl Future<Output = bool> + use<>, Fault> {
        let shared = Arc::new(self.shared(stop_polling(stop, runtime))?);
        let mut tasks = Vec::with_capacity(self.cells.len());
        for (index, (known, outcomes)) in known.into_iter().zip(outcomes).enumerate() {
            let cell = self.cell(index, known, outcomes)?;
            tasks.push(runtime.spawn(schedule::poll_cell(cell, shared.clone())));
        }
        Ok(async move {
            let mut good = true;
            for task in tasks {
                good &= task.await.expect("a panic ends the process");
            }
            good
        })
    }

    /// Feeds stored snapshots, and waits until they are decided.
    ///
    /// # Errors
    /// When a pointer of the configuration is wrong.
    pub(super) fn backfill(
        &self,
        mut work: backfill::Work,
        outcomes: Vec<mpsc::UnboundedReceiver<Outcome>>,
        stop: &Stop,
        runtime: &Runtime,
    ) -> Result<Fed, Fault> {
        let Some((source, stock)) = self.stock(&mut work.inputs) else {
            return Ok(Fed {
                done: Done::default(),
                fault: None,
                outcomes,
            });
        };
        let inlet = self.inlet.clone();
        let feed = Feed {
            reading: read::Reading {
                records: Pointer::parse(&source.records).map_err(Fault::usage)?,
                body_max: self.config.limits.body_max.0,
            },
            scans: (0..self.cells.len())
                .map(|index| Arc::new(self.plan.scan(index, self.workers)))
                .collect(),
            stock,
            readers: self.workers.max(READERS_MIN),
            staging: self.config.limits.staging.0,
            room: self.room(),
            hand_in: Box::new(move |snapshot| inlet.send(Arrival::Snapshot(snapshot))),
            complete: source.complete,
            on_bad: work.on_bad,
            letters: Letters::of(&self.config.data_dir),
            status: self.status.clone(),
            stop: stop_polling(stop, runtime),
        };
        Ok(runtime.block_on(feed.feed(outcomes)))
    }

    /// What is to be read, and the source that all of it is of; `None`: nothing.
    fn stock(&self, inputs: &mut Inputs) -> Option<(&Source, Stock)> {
        let ledger = &self.directory.ledger;
        let source = |index: usize| &self.config.source[&self.cells[index].1.source];
        if let Some(archive) = inputs.archive.take() {
            let before =
                |index: usize| Place::read(&ledger.get(&Place::fact(self.cells[index].0))?);
            let of = source(archive.first_cell());
            let epochs = archive.epochs(self.plan.seed, before);
            return Some((of, Stock::Archive(Box::new(epochs))));
        }
        inputs.after(ledger, |index| self.cells[index].0);
        if inputs.past > 0 {
            tracing::info!(
                "{} snapshots are not newer than what is known of their cells: left out",
                inputs.past
            );
        }
        let of = source(inputs.files.first()?.index);
        Some((of, Stock::Files(std::mem::take(&mut inputs.files))))
    }

    fn cell(
        &self,
        index: usize,
        known: Known,
        outcomes: mpsc::UnboundedReceiver<Outcome>,
    ) -> Result<schedule::Cell, Fault> {
        let (_, cell) = &self.cells[index];
        let source = &self.config.source[&cell.source];
        Ok(schedule::Cell {
            index,
            url: cell.url.clone(),
            headers: source.headers.clone().into_iter().collect(),
            every: source.every,
            due: known.due,
            reading: Reading {
                records: Pointer::parse(&source.records).map_err(Fault::usage)?,
                scan: self.plan.scan(index, self.workers),
                body_max: self.config.limits.body_max.0,
                timeout: client::ANSWER_TIMEOUT,
                config: identity_of(self.config, cell),
            },
            complete: source.complete,
            validators: known.validators,
            outcomes,
        })
    }

    fn shared(&self, stop: watch::Receiver<bool>) -> Result<Shared, Fault> {
        let (inlet, ledger) = (self.inlet.clone(), self.directory.ledger.clone());
        let (status, reported) = (self.status.clone(), self.status.clone());
        let ids: Vec<CellId> = self.cells.iter().map(|(id, _)| *id).collect();
        Ok(Shared {
            client: client::client().map_err(Fault::failed)?,
            budget: Budget::new(self.config.limits.staging.0),
            pace: Pace::default(),
            room: self.room(),
            hand_in: Box::new(move |snapshot: Snapshot| inlet.send(Arrival::Snapshot(snapshot))),
            report: Box::new(move |attempt| mirror::attempt(&reported, &attempt)),
            due: Box::new(move |index, at| {
                status.due(index, at);
                ledger.set_lazily(vec![(due_fact(ids[index]), Some(at.to_string()))]);
            }),
            stop,
            rounds: self.rounds,
        })
    }

    /// Whether a poll may start, as far as the disk goes (R29); whoever holds it back is asked to let go.
    fn room(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let journal = self.directory.ledger.clone();
        let journal_max = self.config.limits.journal.0;
        let reserve = self.directory.reserve.clone();
        let relief = self.relief.clone();
        Box::new(move || {
            let room = journal.counters().bytes.load(Ordering::Relaxed) < journal_max
                && (reserve.has_room()).unwrap_or_else(|fault| stop::fatal(&fault));
            if !room {
                journal.roll();
                relief.ask();
            }
            room
        })
    }
}

/// Becomes true when somebody asks to stop.
fn stop_polling(stop: &Stop, runtime: &Runtime) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let stop = stop.clone();
    runtime.spawn(async move {
        stop.wait().await;
        let _ = sender.send(true);
        // The receivers tell a sender that is gone from one that said stop.
        std::future::pending::<()>().await;
    });
    receiver
}

/// The validators of each cell, where they hold: not where a removal is pending (R9). A crash between
/// saving misses and writing the facts leaves both.
fn known_validators(
    config: &Config,
    cells: &[(CellId, Cell)],
    facts: &dyn Facts,
    trusted: impl Fn(CellId) -> bool,
) -> Vec<Option<Validators>> {
    let known = |(id, cell): &(CellId, Cell)| {
        let holds = trusted(*id) || fail::broken("r09");
        let fact = facts.get(&validators_fact(*id)).filter(|_| holds)?;
        Validators::read(&fact, identity_of(config, cell))
    };
    cells.iter().map(known).collect()
}

/// The fact that holds when a cell is due next (R14).
fn due_fact(cell: CellId) -> String {
    format!("due/{:05}", cell.0)
}

/// What validators of the cell depend on.
fn identity_of(config: &Config, cell: &Cell) -> u64 {
    let source = &config.source[&cell.source];
    validator_identity(source, cell, config.topic(&cell.source))
}

#[cfg(test)]
mod tests {
    use deltapoll_state::journal::{Journal, Options};
    use deltapoll_state::pages::Pages;
    use deltapoll_state::store::MemoryStore;
    use deltapoll_state::word::KeyHash;

    use super::*;
    use crate::config;
    use crate::config::cell::expand;
    use crate::dataflow::dedup::misses::Misses;
    use crate::ledger::Ledger;

    #[test]
    fn r09_validators_do_not_hold_where_a_removal_is_pending() {
        let text = "name = \"n\"\n[source.s]\nurl = \"http://h/{a}\"\nkey = [\"/id\"]\n\
                    vars = { a = [\"1\", \"2\"] }\nrecord_key = \"{a}:{key}\"\n";
        let config = config::parse(text, "test").unwrap();
        let cells = expand("s", &config.source["s"]);
        let cells: Vec<_> = (1..).map(CellId).zip(cells).collect();
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::start(Journal::open(dir.path(), Options::default()).unwrap());
        for (id, cell) in &cells {
            let validators = Validators {
                config: identity_of(&config, cell),
                etag: None,
                modified: None,
                body: "00".into(),
            };
            let fact = (validators_fact(*id), Some(validators.write()));
            ledger.set(vec![fact], false).unwrap();
        }
        let pages = Pages::new(Arc::new(MemoryStore::default()));
        let mut misses = Misses::default();
        misses.of(CellId(2)).insert(KeyHash(7), 1);
        misses.of(CellId(1));
        misses.save(&pages, 0);
        let saved = Misses::take(&pages, 3).unwrap();
        let trusted = |cell| !saved.iter().any(|misses| misses.has(cell));
        let known = known_validators(&config, &cells, &ledger, trusted);
        assert!(known[0].is_some() && known[1].is_none());
    }
}

//! From stored snapshots into the graph: read ahead on other threads, handed in in order, within the
//! memory that is allowed from reading to seal (R29).
//!
//! Three tasks in a row: one admits files and has them read, one hands in what was read, one waits for
//! outcomes, takes them in the order of the snapshots, and gives the memory back.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::secret;
use crate::fault::Fault;
use crate::io::http::budget::{Budget, Reservation};
use crate::io::http::schedule::GATE_PAUSE;
use crate::log;
use crate::snapshot::{Outcome, PollId, Snapshot, Stored, Verdict};
use crate::status::{Polled, Status};

use super::inputs::Input;
use super::letters::Letters;
use super::places::Location;
use super::read::{self, Cut, Form, Reading};
use super::{Done, OnBad};

/// Snapshots between reading and seal, at most: enough that many small ones share an fsync.
const AHEAD: usize = 512;
/// Bytes read ahead, at most: more brings nothing.
const AHEAD_BYTES: u64 = 64 << 20;
/// What a compressed file is expected to grow to.
const EXPANSION: u64 = 8;
/// Without a terminal, the time between two lines about progress.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// What a feed needs.
pub struct Feed {
    /// What is read, in order.
    pub files: Vec<Input>,
    /// How files are read.
    pub reading: Reading,
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

type Read1 = (Result<Cut, String>, Reservation);

/// A file that is being read.
struct Begun {
    input: Input,
    reading: JoinHandle<Read1>,
}

/// A snapshot in the graph.
struct Waiting {
    input: Input,
    poll: PollId,
    bytes: u64,
    /// Given back when the outcome is there.
    reservation: Reservation,
}

impl Feed {
    /// Feeds everything, until the end, a file that cannot be used, or a request to stop. `outcomes` are
    /// those of all cells, by their place in the plan.
    pub async fn feed(self, outcomes: Vec<UnboundedReceiver<Outcome>>) -> Fed {
        let since = clock::now();
        let total: u64 = self.files.iter().map(|file| file.size).sum();
        let of = self.files.len() as u64;
        let strict = self.on_bad == OnBad::Stop;
        let (begin, mut begun) = mpsc::channel::<Begun>(AHEAD);
        let (enter, entered) = mpsc::channel::<Waiting>(AHEAD);
        let Feed {
            files,
            reading,
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
            readers: Arc::new(Semaphore::new(readers)),
            budget: Budget::new(staging.min(AHEAD_BYTES)),
            room,
            stop: stop.clone(),
        };
        let admitting = tokio::spawn(admission.admit(files, begin));
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
        let mut unreadable = 0;
        let mut poll = 0;
        while let Some(Begun { input, reading }) = begun.recv().await {
            let (cut, reservation) = reading.await.expect("a panic ends the process");
            if *stop.borrow() || waiting.is_finished() {
                break;
            }
            let cut = match cut {
                Ok(cut) => cut,
                Err(reason) => match bad.take(&input, &reason) {
                    Ok(()) => {
                        unreadable += 1;
                        continue;
                    }
                    Err(stopped) => {
                        fault = Some(stopped);
                        break;
                    }
                },
            };
            poll += 1;
            let snapshot = Snapshot {
                index: input.index,
                poll,
                complete: complete && input.form != Form::Avro,
                polled_at: input.place.polled_at,
                pieces: cut.pieces,
                validators: None,
                stored: Some(Stored {
                    name: input.place.name.clone().unwrap_or_default().into(),
                    strict,
                }),
            };
            let entering = Waiting {
                input,
                poll,
                bytes: cut.bytes,
                reservation,
            };
            // IMPORTANT: whoever waits for the outcome is told first; when nobody waits any more, nothing
            // more is handed in.
            if enter.send(entering).await.is_err() {
                break;
            }
            hand_in(snapshot);
        }
        drop((enter, begun));
        admitting.abort();
        let (mut done, failed, outcomes) = waiting.await.expect("a panic ends the process");
        done.of = of;
        done.bad += unreadable;
        done.took = clock::now().duration_since(since);
        Fed {
            done,
            fault: failed.or(fault),
            outcomes,
        }
    }
}

/// Admits files and has them read.
struct Admission {
    reading: Arc<Reading>,
    readers: Arc<Semaphore>,
    budget: Budget,
    room: Box<dyn Fn() -> bool + Send + Sync>,
    stop: watch::Receiver<bool>,
}

impl Admission {
    async fn admit(self, files: Vec<Input>, begin: mpsc::Sender<Begun>) {
        for input in files {
            while !*self.stop.borrow() && !(self.room)() {
                tokio::time::sleep(GATE_PAUSE).await;
            }
            if *self.stop.borrow() {
                return;
            }
            let name = input.place.name.as_deref().unwrap_or_default();
            let expected = match read::without_compression(name).is_some() {
                true => input.size.saturating_mul(EXPANSION),
                false => input.size,
            };
            let expected = expected.min(self.reading.body_max);
            // In order: the oldest that is not sealed is always admitted.
            let reservation = self.budget.reserve(expected).await;
            let turn = self.readers.clone().acquire_owned().await;
            let turn = turn.expect("it is never closed");
            let (location, form) = (input.location.clone(), input.form);
            let reading = self.reading.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let mut reservation = reservation;
                let runtime = tokio::runtime::Handle::current();
                let cut = open(&location).and_then(|file| {
                    let grow = |bytes| runtime.block_on(reservation.grow_to(bytes));
                    read::read(file, form, &reading, grow)
                });
                (cut, reservation)
            });
            if begin.send(Begun { input, reading }).await.is_err() {
                return;
            }
        }
    }
}

/// Opens what is stored there.
///
/// # Errors
/// When it is not there, or cannot be opened.
pub fn open(location: &Location) -> Result<Box<dyn Read + Send>, String> {
    match location {
        Location::File(path) => match std::fs::File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(format!("it cannot be opened: {error}")),
        },
        Location::Object(objects, name) => match objects.read(name) {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err("it is not there any more".into()),
            Err(trouble) => Err(trouble.message),
        },
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
    /// Where it is to stop there, or the list cannot be written.
    fn take(&self, input: &Input, reason: &str) -> Result<(), Fault> {
        let file = input.location.to_string();
        if self.strict {
            return Err(Fault::failed(format!(
                "{file}: {}; what came before it is sealed: mend it, or go on without it with \
                 --bad-files set-aside",
                secret::redact(reason)
            )));
        }
        tracing::warn!("{file} is set aside: {}", secret::redact(reason));
        self.letters.add(&file, reason)
    }
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
        mut entered: mpsc::Receiver<Waiting>,
        mut outcomes: Vec<UnboundedReceiver<Outcome>>,
    ) -> Collected {
        let mut done = Done::default();
        let mut fault = None;
        // What found nothing to seal does not wait for the fsync of those before it.
        let mut early = BTreeMap::new();
        while let Some(waiting) = entered.recv().await {
            let outcome = loop {
                if let Some(outcome) = early.remove(&waiting.poll) {
                    break Some(outcome);
                }
                let outcome = tokio::select! {
                    biased;
                    outcome = outcomes[waiting.input.index].recv() => outcome,
                    // What is in the graph and not decided is left for the next run.
                    _ = self.stop.wait_for(|stop| *stop) => None,
                };
                let Some(outcome) = outcome else { break None };
                early.insert(outcome.poll, outcome);
            };
            let Some(outcome) = outcome else { break };
            drop(waiting.reservation);
            self.progress.advance(waiting.input.size, &done);
            match outcome.verdict {
                Verdict::Failed(reason) => match self.bad.take(&waiting.input, &reason) {
                    Ok(()) => done.bad += 1,
                    Err(stopped) => {
                        fault = Some(stopped);
                        break;
                    }
                },
                verdict => {
                    done.snapshots += 1;
                    done.unchanged += u64::from(verdict == Verdict::Unchanged);
                    done.bytes += waiting.bytes;
                    done.tally.add(&outcome.tally);
                    let index = waiting.input.index;
                    self.status.polled(index, Polled::Stored(outcome.tally));
                }
            }
        }
        (done, fault, outcomes)
    }
}

/// How far it is: on a terminal a bar, otherwise a line now and then.
struct Progress {
    of: u64,
    bytes: u64,
    total: u64,
    since: Instant,
    told: Instant,
    live: Option<ProgressBar>,
}

impl Progress {
    fn new(of: u64, total: u64, since: Instant) -> Progress {
        let style = "backfill {wide_bar} {bytes}/{total_bytes}, {msg}, {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is sound");
        let live = log::is_live().then(|| {
            let bar = ProgressBar::new(total).with_style(style);
            log::terminal().add(bar)
        });
        Progress {
            of,
            bytes: 0,
            total,
            since,
            told: since,
            live,
        }
    }

    fn advance(&mut self, bytes: u64, done: &Done) {
        self.bytes += bytes;
        let now = clock::now();
        let told = || {
            let seconds = now.duration_since(self.since).as_secs_f64().max(0.001);
            format!(
                "{}/{} snapshots, {:.0} entries/s, {} changes",
                done.snapshots + 1,
                self.of,
                done.tally.entries as f64 / seconds,
                done.tally.changes()
            )
        };
        if let Some(live) = &self.live {
            live.set_position(self.bytes);
            live.set_message(told());
        } else if now.duration_since(self.told) >= TELL_EVERY {
            tracing::info!(
                "backfill: {}, {} of {}",
                told(),
                HumanBytes(self.bytes),
                HumanBytes(self.total)
            );
            self.told = now;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }
}

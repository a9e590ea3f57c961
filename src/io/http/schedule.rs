//! One task per cell: wait, ask, hand in, wait for the outcome, and again (R1).
//!
//! One cell's trouble never stops another: whatever the answer, the cell goes on at its pace, and its
//! failure is shown. Nothing is asked while the journal is above its limit (R29).

use std::sync::Arc;
use std::time::{Duration, Instant};

use deltapoll_state::fail;
use reqwest::{Client, Url};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::clock;
use crate::config::secret::Text;
use crate::io::http::answer::{self, Answer, Reading};
use crate::io::http::budget::Budget;
use crate::io::http::pace::Pace;
use crate::io::http::validators::Validators;
use crate::kept;
use crate::snapshot::{Outcome, PollId, Snapshot, Tally, Verdict};

/// While the journal is above its limit it is looked at this often.
pub const GATE_PAUSE: Duration = Duration::from_millis(200);
/// Who is due later than that does not keep memory for it.
const KEEP_MEMORY: Duration = Duration::from_secs(2);
/// What a first request reserves; a later one reserves what the cell's last answer took.
const FIRST_BYTES: u64 = 64 << 10;

/// One cell to poll.
pub struct Cell {
    /// Its place in the plan.
    pub index: usize,
    /// The address, vars filled in.
    pub url: String,
    /// Request headers.
    pub headers: Vec<(String, Text)>,
    /// Time between two polls.
    pub every: Duration,
    /// When it is due first, as a run before this one left it (Unix ms); `None`: at once.
    pub due: Option<u64>,
    /// How answers are read.
    pub reading: Reading,
    /// Whether a snapshot is the whole cell.
    pub complete: bool,
    /// Of the snapshot that the state holds.
    pub validators: Option<Validators>,
    /// What became of each snapshot.
    pub outcomes: UnboundedReceiver<Outcome>,
}

/// What all cells share.
pub struct Shared {
    /// The client.
    pub client: Client,
    /// Memory.
    pub budget: Budget,
    /// Hosts that want to be left alone.
    pub pace: Pace,
    /// Whether the journal has room.
    pub room: Box<dyn Fn() -> bool + Send + Sync>,
    /// Takes snapshots.
    pub hand_in: Box<dyn Fn(Snapshot) + Send + Sync>,
    /// Told every finished attempt.
    pub report: Box<dyn Fn(Attempt) + Send + Sync>,
    /// Told when a cell, by its place in the plan, is due next (Unix ms).
    pub due: Box<dyn Fn(usize, u64) + Send + Sync>,
    /// Becomes true when polling is to stop.
    pub stop: watch::Receiver<bool>,
    /// Attempts of each cell; `None`: until stopped.
    pub rounds: Option<u64>,
}

/// One finished attempt of a cell.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The cell's place in the plan.
    pub index: usize,
    /// What came of it.
    pub verdict: Verdict,
    /// How the entries fared; all zero where none were looked at.
    pub tally: Tally,
    /// Bytes of the body.
    pub bytes: u64,
}

/// Polls a cell until it is told to stop or its rounds are done; returns whether the last attempt was
/// good.
pub async fn poll_cell(mut cell: Cell, shared: Arc<Shared>) -> bool {
    let host = Url::parse(&cell.url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    let mut stop = shared.stop.clone();
    let mut expected = Expected {
        bytes: FIRST_BYTES,
        known: false,
        same: false,
    };
    let mut good = true;
    if !until_first(&cell, &shared, &mut stop).await {
        return good;
    }
    for poll in 1.. {
        if shared.rounds.is_some_and(|rounds| poll > rounds) {
            break;
        }
        if !may_ask(&shared, &host, &mut stop).await {
            break;
        }
        let started = clock::now();
        let attempt = tokio::select! {
            attempt = attempt(&mut cell, &shared, &host, poll, expected) => attempt,
            () = stopped(&mut stop) => break,
        };
        let Some(asked) = attempt else { break };
        expected = Expected {
            bytes: asked.held.max(FIRST_BYTES),
            known: expected.known || asked.held > 0,
            same: asked.same,
        };
        good = !matches!(asked.attempt.verdict, Verdict::Failed(_));
        (shared.report)(asked.attempt);
        let wait = (started + cell.every).saturating_duration_since(clock::now());
        (shared.due)(cell.index, clock::unix_ms() + millis(wait));
        if wait > KEEP_MEMORY {
            kept::give_back();
        }
        let last = shared.rounds.is_some_and(|rounds| poll >= rounds);
        if !last && !sleep_until(started + cell.every, &mut stop).await {
            break;
        }
    }
    good
}

/// Waits until the first poll is due, as a run before this one left it: a restart is no reason to ask
/// more often. `false`: polling stops.
async fn until_first(cell: &Cell, shared: &Shared, stop: &mut watch::Receiver<bool>) -> bool {
    let now = clock::unix_ms();
    // Never longer than between two polls: `every` may be shorter now, and clocks are set.
    let wait = cell.due.map_or(0, |due| due.saturating_sub(now));
    let wait = wait.min(millis(cell.every));
    if wait == 0 {
        return true;
    }
    (shared.due)(cell.index, now + wait);
    sleep_until(clock::now() + Duration::from_millis(wait), stop).await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Asked {
    attempt: Attempt,
    /// Memory that it took.
    held: u64,
    same: bool,
}

/// What the next answer is expected to be.
#[derive(Clone, Copy)]
struct Expected {
    /// Memory to begin with: what the last one took.
    bytes: u64,
    /// Whether there was a body so far.
    known: bool,
    /// Whether it was like the one before.
    same: bool,
}

/// One attempt; `None` when the pipeline has ended.
async fn attempt(
    cell: &mut Cell,
    shared: &Shared,
    host: &str,
    poll: PollId,
    expected: Expected,
) -> Option<Asked> {
    let mut reservation = match expected.known {
        true => shared.budget.reserve(expected.bytes).await,
        false => shared.budget.reserve_unknown(expected.bytes).await,
    };
    let known = cell.validators.as_ref();
    let answer = match super::client::get(&shared.client, &cell.url, &cell.headers, known).await {
        Ok(response) => {
            answer::read(
                response,
                &cell.reading,
                known,
                expected.same,
                &mut reservation,
            )
            .await
        }
        Err(reason) => Answer::Failed(reason),
    };
    let index = cell.index;
    let done = |verdict, bytes| Attempt {
        index,
        verdict,
        tally: Tally::default(),
        bytes,
    };
    let failed = |reason| {
        Some(Asked {
            attempt: done(Verdict::Failed(reason), 0),
            held: 0,
            same: false,
        })
    };
    if !matches!(answer, Answer::TooMany { .. }) {
        shared.pace.answered(host);
    }
    match answer {
        Answer::Failed(reason) => failed(reason),
        Answer::TooMany { retry_after, what } => {
            let wait = shared.pace.too_many(host, retry_after);
            let wait =
                humantime::format_duration(Duration::from_secs(wait.as_secs_f64().ceil() as u64));
            failed(format!(
                "the API answered 429 Too Many Requests{what}: waiting {wait}"
            ))
        }
        Answer::Unchanged { bytes } => Some(Asked {
            attempt: done(Verdict::Unchanged, bytes),
            held: bytes,
            same: true,
        }),
        Answer::Body {
            pieces,
            validators,
            bytes,
            held,
        } => {
            let snapshot = Snapshot {
                index,
                poll,
                complete: cell.complete,
                polled_at: clock::unix_ms(),
                pieces,
                validators: Some(validators.write()),
                stored: None,
            };
            (shared.hand_in)(snapshot);
            let outcome = outcome_of(&mut cell.outcomes, poll).await?;
            cell.validators = outcome.validates().then_some(validators);
            let (verdict, tally) = (outcome.verdict, outcome.tally);
            Some(Asked {
                attempt: Attempt {
                    index,
                    verdict,
                    tally,
                    bytes,
                },
                held,
                same: false,
            })
        }
    }
}

/// Waits for the outcome of `poll`; those of abandoned polls are dropped (R1).
async fn outcome_of(outcomes: &mut UnboundedReceiver<Outcome>, poll: PollId) -> Option<Outcome> {
    loop {
        let outcome = outcomes.recv().await?;
        if outcome.poll == poll || fail::broken("r01") {
            return Some(outcome);
        }
    }
}

/// Waits until a request may be sent; `false`: polling stops.
async fn may_ask(shared: &Shared, host: &str, stop: &mut watch::Receiver<bool>) -> bool {
    loop {
        if *stop.borrow() {
            return false;
        }
        let until = match shared.pace.paused_until(host) {
            Some(until) => until,
            None if (shared.room)() || fail::broken("r29") => return true,
            None => clock::now() + GATE_PAUSE,
        };
        if !sleep_until(until, stop).await {
            return false;
        }
    }
}

/// Sleeps; `false`: polling stops.
async fn sleep_until(until: Instant, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep_until(until.into()) => true,
        () = stopped(stop) => false,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the program.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;

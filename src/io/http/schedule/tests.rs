//! Polls against an API that does as it is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::io::http::answer::Reading;
use crate::io::http::budget::Budget;
use crate::io::http::client;
use crate::io::http::pace::Pace;
use crate::io::http::validators::Validators;
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::Scan;

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]";
const NOT_MODIFIED: &str = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
/// Promises more than it sends, and keeps the connection open.
const DRIP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[";

/// How long the tests wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// An API that gives every request the same answer; counts requests, answers while `open`.
struct Api {
    url: String,
    requests: Arc<AtomicU64>,
    open: watch::Sender<bool>,
}

impl Api {
    async fn start(answer: &'static str, open: bool) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicU64::new(0));
        let (open, gate) = watch::channel(open);
        let counted = requests.clone();
        tokio::spawn(async move {
            let mut connections = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut gate = gate.clone();
                let counted = counted.clone();
                connections.push(tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await.unwrap();
                    counted.fetch_add(1, Ordering::SeqCst);
                    gate.wait_for(|open| *open).await.unwrap();
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream
                }));
            }
        });
        Api {
            url,
            requests,
            open,
        }
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// What the pipeline would be.
struct Behind {
    shared: Arc<Shared>,
    snapshots: mpsc::UnboundedReceiver<Snapshot>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    room: Arc<AtomicBool>,
    /// A message each time that somebody asks for room.
    asked: mpsc::UnboundedReceiver<()>,
    /// When the cell is due next, each time that it is said.
    dues: mpsc::UnboundedReceiver<u64>,
    _stop: watch::Sender<bool>,
}

impl Behind {
    async fn snapshot(&mut self) -> Snapshot {
        let handed = tokio::time::timeout(PATIENCE, self.snapshots.recv()).await;
        handed.expect("a snapshot is handed in").unwrap()
    }
}

fn behind(rounds: u64) -> Behind {
    let (handed, snapshots) = mpsc::unbounded_channel();
    let (asks, asked) = mpsc::unbounded_channel();
    let (dues, due) = mpsc::unbounded_channel();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let room = Arc::new(AtomicBool::new(true));
    let (stop_sender, stop) = watch::channel(false);
    let (reported, has_room) = (attempts.clone(), room.clone());
    let shared = Shared {
        client: client::client().unwrap(),
        budget: Budget::new(1 << 20),
        pace: Pace::default(),
        room: Box::new(move || {
            // Most tests do not listen.
            let _ = asks.send(());
            has_room.load(Ordering::SeqCst)
        }),
        hand_in: Box::new(move |snapshot| handed.send(snapshot).unwrap()),
        report: Box::new(move |attempt| reported.lock().unwrap().push(attempt)),
        due: Box::new(move |_, at| {
            let _ = dues.send(at);
        }),
        stop,
        rounds: Some(rounds),
    };
    Behind {
        shared: Arc::new(shared),
        snapshots,
        attempts,
        room,
        asked,
        dues: due,
        _stop: stop_sender,
    }
}

fn cell(api: &Api, timeout: Duration) -> (Cell, mpsc::UnboundedSender<Outcome>) {
    let (sender, outcomes) = mpsc::unbounded_channel();
    let cell = Cell {
        index: 0,
        url: api.url.clone(),
        headers: Vec::new(),
        every: Duration::ZERO,
        due: None,
        reading: Reading {
            records: Pointer::parse("").unwrap(),
            scan: Scan::of_keys(vec![Pointer::parse("/id").unwrap()]),
            body_max: 1 << 20,
            timeout,
            config: 0,
        },
        complete: true,
        validators: None,
        outcomes,
    };
    (cell, sender)
}

fn outcome(poll: PollId, verdict: Verdict) -> Outcome {
    Outcome {
        index: 0,
        poll,
        verdict,
        tally: Tally::default(),
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn r01_the_next_poll_waits_for_this_ones_outcome_and_late_answers_are_dropped() {
    let api = Api::start(GOOD, true).await;
    let mut behind = behind(2);
    let (cell, outcomes) = cell(&api, LONG);
    let polling = tokio::spawn(poll_cell(cell, behind.shared.clone()));
    let first = behind.snapshot().await;
    assert_eq!((first.poll, api.requests()), (1, 1));
    // Of a poll that was given up long ago: it must not be taken for this one's.
    outcomes.send(outcome(0, Verdict::Sealed)).unwrap();
    outcomes
        .send(outcome(1, Verdict::Failed("as told".into())))
        .unwrap();
    let second = behind.snapshot().await;
    assert_eq!((second.poll, api.requests()), (2, 2));
    {
        let attempts = behind.attempts.lock().unwrap();
        assert_eq!(attempts.len(), 1, "one attempt for each poll");
        assert!(
            matches!(&attempts[0].verdict, Verdict::Failed(why) if why == "as told"),
            "{:?}",
            attempts[0]
        );
    }
    outcomes.send(outcome(2, Verdict::Sealed)).unwrap();
    assert!(polling.await.unwrap(), "the last attempt was good");
}

#[tokio::test]
async fn r02_a_cell_whose_api_hangs_does_not_hold_back_another() {
    let (slow, fast) = tokio::join!(Api::start(GOOD, false), Api::start(GOOD, true));
    let mut hung = behind(1);
    let (slow_cell, slow_outcomes) = cell(&slow, LONG);
    let waiting = tokio::spawn(poll_cell(slow_cell, hung.shared.clone()));
    // Both share what cells share.
    let (fast_cell, outcomes) = cell(&fast, LONG);
    let polling = tokio::spawn(poll_cell(fast_cell, hung.shared.clone()));
    let snapshot = hung.snapshot().await;
    outcomes
        .send(outcome(snapshot.poll, Verdict::Sealed))
        .unwrap();
    assert!(polling.await.unwrap());
    assert!(!waiting.is_finished(), "its API has not answered yet");
    slow.open.send(true).unwrap();
    let snapshot = hung.snapshot().await;
    slow_outcomes
        .send(outcome(snapshot.poll, Verdict::Sealed))
        .unwrap();
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn r09_a_304_that_nobody_asked_for_is_a_failed_poll() {
    let api = Api::start(NOT_MODIFIED, true).await;
    for (etag, good) in [(None, false), (Some("\"1\"".to_owned()), true)] {
        let behind = behind(1);
        let (mut cell, _outcomes) = cell(&api, LONG);
        cell.validators = Some(Validators {
            config: 0,
            etag,
            modified: None,
            body: String::new(),
        });
        assert_eq!(poll_cell(cell, behind.shared.clone()).await, good);
    }
}

#[tokio::test]
async fn r29_a_body_that_does_not_come_to_its_end_is_given_up_with_its_memory() {
    let api = Api::start(DRIP, true).await;
    let behind = behind(1);
    let (cell, _outcomes) = cell(&api, Duration::from_millis(50));
    assert!(!poll_cell(cell, behind.shared.clone()).await);
    assert_eq!(behind.shared.budget.used(), 0);
    let attempts = behind.attempts.lock().unwrap();
    assert!(
        matches!(&attempts[0].verdict, Verdict::Failed(why) if why.contains("1 bytes of it had come")),
        "{:?}",
        attempts[0]
    );
}

#[tokio::test]
async fn r29_no_request_is_sent_while_the_journal_is_full() {
    let api = Api::start(GOOD, true).await;
    let mut behind = behind(1);
    behind.room.store(false, Ordering::SeqCst);
    let (cell, outcomes) = cell(&api, LONG);
    let polling = tokio::spawn(poll_cell(cell, behind.shared.clone()));
    // It looks again after a while, and finds the same.
    for _ in 0..3 {
        let asked = tokio::time::timeout(PATIENCE, behind.asked.recv()).await;
        asked.expect("it looks again").unwrap();
        assert_eq!(api.requests(), 0);
    }
    behind.room.store(true, Ordering::SeqCst);
    let snapshot = behind.snapshot().await;
    outcomes
        .send(outcome(snapshot.poll, Verdict::Sealed))
        .unwrap();
    assert!(polling.await.unwrap());
}

/// How long a cell that is polled every hour waits for its first poll, if the last run left it due
/// that far ahead; on a paused clock that stands at the real time, so once in a test.
async fn waits_for_first_poll(ahead: Duration) -> Duration {
    let hour = Duration::from_secs(3600);
    let mut behind = behind(1);
    let api = Api {
        url: "http://127.0.0.1:1/".into(),
        requests: Arc::default(),
        open: watch::channel(true).0,
    };
    let (mut cell, _outcomes) = cell(&api, LONG);
    cell.every = hour;
    cell.due = Some(clock::unix_ms() + millis(ahead));
    let begun = tokio::time::Instant::now();
    assert!(
        !poll_cell(cell, behind.shared.clone()).await,
        "nobody listens there"
    );
    let waited = begun.elapsed();
    let first = behind.dues.recv().await.unwrap();
    let next = behind.dues.recv().await.unwrap();
    assert!(
        first <= clock::unix_ms() + millis(hour),
        "what is waited for is shown"
    );
    // Both are cut to milliseconds.
    assert!(next + 10 >= first, "and what comes then");
    waited
}

/// Time-outs of the client: nothing answers, and time passes at once.
const SLACK: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn r14_a_restart_keeps_the_pace_of_a_cell() {
    let half = Duration::from_secs(1800);
    let waited = waits_for_first_poll(half).await;
    assert!(
        waited + SLACK >= half && waited <= half + SLACK,
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn r14_a_restart_waits_no_longer_than_between_two_polls_whatever_the_clock_was() {
    let hour = Duration::from_secs(3600);
    let waited = waits_for_first_poll(hour * 8766).await;
    assert!(
        waited + SLACK >= hour && waited <= hour + SLACK,
        "{waited:?}"
    );
}

//! The league API: who may ask, what goes wrong, which version they get.
//!
//! A request passes the hold, the token, the rate limit and the dice, in this order; only then a version
//! is taken. What is refused uses up none.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::sync::watch;

use super::cell::Cell;
use super::fault::{Dice, Trouble};
use super::ladder::Rules;
use super::listener::Reset;
use super::rate::Meter;
use super::render::{Names, Version};
use super::{Options, answer, control};
use crate::clock;

const PLATFORMS: [&str; 15] = [
    "kr", "br1", "eun1", "euw1", "jp1", "la1", "la2", "me1", "na1", "oc1", "ru", "sg2", "tr1",
    "tw2", "vn2",
];
const QUEUES: [&str; 2] = ["RANKED_SOLO_5x5", "RANKED_FLEX_SR"];
const TIERS: [&str; 3] = ["challenger", "grandmaster", "master"];

/// Which cell is meant. There are as many as the lists above allow: 90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    platform: &'static str,
    queue: &'static str,
    tier: &'static str,
}

impl Place {
    pub(super) fn find(platform: &str, queue: &str, tier: &str) -> Option<Place> {
        let known =
            |list: &[&'static str], name: &str| list.iter().copied().find(|one| *one == name);
        Some(Place {
            platform: known(&PLATFORMS, platform)?,
            queue: known(&QUEUES, queue)?,
            tier: known(&TIERS, tier)?,
        })
    }

    fn label(self) -> String {
        format!("{},{}", self.platform, self.queue)
    }
}

/// How often what was answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Requests that came, whether they are answered or still held.
    pub(super) arrived: u64,
    pub(super) requests: u64,
    pub(super) faults: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct League {
    options: Options,
    versions: Option<Arc<File>>,
    cells: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<Cell>>>>,
    meters: Mutex<HashMap<&'static str, Meter>>,
    dice: Mutex<Dice>,
    counts: Mutex<Counts>,
    /// Requests after so many wait for their answer; None holds nothing.
    hold: watch::Sender<Option<u64>>,
}

/// Locks what stays sound whoever panicked.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn router(
    options: Options,
    versions: Option<Arc<File>>,
    hold: watch::Sender<Option<u64>>,
) -> Router {
    let league = Arc::new(League {
        dice: Mutex::new(Dice::new(options.faults.clone(), options.seed)),
        options,
        versions,
        cells: Mutex::default(),
        meters: Mutex::default(),
        counts: Mutex::default(),
        hold,
    });
    Router::new()
        .route(
            "/{platform}/lol/league/v4/{list}/by-queue/{queue}",
            get(of_platform),
        )
        .route("/lol/league/v4/{list}/by-queue/{queue}", get(of_default))
        .route("/sim/faults", post(control::faults))
        .route("/sim/advance", post(control::advance))
        .route("/sim/set", post(control::set))
        .route("/sim/hold", post(control::hold))
        .route("/sim/stats", get(control::stats))
        .fallback(async || answer::refusal(StatusCode::NOT_FOUND, "Data not found"))
        .with_state(league)
}

async fn of_platform(
    State(league): State<Arc<League>>,
    Path((platform, list, queue)): Path<(String, String, String)>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    headers: HeaderMap,
) -> Response {
    league
        .answer(&platform, &list, &queue, &headers, &reset)
        .await
}

async fn of_default(
    State(league): State<Arc<League>>,
    Path((list, queue)): Path<(String, String)>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    headers: HeaderMap,
) -> Response {
    league
        .answer(PLATFORMS[0], &list, &queue, &headers, &reset)
        .await
}

impl League {
    async fn answer(
        &self,
        platform: &str,
        list: &str,
        queue: &str,
        headers: &HeaderMap,
        reset: &Reset,
    ) -> Response {
        self.held().await;
        let answer = match self.place(platform, list, queue, headers) {
            Ok(place) => self.metered(place, reset).await,
            Err((status, message)) => answer::refusal(status, message),
        };
        let mut counts = locked(&self.counts);
        counts.requests += 1;
        *counts.statuses.entry(answer.status().as_u16()).or_default() += 1;
        answer
    }

    /// Counts a request and returns when its turn to be answered has come.
    async fn held(&self) {
        let number = {
            let mut counts = locked(&self.counts);
            counts.arrived += 1;
            counts.arrived
        };
        let mut hold = self.hold.subscribe();
        // An error is the sender dropped, and `self` has it.
        let _ = hold
            .wait_for(|after| after.is_none_or(|after| number <= after))
            .await;
    }

    pub(super) fn hold(&self, after: Option<u64>) {
        self.hold.send_replace(after);
    }

    fn place(
        &self,
        platform: &str,
        list: &str,
        queue: &str,
        headers: &HeaderMap,
    ) -> Result<Place, (StatusCode, &'static str)> {
        if let Some(expected) = &self.options.token {
            match headers.get("x-riot-token") {
                None => return Err((StatusCode::UNAUTHORIZED, "Unauthorized")),
                Some(token) if token.as_bytes() != expected.as_bytes() => {
                    return Err((StatusCode::FORBIDDEN, "Forbidden"));
                }
                Some(_) => {}
            }
        }
        list.strip_suffix("leagues")
            .and_then(|tier| Place::find(platform, queue, tier))
            .ok_or((StatusCode::NOT_FOUND, "Data not found"))
    }

    async fn metered(&self, place: Place, reset: &Reset) -> Response {
        let (wait, limits, counts) = {
            let (rate, now) = (self.options.rate.clone(), clock::now());
            let mut meters = locked(&self.meters);
            let meter = meters
                .entry(place.platform)
                .or_insert_with(|| Meter::new(rate.unwrap_or_default(), now));
            (meter.count(now), meter.limits(), meter.counts())
        };
        let mut answer = match wait.filter(|_| self.options.rate.is_some()) {
            Some(wait) => answer::too_many(Some(("application", wait))),
            None => self.played(place, reset).await,
        };
        for (name, value) in [
            ("x-app-rate-limit", &limits),
            ("x-app-rate-limit-count", &counts),
            ("x-method-rate-limit", &limits),
            ("x-method-rate-limit-count", &counts),
        ] {
            let value = HeaderValue::from_str(value).expect("digits, colons and commas");
            answer.headers_mut().insert(name, value);
        }
        answer
    }

    async fn played(&self, place: Place, reset: &Reset) -> Response {
        let trouble = locked(&self.dice).roll(&place.label());
        locked(&self.counts).faults += u64::from(trouble.is_some());
        if let Some(trouble) = trouble.filter(|trouble| trouble.replaces_the_answer()) {
            return refused(trouble, reset);
        }
        match self.version(place, trouble == Some(Trouble::Empty)).await {
            Ok(version) => self.sent(&version.body, trouble),
            Err(error) => {
                let message = format!("simulation failed: {error}");
                answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, &message)
            }
        }
    }

    fn sent(&self, body: &Bytes, trouble: Option<Trouble>) -> Response {
        let (place, ends_early) = {
            let mut dice = locked(&self.dice);
            (dice.place(body.len()), dice.coin())
        };
        match trouble {
            Some(Trouble::Slow) => answer::slow(body, place, self.options.slow),
            Some(Trouble::Cut) => answer::cut(body, place),
            Some(Trouble::Malformed) => answer::malformed(body, place, ends_early),
            _ => answer::whole(body.clone()),
        }
    }

    async fn version(&self, place: Place, empty: bool) -> io::Result<Version> {
        let cell = self.cell(place)?;
        // A task of its own: were it dropped when a client hangs up, the next version's line could
        // be written beside this one's.
        tokio::spawn(async move { cell.lock().await.version(empty).await })
            .await
            .map_err(io::Error::other)?
    }

    pub(super) fn cell(&self, place: Place) -> io::Result<Arc<tokio::sync::Mutex<Cell>>> {
        let mut cells = locked(&self.cells);
        if let Some(cell) = cells.get(&place) {
            return Ok(Arc::clone(cell));
        }
        let (platform, queue) = (place.platform.to_owned(), place.queue.to_owned());
        let names = Names {
            platform: platform.clone(),
            queue: queue.clone(),
            tier: place.tier,
        };
        let tier = TIERS.iter().position(|tier| *tier == place.tier);
        let rules = Rules {
            seed: self.options.seed,
            platform,
            tier: u8::try_from(tier.unwrap_or_default()).unwrap_or_default(),
            queue,
            entries: self.options.entries,
            churn: self.options.churn,
            leave: self.options.leave,
        };
        let cell = Cell::start(names, rules, &self.options, self.versions.clone())?;
        let cell = Arc::new(tokio::sync::Mutex::new(cell));
        cells.insert(place, Arc::clone(&cell));
        Ok(cell)
    }

    pub(super) fn cells(&self) -> BTreeMap<Place, Arc<tokio::sync::Mutex<Cell>>> {
        let cells = locked(&self.cells);
        cells
            .iter()
            .map(|(place, cell)| (*place, Arc::clone(cell)))
            .collect()
    }

    pub(super) fn dice(&self) -> std::sync::MutexGuard<'_, Dice> {
        locked(&self.dice)
    }

    pub(super) fn counts(&self) -> Counts {
        locked(&self.counts).clone()
    }
}

/// What is answered instead of a version.
fn refused(trouble: Trouble, reset: &Reset) -> Response {
    match trouble {
        Trouble::TooMany => answer::too_many(Some(("service", answer::BUSY))),
        Trouble::TooManyBare => answer::too_many(None),
        Trouble::Html => answer::html(),
        Trouble::Status(status) => {
            let status = StatusCode::from_u16(status);
            answer::status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
        _ => {
            reset.demand();
            answer::status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

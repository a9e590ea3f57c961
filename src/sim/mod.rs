//! The simulated league API: the peer of the demo, the tests and the benches.
//!
//! It has the paths and fields of Riot's league-v4 and ladders that play: seeded games change
//! points, wins, losses and flags, players come and go, entries stand in no order. A cell is a
//! platform, a tier and a queue, addressed by path:
//!
//! ```text
//! GET /{platform}/lol/league/v4/challengerleagues/by-queue/{queue}    (grandmaster-, masterleagues)
//! GET /lol/league/v4/challengerleagues/by-queue/{queue}               (platform kr)
//! POST /sim/faults?next=cut[,503][&cell=kr,RANKED_SOLO_5x5]   POST /sim/faults?spec=429:0.05
//! POST /sim/advance?cell=kr,RANKED_SOLO_5x5&n=3[&tier=master]
//! POST /sim/set?cell=kr,RANKED_SOLO_5x5&empty=2[&tier=master] GET /sim/stats
//! POST /sim/hold?after=9   (requests after the ninth wait)     POST /sim/hold   (no longer)
//! ```
//!
//! Guarantees: version n of a cell is its ladder after n advances, the same for the same seed. The
//! line of a version is in the versions file before its first byte is sent. A faulty answer uses
//! up a version only if bytes of one are sent. Bodies are rendered ahead, on a thread of each
//! cell, at most two versions, and sent without a copy.
//!
//! Reading order: `ladder` (the players), `render` (their bytes), `cell` (versions), `fault` and
//! `rate`, `answer`, `league` (the API), `control` (the knobs), `listener`.

mod answer;
mod cell;
mod control;
mod fault;
mod ladder;
mod league;
mod listener;
mod rate;
mod render;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use self::fault::{Faults, Trouble};
pub use self::rate::Rate;
use crate::fault::Fault;

/// When a cell moves on to its next version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Every answer is a version of its own.
    PerRequest,
    /// One version per interval, whoever asks.
    Every(Duration),
}

/// How the fields of an entry stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FieldOrder {
    /// Always the same: unchanged players are unchanged bytes.
    #[default]
    Stable,
    /// Fields and white space differ in every version.
    Varied,
}

/// How the entries of a ladder stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// In another order in every version.
    #[default]
    Shuffled,
    /// Always in the same order.
    Fixed,
}

/// What is simulated, and how badly it behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The players of each ladder.
    pub entries: usize,
    /// The fraction of the players that play, per version.
    pub churn: f64,
    /// The fraction of the players that leave (about as many come), per version.
    pub leave: f64,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// When a cell moves on.
    pub advance: Advance,
    /// How the fields of an entry stand.
    pub field_order: FieldOrder,
    /// How the entries stand.
    pub order: Order,
    /// The X-Riot-Token that is let in; None lets everybody in.
    pub token: Option<String>,
    /// What goes wrong by chance.
    pub faults: Faults,
    /// The pause in a slow answer.
    pub slow: Duration,
    /// The rate limit that is enforced per platform; None enforces nothing.
    pub rate: Option<Rate>,
    /// Where the served versions are written, a JSON line each. It is appended to.
    pub versions: Option<PathBuf>,
    /// The number of the first version that each cell serves.
    pub first_version: u64,
    /// Where to listen; port 0 is any free port.
    pub address: SocketAddr,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            entries: 300,
            churn: 0.01,
            leave: 0.001,
            seed: 7,
            advance: Advance::PerRequest,
            field_order: FieldOrder::Stable,
            order: Order::Shuffled,
            token: None,
            faults: Faults::default(),
            slow: Duration::from_secs(2),
            rate: None,
            versions: None,
            first_version: 0,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// A simulation that serves. Dropping it ends it, too, without waiting.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Running {
    /// The address before the path, as in `http://127.0.0.1:9480`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers what was asked, then closes every connection.
    pub async fn stop(self) {
        drop(self.stop);
        // A server that panicked has stopped, too.
        let _ = self.server.await;
    }
}

/// Starts to listen and serves from tasks of this runtime.
///
/// # Errors
/// A fraction outside 0 to 1, an address that is taken, a versions file that cannot be opened.
pub async fn serve(options: Options) -> Result<Running, Fault> {
    check(&options)?;
    let versions = match &options.versions {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Some(Arc::new(file.map_err(|error| {
                let path = path.display();
                Fault::failed(format!("cannot open the versions file {path}: {error}"))
            })?))
        }
    };
    let listener = TcpListener::bind(options.address).await.map_err(|error| {
        let address = options.address;
        Fault::failed(format!(
            "cannot listen on {address}: {error}; choose another port, or 0 for any"
        ))
    })?;
    let address = listener.local_addr().map_err(|error| {
        Fault::failed(format!("cannot learn the port of the simulation: {error}"))
    })?;
    let (stop, stopped) = oneshot::channel::<()>();
    let hold = watch::Sender::new(None);
    let service = league::router(options, versions, hold.clone())
        .into_make_service_with_connect_info::<listener::Reset>();
    let server =
        axum::serve(listener::Resettable(listener), service).with_graceful_shutdown(async move {
            // An error is the sender dropped, which is how it is stopped.
            let _ = stopped.await;
            hold.send_replace(None);
        });
    let server = tokio::spawn(async move {
        let _ = server.await;
    });
    Ok(Running {
        address,
        stop,
        server,
    })
}

fn check(options: &Options) -> Result<(), Fault> {
    for (name, fraction) in [("churn", options.churn), ("leave", options.leave)] {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Fault::usage(format!(
                "{name} is {fraction}: use a fraction between 0 and 1"
            )));
        }
    }
    if options.advance == Advance::Every(Duration::ZERO) {
        return Err(Fault::usage(
            "the advance interval is zero: use per-request, or 1s",
        ));
    }
    Ok(())
}

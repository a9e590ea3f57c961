//! The simulated league API: paths, fields, limits and moods of Riot's `league-v4`, on loopback.
//!
//! It is the demo's, the tests' and the benches' peer. Every ladder comes from a seed; versions are
//! rendered ahead on a thread of their own, at most two, so that serving costs no more than sending;
//! and every version is written to a file before its first byte is sent, for checkers.
//!
//! * [`ladder`]: players who play, come and go, and the text of a version.
//! * [`cell`]: one ladder's versions in the order they are served.
//! * [`faults`]: bad answers on demand.
//! * [`rate`]: rate limits and their headers.
//! * [`serve`]: the HTTP side.

pub mod cell;
pub mod faults;
pub mod ladder;
pub mod rate;
pub mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use serve::{Running, serve};

/// When a ladder moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The answer to each request is the next version.
    PerRequest,
    /// One version per interval, worked out when somebody asks.
    Every(Duration),
}

/// How the API behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0: any.
    pub address: SocketAddr,
    /// Players on each ladder.
    pub entries: usize,
    /// Share of the players that play between two versions.
    pub churn: f64,
    /// Share of the players that leave between two versions; as many come.
    pub leave: f64,
    /// Everything random comes from here.
    pub seed: u64,
    /// When a ladder moves on.
    pub advance: Advance,
    /// Whether fields and white space vary from one rendering of an entry to the next.
    pub varied: bool,
    /// Whether the order of entries varies from version to version.
    pub shuffled: bool,
    /// The token that `X-Riot-Token` must have.
    pub token: String,
    /// Bad answers, by probability.
    pub faults: faults::Spec,
    /// Rate limits that are kept; none: only their headers are shown.
    pub rate: Option<rate::Limits>,
    /// Where versions are written.
    pub versions: Option<PathBuf>,
}

impl Options {
    /// The demo's: 300 players, a few of whom play each second.
    #[must_use]
    pub fn demo(token: &str) -> Options {
        Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            entries: 300,
            churn: 0.01,
            leave: 0.002,
            seed: 7,
            advance: Advance::Every(Duration::from_secs(1)),
            varied: false,
            shuffled: true,
            token: token.to_owned(),
            faults: faults::Spec::default(),
            rate: None,
            versions: None,
        }
    }
}

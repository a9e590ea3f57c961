//! `run`: poll and publish.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use std::time::Duration;

use tokio::runtime::Runtime;
use tracing::{info, warn};

use crate::clock;
use crate::config::{Config, embedded};
use crate::fault::Fault;
use crate::run::{self, Ended, Options};
use crate::signals;
use crate::sim;
use crate::status::{Status, live, words};
use crate::stop::Stop;

/// How often the demo's ladders move on.
const DEMO_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `run`, which may also stand alone.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of run, the default command")]
pub struct Args {
    /// Stop after N rounds (a round: one finished attempt of every cell) are sealed and published;
    /// exit 1 if a cell's last attempt failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: Option<u64>,

    /// The same as --rounds 1, for cron
    #[arg(long, conflicts_with = "rounds")]
    pub once: bool,

    /// Before the end, close and upload what waits for the archive
    #[arg(long)]
    pub flush_archive: bool,
}

impl Args {
    /// How many rounds there are; `None`: until stopped.
    #[must_use]
    pub fn rounds(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.rounds }
    }

    /// These, or where they say nothing, `other`.
    #[must_use]
    pub fn or(self, other: Args) -> Args {
        let rounds = self.rounds().or(other.rounds());
        Args {
            rounds,
            once: false,
            flush_archive: self.flush_archive || other.flush_archive,
        }
    }
}

/// Runs until stopped; `call` is how the program is called with this configuration.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run(config: &Config, args: &Args, workers: usize, call: &str) -> Result<ExitCode, Fault> {
    let stop = Stop::default();
    signals::listen(&stop)?;
    words::where_to_look(config, call)
        .iter()
        .for_each(|line| info!("{line}"));
    let status = Status::new(config);
    let live = live::start(status.clone())?;
    let options = Options {
        workers,
        rounds: args.rounds(),
        flush_archive: args.flush_archive,
        discard: false,
    };
    let ended = run::run(config, options, None, &stop, &status);
    drop(live);
    let ended = ended?;
    if options.rounds.is_some() {
        // Nobody is left to tell when stdout is gone.
        let summary = words::summary(&status, clock::unix_ms());
        let _ = std::io::stdout().write_all(summary.as_bytes());
    }
    Ok(exit_code(ended, options, &stop))
}

fn exit_code(ended: Ended, options: Options, stop: &Stop) -> ExitCode {
    if !ended.published {
        info!("stopped with sealed changes unpublished: the next start publishes them");
    }
    if options.rounds.is_some() && !stop.requested() && !ended.good {
        warn!("a cell's last attempt failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The simulated API of the demo, in this process.
#[derive(Default)]
pub struct Demo(RefCell<Option<(sim::Running, Runtime)>>);

impl Demo {
    /// Starts it; returns where it listens.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(&self) -> Result<SocketAddr, Fault> {
        let failed = |error| Fault::failed(format!("cannot start the simulated API: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("simulate")
            .enable_all()
            .build()
            .map_err(failed)?;
        let options = sim::Options {
            advance: sim::Advance::Every(DEMO_INTERVAL),
            token: Some(embedded::TOKEN.to_owned()),
            ..sim::Options::default()
        };
        let api = runtime.block_on(sim::serve(options))?;
        let address = api.address;
        info!(
            "no configuration (neither --config FILE nor ./deltapoll.toml): this is the demo, polling a \
             simulated league API on http://{address}"
        );
        *self.0.borrow_mut() = Some((api, runtime));
        Ok(address)
    }
}

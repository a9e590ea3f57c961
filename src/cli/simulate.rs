//! `deltapoll simulate`: serves the simulated league API.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::fault::Fault;
use crate::sim::{self, Advance, Options, faults, rate};

/// How the API behaves.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port on loopback; 0: any.
    #[arg(long, default_value = "9480")]
    port: u16,
    /// Writes the port to this file once it listens.
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Players on each ladder.
    #[arg(long, default_value = "300")]
    entries: usize,
    /// Share of the players that play between two versions.
    #[arg(long, default_value = "0.01", value_parser = share)]
    churn: f64,
    /// Share of the players that leave between two versions; as many come.
    #[arg(long, default_value = "0.002", value_parser = share)]
    leave: f64,
    /// Everything random comes from here.
    #[arg(long, default_value = "7")]
    seed: u64,
    /// When a ladder moves on: per-request, or an interval such as 1s.
    #[arg(long, default_value = "per-request", value_parser = advance)]
    advance: Advance,
    /// Whether an entry's fields and white space vary from version to version.
    #[arg(long, default_value = "stable")]
    field_order: FieldOrder,
    /// Whether the order of entries varies from version to version.
    #[arg(long, default_value = "shuffled")]
    order: Order,
    /// The token that X-Riot-Token must have.
    #[arg(long, default_value = "demo-token")]
    token: String,
    /// Bad answers by probability, such as 429:0.05,cut:0.02: of 429, 429-bare, 500, 503, slow, cut,
    /// malformed, html, empty, reset.
    #[arg(long, value_name = "SPEC", default_value = "")]
    faults: faults::Spec,
    /// Rate limits that are kept, such as 20:1,100:120.
    #[arg(long, value_name = "LIMITS")]
    rate: Option<rate::Limits>,
    /// Writes every version of every cell to this file before it is served.
    #[arg(long, value_name = "FILE")]
    versions: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FieldOrder {
    Stable,
    Varied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Shuffled,
    Fixed,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1".into()),
    }
}

fn advance(text: &str) -> Result<Advance, String> {
    if text == "per-request" {
        return Ok(Advance::PerRequest);
    }
    let interval = humantime::parse_duration(text);
    interval
        .map(Advance::Every)
        .map_err(|_| "per-request, or an interval such as 1s".into())
}

/// Serves until Ctrl-C.
pub fn run(args: &Args) -> Result<ExitCode, Fault> {
    let failed = |error: std::io::Error| Fault::failed(format!("cannot serve: {error}"));
    let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
    let options = Options {
        address: SocketAddr::from(([127, 0, 0, 1], args.port)),
        entries: args.entries,
        churn: args.churn,
        leave: args.leave,
        seed: args.seed,
        advance: args.advance,
        varied: args.field_order == FieldOrder::Varied,
        shuffled: args.order == Order::Shuffled,
        token: args.token.clone(),
        faults: args.faults.clone(),
        rate: args.rate.clone(),
        versions: args.versions.clone(),
    };
    runtime.block_on(async {
        let running = sim::serve(options).await.map_err(failed)?;
        let address = running.address;
        if let Some(path) = &args.port_file {
            // Renamed into place, so that whoever waits for it never reads half a number.
            let new = path.with_extension("new");
            std::fs::write(&new, address.port().to_string()).map_err(failed)?;
            std::fs::rename(&new, path).map_err(failed)?;
        }
        println!(
            "simulated league API on http://{address} (seed {}, {} entries)",
            args.seed, args.entries
        );
        std::io::stdout().flush().map_err(failed)?;
        tokio::select! {
            () = running.wait() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

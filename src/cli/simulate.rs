//! `deltapoll simulate`: serves the simulated league API until it is told to stop.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::fault::Fault;
use crate::sim::{self, Advance, Faults, FieldOrder, Options, Order, Rate};

/// Serve the simulated league API on loopback.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The port; 0 is any free one
    #[arg(long, default_value_t = 9480)]
    port: u16,
    /// Write the port to this file once it listens
    #[arg(long, value_name = "PATH")]
    port_file: Option<PathBuf>,
    /// The players of each ladder
    #[arg(long, default_value_t = 300)]
    entries: usize,
    /// The fraction of the players that play, per version
    #[arg(long, default_value_t = 0.01, value_name = "FRACTION")]
    churn: f64,
    /// The fraction of the players that leave, per version; about as many come [default: 0.001,
    /// or 0 with --churn 0]
    #[arg(long, value_name = "FRACTION")]
    leave: Option<f64>,
    /// Decides everything that is left to chance
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// When a ladder moves on: per-request, or an interval like 1s
    #[arg(long, default_value = "per-request", value_parser = advance)]
    advance: Advance,
    /// The number of the first version that each ladder serves
    #[arg(long, default_value_t = 0, value_name = "N")]
    first_version: u64,
    /// Whether fields and white space stay or differ in every version
    #[arg(long, value_enum, default_value_t = FieldOrder::Stable)]
    field_order: FieldOrder,
    /// Whether the entries stand in another order in every version
    #[arg(long, value_enum, default_value_t = Order::Shuffled)]
    order: Order,
    /// The X-Riot-Token that is let in; empty lets everybody in
    #[arg(long, default_value = "demo-token")]
    token: String,
    /// What goes wrong, with its probability per request: 429, 429-bare, 500 (any status), slow,
    /// cut, malformed, html, empty, reset, as in 429:0.05,cut:0.03
    #[arg(long, default_value = "", value_name = "SPEC")]
    faults: Faults,
    /// The pause in a slow answer
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    slow: Duration,
    /// Enforce a rate limit per platform, requests:seconds, as in 20:1,100:120
    #[arg(long)]
    rate: Option<Rate>,
    /// Append every version that is served to this file, a JSON line each
    #[arg(long, value_name = "PATH")]
    versions: Option<PathBuf>,
}

impl From<Args> for Options {
    fn from(args: Args) -> Options {
        let defaults = Options::default();
        let still = args.churn <= 0.0;
        Options {
            entries: args.entries,
            churn: args.churn,
            leave: args
                .leave
                .unwrap_or(if still { 0.0 } else { defaults.leave }),
            seed: args.seed,
            advance: args.advance,
            field_order: args.field_order,
            order: args.order,
            token: Some(args.token).filter(|token| !token.is_empty()),
            faults: args.faults,
            slow: args.slow,
            rate: args.rate,
            versions: args.versions,
            first_version: args.first_version,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// Wrong options, a port that is taken, a file that cannot be written.
pub fn run(args: Args) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> Result<(), Fault> {
    let no_signals = |error| Fault::failed(format!("cannot listen to signals: {error}"));
    // Before the ready line: who waits for that line may send a signal at once.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let (seed, entries, port_file) = (args.seed, args.entries, args.port_file.clone());
    let running = sim::serve(args.into()).await?;
    if let Some(path) = port_file {
        write_port(&path, running.address.port()).map_err(|error| {
            let path = path.display();
            Fault::failed(format!("cannot write the port file {path}: {error}"))
        })?;
    }
    let url = running.url();
    // A closed standard output is no reason not to serve.
    let _ = writeln!(
        io::stdout(),
        "simulated league API on {url} (seed {seed}, {entries} entries)"
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Whole or not at all: who waits for the file must not read half a number.
fn write_port(path: &Path, port: u16) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    std::fs::write(&staged, format!("{port}\n"))?;
    std::fs::rename(&staged, path)
}

fn advance(text: &str) -> Result<Advance, String> {
    if text == "per-request" {
        return Ok(Advance::PerRequest);
    }
    humantime::parse_duration(text)
        .map(Advance::Every)
        .map_err(|error| format!("{error}: use per-request, or an interval like 1s"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn options(arguments: &str) -> Result<Options, clap::Error> {
        let words = ["simulate"].into_iter().chain(arguments.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args.into())
    }

    #[test]
    fn arguments_become_options() {
        let plain = options("").unwrap();
        assert_eq!(plain.address.to_string(), "127.0.0.1:9480");
        assert_eq!(plain.token.as_deref(), Some("demo-token"));
        assert_eq!((plain.entries, plain.advance), (300, Advance::PerRequest));
        let other = options(
            "--advance 250ms --churn 0 --field-order varied --order fixed --faults cut:0.1 \
             --rate 20:1 --first-version 9 --port 0 --token=",
        )
        .unwrap();
        assert_eq!(other.advance, Advance::Every(Duration::from_millis(250)));
        assert_eq!(
            (other.field_order, other.order),
            (FieldOrder::Varied, Order::Fixed)
        );
        assert_eq!((other.leave, other.first_version), (0.0, 9));
        assert_eq!(other.token, None);
        assert!(other.rate.is_some() && other.faults != Faults::default());
    }

    #[test]
    fn wrong_arguments_say_what_to_use() {
        for (arguments, remedy) in [
            ("--advance soon", "per-request, or an interval"),
            ("--faults crash:0.1", "429-bare, slow, cut"),
            ("--rate 20", "as in 20:1,100:120"),
        ] {
            let message = options(arguments).unwrap_err().to_string();
            assert!(message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn the_port_file_has_the_port() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port");
        write_port(&path, 9480).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "9480\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

//! `verify`: whether topic, archive and state agree.

use std::io::Write;
use std::process::ExitCode;

use crate::config::quantity::Bytes;
use crate::config::{Config, secret};
use crate::fault::Fault;
use crate::signals;
use crate::stop::Stop;
use crate::verify;

/// Arguments of `verify`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
On a stopped pipeline: topic, archive and state. While one is running: topic and archive, up to what
was committed when it began. Nothing is written, except that the state is read from a copy in the
directory for temporary files (TMPDIR); nobody is fenced. A pipeline does not start meanwhile.

Exit codes:
  0  they agree
  1  they do not, or one of them could not be read
  4  the local directory is damaged, or not the one that published last")]
pub struct Args {
    /// Memory for the comparison; with less it takes more passes over topic and archive. One object,
    /// and what Kafka's client reads ahead, come on top
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = Bytes::parse)]
    pub memory: Bytes,
}

/// Compares and prints what was found.
///
/// # Errors
/// When it cannot be compared.
pub fn run(config: &Config, args: &Args) -> Result<ExitCode, Fault> {
    let stop = Stop::default();
    signals::listen(&stop)?;
    let verdict = verify::verify(config, args.memory.0, stop.flag())?;
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(secret::redact(&verdict.text).as_bytes());
    Ok(match verdict.agrees {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

//! `state`: what can be done to the local directory.

use std::process::ExitCode;

use crate::config::Config;
use crate::fault::Fault;

/// Arguments of `state`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Action {
    /// Publish a source again under changed settings: names that cease are removed from the topic,
    /// everything else is published as added
    Republish {
        /// The source's name
        source: String,
    },
    /// Forget everything and start a new history in the same directory; it needs a new archive prefix
    Reset,
}

/// Does it.
///
/// # Errors
/// When it cannot be done.
pub fn run(_config: &Config, _args: &Args) -> Result<ExitCode, Fault> {
    Err(Fault::failed("not in this build"))
}

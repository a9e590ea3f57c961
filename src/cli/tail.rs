//! `tail`: print committed changes.

use std::process::ExitCode;

use crate::config::Config;
use crate::fault::Fault;
use crate::io::{kafka, local};
use crate::signals;
use crate::stop::Stop;

/// Arguments of `tail`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The topic
    pub topic: String,

    /// Start with the oldest change that is kept, not with the next one
    #[arg(long)]
    pub from_start: bool,

    /// Go on when there is nothing more, until stopped
    #[arg(long, short)]
    pub follow: bool,
}

/// Prints until there is nothing more, or until stopped.
///
/// # Errors
/// When the topic cannot be read.
pub fn run(config: &Config, args: &Args) -> Result<ExitCode, Fault> {
    let stop = Stop::default();
    signals::listen(&stop)?;
    let mut out = std::io::stdout().lock();
    let flag = stop.flag();
    match &config.kafka {
        Some(_) => kafka::tail(
            config,
            &args.topic,
            args.from_start,
            args.follow,
            &mut out,
            &flag,
        )?,
        None => {
            let (data_dir, topic) = (&config.data_dir, &args.topic);
            local::tail(
                data_dir,
                topic,
                args.from_start,
                args.follow,
                &mut out,
                &flag,
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

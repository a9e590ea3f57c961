//! `rebuild`: the local directory, or its state alone, made again.

use std::io::Write;
use std::process::ExitCode;

use crate::config::{Config, secret};
use crate::fault::Fault;
use crate::rebuild::archiving::Archived;
use crate::rebuild::{self, Done, state_only};

/// Arguments of `rebuild`.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = "\
Without --state-only: for a lost disk. The directory must be absent or empty; it is made of the progress
record, the topics and the archive's objects, under the configuration that published them. Nothing is
published, fenced or uploaded; the next run goes on after what was published. Stop every other instance
first. The archive goes on without a gap if records have headers and what is in no object yet is younger
than the topics' min.compaction.lag.ms; otherwise it needs another prefix.

With --state-only: for a damaged or missing state/ beside a sound journal/. Works with the local topic log
too, as long as nothing of it has expired.")]
pub struct Args {
    /// Keep the journal, and make only the state again
    #[arg(long)]
    pub state_only: bool,
}

/// Does it.
///
/// # Errors
/// When it cannot be done.
pub fn run(config: &Config, args: Args) -> Result<ExitCode, Fault> {
    let told = if args.state_only {
        let done = state_only::rebuild(config)?;
        let what = format!("{}/state", config.data_dir.display());
        format!("{}next: run `deltapoll`\n", made(&what, &done))
    } else {
        let done = rebuild::rebuild(config)?;
        whole(config, &done)
    };
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(secret::redact(&told).as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn made(what: &str, done: &Done) -> String {
    format!(
        "made {what} again: {} entries, up to batch {} (epoch {}) of lineage {}\n",
        done.entries, done.sealed.seq, done.sealed.epoch, done.lineage
    )
}

fn whole(config: &Config, done: &Done) -> String {
    let mut told = made(&config.data_dir.display().to_string(), done);
    let url = config
        .archive
        .as_ref()
        .map(|archive| secret::address(&archive.url));
    match (&done.archived, url) {
        (Some(Archived::GoesOn(0)), Some(url)) => {
            told.push_str(&format!("the archive {url} has everything that is published\n"));
        }
        (Some(Archived::GoesOn(changes)), Some(url)) => told.push_str(&format!(
            "the archive {url} goes on with {changes} changes that were in no object\n"
        )),
        (Some(Archived::Begins(gap)), Some(url)) => told.push_str(&format!(
            "the archive {url} is empty and begins after batch {}: what came before is not all in the \
             topics any more ({gap})\n",
            done.sealed.seq
        )),
        _ => {}
    }
    told.push_str("next: run `deltapoll`\n");
    told
}

//! `state`: what the local directory holds, and what can be done to it.

mod export;
mod inspect;
mod looked;

use std::io::Write;
use std::process::ExitCode;

use crate::config::{Archive, Config, secret};
use crate::directory::Directory;
use crate::fault::Fault;
use crate::io::kafka::look;
use crate::io::kafka::progress;
use crate::republish;
use crate::reset;

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
    /// Tell what the directory of a stopped pipeline holds; writes nothing
    Inspect {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print every remembered entry of a stopped pipeline as a line of JSON; writes nothing
    Export {
        /// Only of these sources
        #[arg(value_name = "SOURCE")]
        sources: Vec<String>,
    },
    /// Publish sources again under changed settings: what the next poll no longer has is removed from
    /// the topic, everything else is published again
    Republish {
        /// The sources' names
        #[arg(required = true, value_name = "SOURCE")]
        sources: Vec<String>,
    },
    /// Forget everything and start a new history in the same directory; it needs a new archive prefix
    Reset {
        /// Yes, forget everything
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
///
/// # Errors
/// When it cannot be done.
pub fn run(config: &Config, args: &Args) -> Result<ExitCode, Fault> {
    let told = match &args.action {
        Action::Inspect { json } => return inspect(config, *json),
        Action::Export { sources } => {
            export::export(config, sources, &mut std::io::stdout().lock())?;
            return Ok(ExitCode::SUCCESS);
        }
        Action::Republish { sources } => republish(config, sources)?,
        Action::Reset { yes } => reset(config, *yes)?,
    };
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(secret::redact(&told).as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn inspect(config: &Config, json: bool) -> Result<ExitCode, Fault> {
    let report = inspect::inspect(config)?;
    let told = if json { report.json() } else { report.text() };
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(secret::redact(&told).as_bytes());
    match report.damaged() {
        Some(damaged) => Err(Fault::directory(damaged)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn republish(config: &Config, sources: &[String]) -> Result<String, Fault> {
    let path = &config.data_dir;
    if !path.is_dir() {
        return Err(Fault::directory(format!(
            "there is no directory {}: nothing was published yet; run `deltapoll`",
            path.display()
        )));
    }
    let directory = Directory::open(path)?;
    let done = republish::republish(config, &directory, sources, &|names, facts| {
        look::look(config, names, Some(facts))
    })?;
    Ok(republished(&done))
}

fn republished(done: &republish::Done) -> String {
    let mut told = String::new();
    for (topic, count) in &done.tombstones {
        told.push_str(&format!("sealed {count} tombstones for topic {topic}\n"));
    }
    if done.forgotten > 0 {
        let count = done.forgotten;
        told.push_str(&format!(
            "forgot {count} entries: the next poll publishes what it finds as added\n"
        ));
    }
    if done.rechecked > 0 {
        told.push_str(&format!(
            "marked the entries of {} cells: the next poll publishes them as changed\n",
            done.rechecked
        ));
    }
    if told.is_empty() {
        told.push_str("nothing was remembered of it: the next poll publishes what it finds\n");
    }
    told.push_str("next: run `deltapoll`\n");
    told
}

fn reset(config: &Config, yes: bool) -> Result<String, Fault> {
    let path = config.data_dir.display();
    if !yes {
        return Err(Fault::usage(format!(
            "`state reset` forgets what {path} knows: the next poll publishes every entry again as \
             added, and keys that are gone by then stay in the topics; if that is what you want, say \
             `deltapoll state reset --yes`"
        )));
    }
    let done = reset::reset(&config.data_dir, &|| match &config.kafka {
        Some(_) => Ok(progress::read_committed(config)?.map(|progress| progress.lineage)),
        None => Ok(None),
    })?;
    let mut told = format!("{path} begins a new history, lineage {}\n", done.lineage.id);
    if let Some(damaged) = &done.damaged {
        told.push_str(&format!("the old journal could not be read: {damaged}\n"));
    }
    told.push_str(&match &done.lineage.predecessor {
        Some(old) => format!("it takes the place of lineage {old} when it first publishes\n"),
        None if config.kafka.is_none() => {
            format!("the local topic log is that of an unknown history: move {path}/topics away\n")
        }
        None => "nothing was published under this name that it would take the place of\n".into(),
    });
    if let Some(Archive { url, .. }) = &config.archive {
        let or = if url.starts_with("file:") {
            ", or move that directory away"
        } else {
            ""
        };
        told.push_str(&format!(
            "the objects under {} belong to the old history: set archive.url to a new prefix{or}\n",
            secret::address(url)
        ));
    }
    told.push_str("next: run `deltapoll`; it publishes every entry as added\n");
    Ok(told)
}

//! `backfill`: stored snapshots through the graph.

use std::io::Write;
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat};
use indicatif::HumanBytes;
use tracing::{info, warn};

use crate::backfill::count::{self, Counts};
use crate::backfill::inputs::{self, Inputs};
use crate::backfill::{OnBad, Work};
use crate::clock;
use crate::config::{Config, secret};
use crate::fault::Fault;
use crate::run::{self, Options};
use crate::signals;
use crate::status::{Status, live, words};
use crate::stop::Stop;

/// Arguments of `backfill`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
SOURCE is a file, a directory, a prefix (gs://, s3://, file://), or a pattern of such paths:

  snapshots/2026-11-24.json.gz
  'snapshots/*.json'
  'gs://bucket/ladders/{region}/{queue}/{time:%Y-%m-%dT%H%M%S}.json.zst'

In a pattern {var} is a var of the source, {time:FORMAT} says when the snapshot was polled (%Y %m %d %H %M
%S %y %j %s %f %3f %b %B %F %T %z; UTC without %z), {time} is RFC 3339 or Unix seconds or milliseconds; *
is anything within a name, ** anything at all, ? a character. Without {time} the file's own time counts: a
copy that is made later is a newer snapshot.

A bucket is asked with [archive].options where the archive is of the same kind (gs, s3), and otherwise with
the environment's credentials.

Files are answers as the API gave them (.json; the list is where the source's `records` says), an entry a
line (.ndjson, .jsonl), or an entry a record (.avro, as a Kafka Connect sink writes them; the `value` of
castorm's envelope is looked into, its `timestamp` is not: all records of a file have the file's time, and of
two with one key the last counts; such a file only adds and changes); .gz and .zst are decompressed.

Snapshots are taken in order of time, then name, each as one checkpoint. One that is not newer than what the
state holds of its cell is left out: run the same command again after an interruption, and it goes on where it
was.

SOURCE may also be the archive of an earlier pipeline, by itself: what archive.url was there, or
topics/TOPIC below it where it has several topics and none of them is the source's here. Each epoch of a cell
is a snapshot of what changed; what was removed is removed at once. `key`, `record_key` and `vars` must make
the record keys that are in it. An object that is missing or damaged stops it there.

Exit codes:
  0  done, or interrupted: what came before is sealed
  1  a file could not be used, and it is named
  others as for run")]
pub struct Args {
    /// What to read
    #[arg(required = true, value_name = "SOURCE")]
    pub paths: Vec<String>,

    /// The source of the configuration that the snapshots are of; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,

    /// What becomes of a file that cannot be used; an object of an archive is never set aside
    #[arg(long, value_enum, default_value_t)]
    pub bad_files: OnBad,

    /// Go on live when it is done, with the same state and numbering
    #[arg(long, conflicts_with = "dry_run")]
    pub then_run: bool,

    /// Read everything and say what there is; nothing is written, and what the state holds is not asked
    #[arg(long)]
    pub dry_run: bool,

    /// Before the end, close and upload what waits for the archive
    #[arg(long)]
    pub flush_archive: bool,
}

/// Does it; `call` is how the program is called with this configuration.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run(config: &Config, args: &Args, workers: usize, call: &str) -> Result<ExitCode, Fault> {
    let stop = Stop::default();
    signals::listen(&stop)?;
    let runtime = run::runtime(1)?;
    let found = inputs::find(
        config,
        args.source.as_deref(),
        &args.paths,
        runtime.handle(),
    )?;
    if found.archive.is_some() && args.bad_files == OnBad::SetAside {
        return Err(Fault::usage(
            "--bad-files set-aside: an archive's changes build on each other, it cannot be read without one \
             of its objects",
        ));
    }
    tell_found(&found);
    if args.dry_run {
        let counted = count::count(config, &found, workers, &stop.flag())?;
        let bad = counted.values().any(|counted| counted.bad > 0);
        print(&counts(&counted));
        return Ok(ExitCode::from(u8::from(bad)));
    }
    if args.then_run {
        let lines = words::where_to_look(config, call);
        lines.iter().for_each(|line| info!("{line}"));
    }
    let status = Status::new(config);
    let live = live::start(status.clone())?;
    let options = Options {
        workers,
        rounds: None,
        flush_archive: args.flush_archive,
        discard: false,
    };
    let work = Work {
        inputs: found,
        on_bad: args.bad_files,
        then_run: args.then_run,
    };
    let ended = run::run(config, options, Some(work), &stop, &status);
    drop(live);
    let ended = ended?;
    if !ended.published {
        info!("stopped with sealed changes unpublished: the next start publishes them");
    }
    if stop.requested() && !args.then_run {
        info!("interrupted: the same command goes on where it was");
    }
    print(&words::summary(&status, clock::unix_ms()));
    Ok(ExitCode::SUCCESS)
}

fn tell_found(found: &Inputs) {
    match &found.archive {
        Some(archive) => info!(
            "an archive of topic '{}': {} objects in {} partitions, {}; each epoch is a snapshot of what \
             changed",
            archive.topic,
            archive.objects(),
            archive.partitions(),
            HumanBytes(archive.bytes())
        ),
        None => info!(
            "{} snapshots, {} as they are stored",
            found.files.len(),
            HumanBytes(found.files.iter().map(|file| file.size).sum())
        ),
    }
    if found.by_file_time {
        info!("without {{time}} in a pattern, snapshots are in order of their files' own times");
    }
    if found.unmatched > 0 {
        info!("{} other files there are not read", found.unmatched);
    }
    for (cell, files) in &found.foreign {
        warn!("{files} files are not read: no cell with {cell} is configured");
    }
}

fn counts(counted: &Counts) -> String {
    let mut out = String::new();
    for ((source, label), counted) in counted {
        let of = match label.is_empty() {
            true => source.clone(),
            false => format!("{source} {label}"),
        };
        let time = |at: u64| {
            let time = DateTime::from_timestamp_millis(i64::try_from(at).unwrap_or(i64::MAX));
            time.map_or_else(
                || at.to_string(),
                |t| t.to_rfc3339_opts(SecondsFormat::Secs, true),
            )
        };
        out.push_str(&format!("{of}: {} snapshots", counted.snapshots));
        if let Some((first, last)) = counted.times {
            out.push_str(&format!(" from {} to {}", time(first), time(last)));
        }
        out.push_str(&format!(
            ", {} entries, {}",
            counted.entries,
            HumanBytes(counted.bytes)
        ));
        for (count, what) in [
            (counted.removed, "removed keys"),
            (counted.keyless, "entries without a key"),
            (counted.bad, "files that cannot be used"),
        ] {
            if count > 0 {
                out.push_str(&format!(", {count} {what}"));
            }
        }
        out.push('\n');
    }
    out
}

fn print(text: &str) {
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(secret::redact(text).as_bytes());
}

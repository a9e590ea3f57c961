//! `check`: the plan that a configuration makes.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::cell::expand;
use crate::config::{Archive, Codec, Config, Removed, Source, secret};

/// More cells of one source are counted, not listed.
const CELLS_LISTED: usize = 20;

/// Prints the plan of a configuration that was checked.
///
/// # Errors
/// None.
pub fn run(config: &Config, file: Option<&Path>) -> Result<ExitCode, crate::fault::Fault> {
    print(config, file);
    Ok(ExitCode::SUCCESS)
}

fn print(config: &Config, file: Option<&Path>) {
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(plan(config, file).as_bytes());
}

/// What is polled how often, and where it goes.
#[must_use]
pub fn plan(config: &Config, file: Option<&Path>) -> String {
    let origin = file.map_or("no configuration file: the demo".to_owned(), |file| {
        format!("{} is a sound configuration", file.display())
    });
    let mut out = format!(
        "{origin}\nname {}, local directory {}\n",
        config.name,
        config.data_dir.display()
    );
    for (name, source) in &config.source {
        out.push_str(&source_plan(config, name, source));
    }
    if config.kafka.is_some() {
        out.push_str(&format!("progress -> topic {}\n", config.progress_topic()));
    }
    match &config.archive {
        Some(archive) => out.push_str(&archive_plan(archive)),
        None => out.push_str("archive: off\n"),
    }
    secret::redact(&out).into_owned()
}

fn source_plan(config: &Config, name: &str, source: &Source) -> String {
    let cells = expand(name, source);
    let every = humantime::format_duration(source.every);
    let s = if cells.len() == 1 { "" } else { "s" };
    let mut out = format!(
        "source {name}: {} cell{s}, each polled every {every}\n",
        cells.len()
    );
    for cell in cells.iter().take(CELLS_LISTED) {
        let label = if cell.label.is_empty() {
            String::new()
        } else {
            format!("{}  ", cell.label)
        };
        out.push_str(&format!("    {label}{}\n", secret::address(&cell.url)));
    }
    if cells.len() > CELLS_LISTED {
        out.push_str(&format!("    and {} more\n", cells.len() - CELLS_LISTED));
    }
    let place = match &config.kafka {
        Some(kafka) => format!("topic {} at {}", config.topic(name), kafka.bootstrap),
        None => format!("the local topic log {}", config.topic(name)),
    };
    let removal = match source.removed {
        _ if !source.complete => "never seen: complete is false".to_owned(),
        Removed::Tombstone => format!("{}, as a tombstone", after(source.removed_after)),
        Removed::Event => format!("{}, as a record that says so", after(source.removed_after)),
        Removed::Ignore => format!("{}, and not published", after(source.removed_after)),
    };
    out.push_str(&format!(
        "    -> {place}, key {}; removal {removal}\n",
        source.record_key
    ));
    out
}

fn after(snapshots: u32) -> String {
    match snapshots {
        1 => "after 1 complete snapshot without the key".to_owned(),
        n => format!("after {n} complete snapshots in a row without the key"),
    }
}

fn archive_plan(archive: &Archive) -> String {
    let codec = match archive.codec {
        Codec::Null => "not compressed",
        Codec::Deflate => "deflate",
        Codec::Snappy => "snappy",
        Codec::Zstandard => "zstandard",
    };
    let roll = &archive.roll;
    format!(
        "archive -> {}: {codec}, a new object after {} records, {} or {}\n",
        secret::address(&archive.url),
        roll.records,
        roll.bytes,
        humantime::format_duration(roll.age)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_plan_says_what_goes_where_and_tells_no_secret() {
        let text = "name = \"n\"\n[source.s]\nurl = \"https://me:pass-word@{v}.h/l?api_key=s3cr3t\"\n\
                    vars = { v = [\"a\", \"b\"] }\nkey = [\"/id\"]\nrecord_key = \"{v}:{key}\"\n\
                    [kafka]\nbootstrap = \"k:9092\"\n[archive]\nurl = \"s3://b/p\"\n";
        let config = parse(text, "test").unwrap();
        assert_eq!(
            plan(&config, Some(Path::new("a.toml"))),
            "a.toml is a sound configuration\n\
             name n, local directory deltapoll-data\n\
             source s: 2 cells, each polled every 1m\n    \
             a  https://a.h/l?api_key=*\n    \
             b  https://b.h/l?api_key=*\n    \
             -> topic s at k:9092, key {v}:{key}; removal after 2 complete snapshots in a row without \
             the key, as a tombstone\n\
             progress -> topic deltapoll-progress-n\n\
             archive -> s3://b/p: zstandard, a new object after 100000 records, 64MiB or 5m\n"
        );
    }
}

//! `check`: the plan that a configuration makes, and what one request per source finds.
//!
//! It writes nothing, creates nothing and fences nobody: no directory is opened, and Kafka is only
//! asked about its topics.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::cell::expand;
use crate::config::{Archive, Codec, Config, Kafka, Removed, Source, secret};
use crate::fault::Fault;
use crate::io::http::answer::Reading;
use crate::io::http::client;
use crate::io::http::probe::{self, Found, Probe};
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::Scan;
use crate::io::kafka::look::{self, Seen};

/// More cells of one source are counted, not listed.
const CELLS_LISTED: usize = 20;

/// Prints the plan of a configuration that was checked, then what each source's first cell answers and
/// whether Kafka has the topics. Exit 1: a source failed, or Kafka did not answer.
///
/// # Errors
/// When requests cannot be sent at all.
pub fn run(config: &Config, file: Option<&Path>) -> Result<ExitCode, Fault> {
    print(&plan(config, file));
    let asked = ask(config)?;
    let mut good = true;
    for (name, result) in &asked {
        good &= result.is_ok();
        print(&answered(name, result));
    }
    if let Some(kafka) = &config.kafka {
        let names = topic_names(config);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let seen = look::look(config, &names, None);
        good &= seen.is_ok();
        print(&topics(kafka, &names, &seen));
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(text: &str) {
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(secret::redact(text).as_bytes());
}

type Asked = (String, Result<Found, String>);

/// Sends one request per source, all at once.
fn ask(config: &Config) -> Result<Vec<Asked>, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("cannot start the I/O: {error}")))?;
    let client = client::client().map_err(Fault::failed)?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for (name, source) in &config.source {
            let (probe, client) = (first_cell(config, name, source)?, client.clone());
            let task = tokio::spawn(async move { probe::probe(&client, &probe).await });
            tasks.push((name.clone(), task));
        }
        let mut asked = Vec::new();
        for (name, task) in tasks {
            asked.push((name, task.await.expect("a panic ends the process")));
        }
        Ok(asked)
    })
}

fn first_cell(config: &Config, name: &str, source: &Source) -> Result<Probe, Fault> {
    let cell = expand(name, source).into_iter().next();
    let cell = cell.expect("a source that was checked has a cell");
    let parse = |text: &String| Pointer::parse(text).map_err(Fault::usage);
    Ok(Probe {
        url: cell.url,
        headers: source.headers.clone().into_iter().collect(),
        reading: Reading {
            records: parse(&source.records)?,
            scan: Scan {
                keys: source.key.iter().map(parse).collect::<Result<_, _>>()?,
                key_prefix: cell.key_prefix,
                key_suffix: cell.key_suffix,
                seed: 0,
                workers: 1,
            },
            body_max: config.limits.body_max.0,
            timeout: client::ANSWER_TIMEOUT,
            config: 0,
        },
    })
}

/// What the first cell of source `name` answered.
fn answered(name: &str, result: &Result<Found, String>) -> String {
    let found = match result {
        Ok(found) => found,
        Err(reason) => return format!("asked {name}: FAILED: {reason}\n"),
    };
    let took = Duration::from_millis((found.took.as_millis() as u64).max(1));
    let keyless = match found.keyless {
        0 => String::new(),
        n => format!(", {n} without a key (nothing is removed while there are any)"),
    };
    let example = match &found.example {
        Some(key) => format!(", the first becomes record {key}"),
        None => String::new(),
    };
    let entries = match found.entries {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    format!(
        "asked {name}: {entries}{keyless}{example}; {} in {}\n",
        size(found.bytes),
        humantime::format_duration(took)
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn topic_names(config: &Config) -> Vec<String> {
    let topics = config.source.keys().map(|name| config.topic(name));
    let mut names: Vec<String> = topics.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names.push(config.progress_topic());
    names
}

fn topics(kafka: &Kafka, names: &[&str], seen: &Result<Vec<Seen>, Fault>) -> String {
    let seen = match seen {
        Ok(seen) => seen,
        Err(fault) => return format!("asked {}: FAILED: {fault}\n", kafka.bootstrap),
    };
    let mut out = String::new();
    for (name, topic) in names.iter().zip(seen) {
        let is = match topic {
            Some(topic) if topic.partitions == 1 => "is there, with 1 partition".to_owned(),
            Some(topic) => format!("is there, with {} partitions", topic.partitions),
            None => "is not there yet: the first run makes it".to_owned(),
        };
        out.push_str(&format!("asked {}: topic {name} {is}\n", kafka.bootstrap));
    }
    out
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
    use crate::sim;

    fn source(url: &str) -> String {
        format!(
            "name = \"n\"\ndata_dir = \"never-made\"\n[source.s]\nurl = \"{url}\"\n\
             records = \"/entries\"\nkey = [\"/puuid\"]\nrecord_key = \"x:{{key}}\"\n"
        )
    }

    #[test]
    fn a_source_is_asked_once_and_told_with_its_entries_and_a_record_key() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = sim::Options {
            entries: 12,
            token: None,
            ..sim::Options::default()
        };
        let api = runtime.block_on(sim::serve(options)).unwrap();
        let ladder = "kr/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5";
        let url = format!("{}/{ladder}", api.url());
        let config = parse(&source(&url), "test").unwrap();
        let asked = ask(&config).unwrap();
        let found = asked[0].1.as_ref().unwrap();
        assert_eq!((found.entries, found.keyless), (12, 0));
        assert!(found.example.as_ref().unwrap().starts_with("x:"));
        let line = answered("s", &asked[0].1);
        assert!(
            line.starts_with("asked s: 12 entries, the first becomes record x:"),
            "{line}"
        );

        let keyless = source(&url).replace("/puuid", "/nothing");
        let asked = ask(&parse(&keyless, "test").unwrap()).unwrap();
        let line = answered("s", &asked[0].1);
        assert!(
            line.starts_with("asked s: 12 entries, 12 without a key (nothing is"),
            "{line}"
        );

        assert_eq!(run(&config, None).unwrap(), ExitCode::SUCCESS);
        assert!(
            !Path::new("never-made").exists(),
            "check opens no directory"
        );
        let missing = parse(&source(&format!("{}/nowhere", api.url())), "test").unwrap();
        let asked = ask(&missing).unwrap();
        assert!(answered("s", &asked[0].1).starts_with("asked s: FAILED: the API answered 404"));
        assert_eq!(run(&missing, None).unwrap(), ExitCode::FAILURE);
    }

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

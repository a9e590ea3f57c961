//! `state export`: every remembered entry as a line of JSON, in no more memory than a start takes.

use std::io::{BufWriter, ErrorKind, Write};

use deltapoll_state::range_state::RangeState;
use serde::Serialize;

use crate::change::{CellId, Fingerprint, KeyHash};
use crate::config::Config;
use crate::fault::Fault;
use crate::identity::{self, Known};

use super::looked::{Looked, wrong};

/// Entries whose keys are read together.
const AT_ONCE: usize = 8192;

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    cell: &'a str,
    /// `null`: the key is not kept.
    key: Option<&'a str>,
    hash: String,
    raw: String,
    canon: String,
    rule: u8,
}

/// Writes the entries of `sources`, or of all, to `out`.
///
/// # Errors
/// When a source is unknown (exit 2), the directory is damaged (exit 4), or `out` fails.
pub fn export(config: &Config, sources: &[String], out: &mut dyn Write) -> Result<(), Fault> {
    let looked = Looked::open(&config.data_dir)?;
    let mut cells = identity::known(&looked.facts)?;
    for source in sources {
        if !cells.iter().any(|cell| cell.source == *source) {
            let mut names: Vec<&str> = cells.iter().map(|cell| cell.source.as_str()).collect();
            names.dedup();
            return Err(Fault::usage(format!(
                "the directory knows no source {source}; it knows: {}",
                names.join(", ")
            )));
        }
    }
    cells.retain(|cell| sources.is_empty() || sources.contains(&cell.source));
    let state = looked.state()?;
    let mut out = BufWriter::with_capacity(256 << 10, out);
    for cell in &cells {
        match write_cell(&state.range, cell, &mut out)? {
            Written::All => {}
            Written::Unwanted => return Ok(()),
        }
    }
    written(out.flush()).map(drop)
}

enum Written {
    All,
    /// Nobody reads any more.
    Unwanted,
}

fn write_cell(state: &RangeState, cell: &Known, out: &mut dyn Write) -> Result<Written, Fault> {
    let id = CellId(cell.id);
    let mut walk = state.walk(id).map_err(wrong)?;
    loop {
        let some = walk.by_ref().take(AT_ONCE);
        let some: Vec<(KeyHash, Fingerprint)> = some.collect::<Result<_, _>>().map_err(wrong)?;
        if some.is_empty() {
            return Ok(Written::All);
        }
        let hashes: Vec<KeyHash> = some.iter().map(|(hash, _)| *hash).collect();
        let keys = state.keys(id, &hashes).map_err(wrong)?;
        for ((hash, print), key) in some.iter().zip(keys) {
            let line = Line {
                source: &cell.source,
                cell: &cell.label,
                key: key.as_deref().and_then(|key| std::str::from_utf8(key).ok()),
                hash: format!("{:032x}", hash.0),
                raw: format!("{:016x}", print.raw),
                canon: format!("{:016x}", print.canon),
                rule: print.rule,
            };
            let mut text = serde_json::to_vec(&line).expect("plain data");
            text.push(b'\n');
            if let Written::Unwanted = written(out.write_all(&text))? {
                return Ok(Written::Unwanted);
            }
        }
    }
}

fn written(result: std::io::Result<()>) -> Result<Written, Fault> {
    match result {
        Ok(()) => Ok(Written::All),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::Unwanted),
        Err(error) => Err(Fault::failed(format!("cannot write: {error}"))),
    }
}

//! What a backfill would read: every file is read and cut, nothing is decided or written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::config::cell::{Cell, expand};
use crate::config::secret;
use crate::fault::Fault;
use crate::io::json::extract;
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::Scan;

use super::archive::Archive;
use super::inputs::{Input, Inputs};
use super::places::open;
use super::read::{self, Reading};

/// What there is of one cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Files that can be used.
    pub snapshots: u64,
    /// When the first and the last of them were polled (Unix ms).
    pub times: Option<(u64, u64)>,
    /// Entries in them.
    pub entries: u64,
    /// Of these, those without a key.
    pub keyless: u64,
    /// Keys that they say are gone.
    pub removed: u64,
    /// Bytes of them, after decompression.
    pub bytes: u64,
    /// Files that cannot be used.
    pub bad: u64,
}

/// By source and cell label.
pub type Counts = BTreeMap<(String, String), Counted>;

/// Reads everything, on `threads` threads, until `stop`.
///
/// # Errors
/// When a pointer of the configuration is wrong, or an archive cannot be used.
pub fn count(
    config: &Config,
    inputs: &Inputs,
    threads: usize,
    stop: &AtomicBool,
) -> Result<Counts, Fault> {
    let sources = config.source.iter();
    let cells: Vec<Cell> = sources
        .flat_map(|(name, source)| expand(name, source))
        .collect();
    if let Some(archive) = &inputs.archive {
        return archived(archive.clone(), &cells, stop).map_err(Fault::failed);
    }
    let parse = |text: &String| Pointer::parse(text).map_err(Fault::usage);
    let mut readings = BTreeMap::new();
    for (name, source) in &config.source {
        let reading = Reading {
            records: parse(&source.records)?,
            body_max: config.limits.body_max.0,
        };
        let scan = Scan::of_keys(source.key.iter().map(parse).collect::<Result<_, _>>()?);
        readings.insert(name.as_str(), (reading, scan));
    }
    let counted: Mutex<Counts> = Mutex::default();
    let next = AtomicUsize::new(0);
    let work = || {
        while !stop.load(Ordering::Acquire) {
            let Some(file) = inputs.files.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let cell = &cells[file.index];
            let (reading, scan) = &readings[cell.source.as_str()];
            let found = look(file, reading, scan);
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            let of = (cell.source.clone(), cell.label.clone());
            let counted = counted.entry(of).or_default();
            match found {
                Ok((bytes, counts)) => counted.add(file.place.polled_at, bytes, counts),
                Err(reason) => {
                    tracing::warn!("{}: {}", file.location, secret::redact(&reason));
                    counted.bad += 1;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    Ok(counted.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads an archive.
fn archived(archive: Archive, cells: &[Cell], stop: &AtomicBool) -> Result<Counts, String> {
    let mut counts = Counts::new();
    let mut epochs = archive.epochs(0, |_| None);
    while !stop.load(Ordering::Acquire)
        && let Some(found) = epochs.read_next()?
    {
        let cell = &cells[found.index];
        let counted = counts.entry((cell.source.clone(), cell.label.clone()));
        let counted = counted.or_default();
        let entries = extract::Counts {
            entries: found.entries,
            keyless: 0,
        };
        counted.add(found.polled_at, found.bytes, entries);
        counted.removed += found.gone.len() as u64;
    }
    Ok(counts)
}

fn look(file: &Input, reading: &Reading, scan: &Scan) -> Result<(u64, extract::Counts), String> {
    let opened = open(&file.location)?;
    let cut = read::read(opened, file.form, reading, scan, |_| ())?;
    let mut counts = extract::Counts::default();
    cut.pieces.iter().for_each(|piece| counts.add(piece.counts));
    Ok((cut.bytes, counts))
}

impl Counted {
    fn add(&mut self, at: u64, bytes: u64, counts: extract::Counts) {
        self.snapshots += 1;
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
        self.entries += counts.entries;
        self.keyless += counts.keyless;
        self.bytes += bytes;
    }
}

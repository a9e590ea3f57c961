//! An archive of an earlier pipeline as input: its changes, epoch by epoch, each an epoch here.
//!
//! What an archived epoch holds of a cell becomes one partial snapshot: added and changed values are its
//! entries, removed keys are said to be gone; its time is when it was polled. So of each key the same
//! values are published in the same order, under the settings of this pipeline.
//!
//! An object is used only when all of it is sound (R25), follows the one before it, and is of the same
//! lineage; otherwise nothing after it is: changes build on each other, and one that is left out would
//! stay wrong. What cannot be seen is an object that is missing at the end of a topic-partition.
//!
//! Memory: one object of each partition as it is stored, a block of each decompressed, and the epoch that
//! is put together, which once fitted into the `limits.staging` of the pipeline that wrote it.
//!
//! Layout, in reading order:
//!
//! * [`lane`]: the objects of a topic-partition, change after change.
//! * [`cells`]: which cell a change belongs to.
//! * [`come`]: how far a cell has come.
//! * [`gather`]: what one epoch holds of a cell.
//! * [`epochs`]: all lanes together, epoch after epoch.

mod cells;
mod come;
pub mod epochs;
mod gather;
mod lane;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;

use crate::config::cell::Cell;
use crate::io::archive::name;
use crate::io::avro::header::{HEADER_BYTES_MAX, Header};
use crate::io::json::pointer::Pointer;
use crate::io::object::Listed;

use super::places::{Location, open};

/// An object of an archive.
#[derive(Clone, Debug)]
pub struct Object {
    /// Index of its first change, as its name says.
    first: u64,
    /// Bytes as it is stored.
    size: u64,
    /// Where it is.
    location: Location,
}

/// The objects of a topic-partition, in order.
#[derive(Clone, Debug, Default)]
pub struct Series {
    partition: u32,
    objects: Vec<Object>,
}

/// An archive, and what it is read for.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The topic whose changes are read.
    pub topic: String,
    lineage: (String, String),
    series: Vec<Series>,
    wanted: Wanted,
}

/// What changes are read for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The source's name.
    pub source: String,
    /// Its topic here.
    pub topic: String,
    /// Its cells, with their place among all.
    pub cells: Vec<(usize, Cell)>,
    /// Pointers to the key of an entry.
    pub keys: Vec<Pointer>,
    /// The most bytes that the entries of a cell may have in an epoch.
    pub body_max: u64,
}

/// The lineage of the archive that is in `files`, and an object that says so, if one of them is such an
/// object by its name and first bytes.
///
/// # Errors
/// When it cannot be read.
pub fn lineage(files: &[(Listed, Location)]) -> Result<Option<(String, String)>, String> {
    let mut first: BTreeMap<(String, u32), (u64, &Location)> = BTreeMap::new();
    for (listed, location) in files {
        let Some(place) = place(&listed.name) else {
            continue;
        };
        let known = first.entry((place.topic, place.partition));
        let known = known.or_insert((place.first, location));
        if place.first < known.0 {
            *known = (place.first, location);
        }
    }
    for (_, location) in first.into_values() {
        let mut start = Vec::new();
        let object = open(location).map_err(|reason| format!("{location}: {reason}"))?;
        let read = object.take(HEADER_BYTES_MAX as u64).read_to_end(&mut start);
        read.map_err(|error| format!("{location}: it cannot be read: {error}"))?;
        if let Ok(header) = Header::read(&start) {
            return Ok(Some((header.lineage, location.to_string())));
        }
    }
    Ok(None)
}

impl Archive {
    /// The archive that is in `files`, of the topic that it shares with the source, or of its only one.
    ///
    /// # Errors
    /// When it is not clear which topic is meant.
    pub fn of(
        files: Vec<(Listed, Location)>,
        lineage: (String, String),
        wanted: Wanted,
    ) -> Result<Archive, String> {
        let mut topics: BTreeMap<String, BTreeMap<u32, Series>> = BTreeMap::new();
        for (listed, location) in files {
            let Some(place) = place(&listed.name) else {
                continue;
            };
            let partitions = topics.entry(place.topic).or_default();
            let series = partitions.entry(place.partition).or_default();
            series.partition = place.partition;
            series.objects.push(Object {
                first: place.first,
                size: listed.size,
                location,
            });
        }
        let (topic, partitions) = chosen(topics, &wanted)?;
        let mut series: Vec<Series> = partitions.into_values().collect();
        for series in &mut series {
            series.objects.sort_by_key(|object| object.first);
        }
        Ok(Archive {
            topic,
            lineage,
            series,
            wanted,
        })
    }

    /// The place of one of the source's cells among all cells.
    #[must_use]
    pub fn first_cell(&self) -> usize {
        self.wanted.cells[0].0
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> u64 {
        let objects = self.series.iter().map(|series| series.objects.len());
        objects.sum::<usize>() as u64
    }

    /// How many partitions have objects.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.series.len()
    }

    /// Bytes as they are stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let objects = self.series.iter().flat_map(|series| &series.objects);
        objects.map(|object| object.size).sum()
    }
}

type Partitions = BTreeMap<u32, Series>;

fn chosen(
    mut topics: BTreeMap<String, Partitions>,
    wanted: &Wanted,
) -> Result<(String, Partitions), String> {
    if let Some(same) = topics.remove_entry(&wanted.topic) {
        return Ok(same);
    }
    let names: Vec<String> = topics.keys().cloned().collect();
    match topics.pop_first() {
        Some(only) if topics.is_empty() => Ok(only),
        _ => Err(format!(
            "the archive has changes of several topics, none of them '{}': give one of them, for \
             example {}/{}; it has: {}",
            wanted.topic,
            name::TOPICS,
            names.first().map_or("", String::as_str),
            names.join(", ")
        )),
    }
}

/// What the end of a name says, whatever directory the archive is seen from.
fn place(path: &str) -> Option<name::Place> {
    let file = path.rsplit('/').next()?;
    let (lane, _) = file.rsplit_once('+')?;
    let (topic, partition) = lane.rsplit_once('+')?;
    name::read(&format!(
        "{}/{topic}/partition={partition}/{file}",
        name::TOPICS
    ))
}

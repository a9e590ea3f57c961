//! What is under a prefix: whether anything there is not ours (R26), and where our objects are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::fault::Fault;
use crate::io::avro::header::{HEADER_BYTES_MAX, Header};
use crate::io::object::{Objects, Trouble};

use super::name;

/// The first object found that does not belong to `lineage`, and why.
pub fn foreign(objects: &Objects, lineage: &str) -> Result<Option<(String, String)>, Trouble> {
    let mut names = Vec::new();
    let mut found = None;
    objects.list(name::TOPICS, |listed| {
        if name::read(&listed.name).is_none() {
            found = Some((listed.name, "its name is none of ours".to_owned()));
            return ControlFlow::Break(());
        }
        names.push(listed.name);
        ControlFlow::Continue(())
    })?;
    for name in names {
        if found.is_some() {
            break;
        }
        let Some(bytes) = objects.head_header(&name, HEADER_BYTES_MAX as u64)? else {
            continue;
        };
        found = match Header::read(&bytes) {
            Err(reason) => Some((name, reason)),
            Ok(header) if header.lineage == lineage => None,
            Ok(header) => {
                let reason = format!(
                    "it belongs to another directory (lineage {})",
                    header.lineage
                );
                Some((name, reason))
            }
        };
    }
    Ok(found)
}

/// The fault for what [`foreign`] found.
pub fn in_use(url: &str, (name, reason): &(String, String)) -> Fault {
    Fault::directory(format!(
        "{url} is in use: {url}/{name}: {reason}; an archive needs a prefix of its own: set \
         archive.url to another one"
    ))
}

/// Names of objects by the index of their first change, by topic-partition.
pub type Inventory = BTreeMap<(String, u32), BTreeMap<u64, String>>;

/// The names of all archive objects by topic-partition, in order of their first change.
///
/// # Errors
/// When the store does not answer as it should.
pub fn inventory(objects: &Objects) -> Result<Inventory, Trouble> {
    let mut all = Inventory::new();
    objects.list(name::TOPICS, |listed| {
        if let Some(place) = name::read(&listed.name) {
            let lane = all.entry((place.topic, place.partition)).or_default();
            lane.insert(place.first, listed.name);
        }
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

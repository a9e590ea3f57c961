//! Where each topic-partition's objects end, for who makes a directory again (R35): next index and last
//! seq, from the header of the last object; and the facts that go on from there.

use std::collections::BTreeMap;

use crate::change::Seq;
use crate::fault::Fault;
use crate::io::avro::header::{HEADER_BYTES_MAX, Header};
use crate::io::object::{Objects, Trouble};

use super::lane::Lane;
use super::ledger;
use super::prefix::{in_use, inventory};

/// By topic and partition: the index of the next change, and the batch of the last.
pub type Ends = BTreeMap<(String, u32), (u64, Seq)>;

/// Where the objects under the prefix end; empty: there are none.
///
/// # Errors
/// When some are not of `lineage`, or are ahead of `published` (exit 4), or the store does not answer.
pub fn ends(objects: &Objects, lineage: &str, published: Seq) -> Result<Ends, Fault> {
    let url = objects.url();
    let failed = |trouble: Trouble| Fault::failed(format!("cannot read {url}: {trouble}"));
    let mut ends = Ends::new();
    for ((topic, partition), names) in inventory(objects).map_err(failed)? {
        let Some((first, name)) = names.last_key_value() else {
            continue;
        };
        let bytes = objects
            .head_header(name, HEADER_BYTES_MAX as u64)
            .map_err(failed)?;
        let foreign = |reason: String| in_use(url, &(name.clone(), reason));
        let header = Header::read(&bytes.unwrap_or_default()).map_err(foreign)?;
        if header.lineage != lineage {
            let theirs = &header.lineage;
            return Err(foreign(format!(
                "it belongs to another directory (lineage {theirs})"
            )));
        }
        if header.first != *first {
            return Err(foreign(format!(
                "it says that it begins with change {}",
                header.first
            )));
        }
        if header.seq_last > published {
            return Err(Fault::directory(format!(
                "{url}/{name} ends with batch {}, but only batches up to {published} are published: \
                 kafka lost records, or the bucket belongs to another cluster's history; set \
                 archive.url to another prefix",
                header.seq_last
            )));
        }
        ends.insert((topic, partition), (header.last + 1, header.seq_last));
    }
    Ok(ends)
}

/// The facts of an archive under `url` that goes on after `ends`, with everything up to `position` in
/// objects and nothing wanted up to `start`.
#[must_use]
pub fn facts(url: &str, start: Seq, position: Seq, ends: &Ends) -> Vec<(String, String)> {
    let lanes = ends.iter().map(|((topic, partition), (next, archived))| {
        Lane::new(topic, *partition, *next, *archived)
    });
    ledger::founding(url, start, position, lanes)
}

//! What arrived for each epoch and snapshot, until the frontier has passed it.

use std::collections::{BTreeMap, VecDeque};

use timely::dataflow::operators::Capability;

use deltapoll_state::fail;

use super::Work;
use crate::dataflow::message::{
    Chunk, Counts, Extracted, ExtractedItem, Manifest, PollRef, Trailer,
};

/// Everything that one worker received of one snapshot.
pub struct SnapshotParts {
    pub manifest: Manifest,
    pub chunks: Vec<Chunk>,
    trailers: Vec<Trailer>,
}

impl SnapshotParts {
    /// What the trailers say together: all there and ok, or why the snapshot cannot be used (R3).
    /// Every worker has the same trailers, and so comes to the same answer.
    pub fn counts(&self) -> Result<Counts, String> {
        let pieces = self.manifest.pieces as usize;
        let mut seen = vec![false; pieces];
        let mut counts = Counts::default();
        for trailer in &self.trailers {
            let number = trailer.number as usize;
            let more = match &trailer.outcome {
                Ok(more) => *more,
                Err(_) if fail::broken("r03") => Counts::default(),
                Err(what) => return Err(format!("piece {number}: {what}")),
            };
            counts.entries += more.entries;
            counts.keyless += more.keyless;
            let place = seen
                .get_mut(number)
                .ok_or("a trailer for a piece that does not exist")?;
            assert!(!*place, "two trailers for piece {number}");
            *place = true;
        }
        match seen.iter().position(|there| !there) {
            Some(missing) => Err(format!("piece {missing} of {pieces} did not arrive")),
            None => Ok(counts),
        }
    }
}

/// What arrived and is not decided.
#[derive(Default)]
pub struct Gathered(BTreeMap<u64, EpochParts>);

struct EpochParts {
    capability: Capability<u64>,
    manifests: Vec<Manifest>,
    chunks: BTreeMap<PollRef, Vec<Chunk>>,
    trailers: BTreeMap<PollRef, Vec<Trailer>>,
    close: bool,
}

impl Gathered {
    /// Keeps what arrived at the capability's time.
    pub fn add(&mut self, capability: Capability<u64>, data: impl Iterator<Item = Extracted>) {
        let parts = self
            .0
            .entry(*capability.time())
            .or_insert_with(|| EpochParts {
                capability,
                manifests: Vec::new(),
                chunks: BTreeMap::new(),
                trailers: BTreeMap::new(),
                close: false,
            });
        for extracted in data {
            match extracted.item {
                ExtractedItem::Manifest(manifest) => parts.manifests.push(manifest),
                ExtractedItem::Chunk(chunk) => {
                    parts.chunks.entry(chunk.of).or_default().push(chunk)
                }
                ExtractedItem::Trailer(trailer) => {
                    parts.trailers.entry(trailer.of).or_default().push(trailer);
                }
                ExtractedItem::Close => parts.close = true,
            }
        }
    }

    /// The epochs that are complete, in order.
    pub fn passed(&mut self, passed: impl Fn(u64) -> bool) -> Vec<Work> {
        let mut works = Vec::new();
        while let Some(entry) = self.0.first_entry() {
            if !passed(*entry.key()) {
                break;
            }
            works.push(entry.remove().into_work());
        }
        works
    }
}

impl EpochParts {
    fn into_work(mut self) -> Work {
        // IMPORTANT: the same order on every worker and in every run, whatever order messages took.
        self.manifests.sort_unstable_by_key(|manifest| manifest.of);
        let snapshots = self.manifests.into_iter().map(|manifest| SnapshotParts {
            chunks: self.chunks.remove(&manifest.of).unwrap_or_default(),
            trailers: self.trailers.remove(&manifest.of).unwrap_or_default(),
            manifest,
        });
        let snapshots: VecDeque<_> = snapshots.collect();
        assert!(
            self.chunks.is_empty() && self.trailers.is_empty(),
            "parts without a manifest"
        );
        Work {
            capability: self.capability,
            snapshots,
            encoding: None,
            close: self.close,
        }
    }
}

//! Extract: from bytes to rows, on all workers.
//!
//! Checks every byte of a piece (R4), finds each entry's key and hashes key and raw bytes. What goes
//! on is one chunk per piece and owner, and one trailer per piece to every worker (R3); nothing is
//! allocated per entry.

use std::sync::Arc;

use bytes::Bytes;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use deltapoll_state::range;

use crate::io::json::extract;
use crate::io::json::hash::{self, RecordKey};
use crate::snapshot::{CellPlan, Plan};

use super::message::{
    Chunk, Counts, Extracted, ExtractedItem, PollRef, Polled, PolledItem, Row, Trailer,
};

/// Builds the operator.
pub fn extract<'scope>(
    polled: StreamVec<'scope, u64, Polled>,
    plan: Arc<Plan>,
) -> StreamVec<'scope, u64, Extracted> {
    let scope = polled.scope();
    let (worker, workers) = (scope.index(), scope.peers());
    let pact = Exchange::new(|polled: &Polled| polled.to as u64);
    polled.unary(pact, "Extract", move |_, _| {
        let extractor = Extractor { plan, workers };
        move |input, output| {
            input.for_each(|time, data| {
                let mut session = output.session(&time);
                for polled in data.drain(..) {
                    let mut give = |to, item| session.give(Extracted { to, item });
                    match polled.item {
                        PolledItem::Manifest(m) => give(worker, ExtractedItem::Manifest(m)),
                        PolledItem::Close => give(worker, ExtractedItem::Close),
                        PolledItem::Piece { of, number, bytes } => {
                            extractor.piece(of, number, &bytes, give);
                        }
                    }
                }
            });
        }
    })
}

struct Extractor {
    plan: Arc<Plan>,
    workers: usize,
}

impl Extractor {
    fn piece(
        &self,
        of: PollRef,
        number: u32,
        bytes: &Bytes,
        mut give: impl FnMut(usize, ExtractedItem),
    ) {
        let cell = &self.plan.cells[of.index];
        let mut chunks = Chunks::new(self.workers, of, number, bytes);
        let outcome = chunks.fill(cell, self.plan.seed, bytes);
        if outcome.is_ok() {
            for (to, mut chunk) in chunks
                .0
                .into_iter()
                .enumerate()
                .filter(|(_, c)| !c.rows.is_empty())
            {
                // They are kept until the snapshot is decided.
                chunk.rows.shrink_to_fit();
                give(to, ExtractedItem::Chunk(chunk));
            }
        }
        for to in 0..self.workers {
            let trailer = Trailer {
                of,
                number,
                outcome: outcome.clone(),
            };
            give(to, ExtractedItem::Trailer(trailer));
        }
    }
}

/// One chunk per worker.
struct Chunks(Vec<Chunk>);

impl Chunks {
    fn new(workers: usize, of: PollRef, number: u32, bytes: &Bytes) -> Chunks {
        // A guess that is right within one doubling for entries of 100 to 200 bytes.
        let capacity = bytes.len() / 160 / workers + 1;
        let chunk = |_| Chunk {
            of,
            number,
            bytes: bytes.clone(),
            rows: Vec::with_capacity(capacity),
        };
        Chunks((0..workers).map(chunk).collect())
    }

    fn fill(&mut self, cell: &CellPlan, seed: u64, bytes: &Bytes) -> Result<Counts, String> {
        let workers = self.0.len();
        let mut record_key = RecordKey::new(&cell.key_prefix, &cell.key_suffix);
        let counts = extract::scan(bytes, &cell.keys, |entry| {
            let Some(key) = entry.key else { return };
            let hash = record_key.hash(seed, key);
            self.0[range::owner(hash, workers)].rows.push(Row {
                hash: [hash.top(), hash.0 as u64],
                raw: hash::raw(seed, entry.bytes),
                offset: entry.offset,
                length: entry.len,
                key_offset: entry.key_offset.unwrap_or(0),
                key_length: entry.key_offset.map_or(0, |_| key.len() as u32),
            });
        });
        let counts = counts.map_err(|malformed| malformed.to_string())?;
        Ok(Counts {
            entries: counts.entries,
            keyless: counts.keyless,
        })
    }
}

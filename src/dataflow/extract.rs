//! Extract: from bytes to what entries are known by, and where they are, on all workers.
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
    Chunk, Counts, Extracted, ExtractedItem, PollRef, Polled, PolledItem, Seen, Span, Trailer,
};

/// Entries of a piece for which room is kept: more than a usual piece has.
const KEPT_MAX: usize = 1 << 15;

/// Builds the operator.
pub fn extract<'scope>(
    polled: StreamVec<'scope, u64, Polled>,
    plan: Arc<Plan>,
) -> StreamVec<'scope, u64, Extracted> {
    let scope = polled.scope();
    let (worker, workers) = (scope.index(), scope.peers());
    let pact = Exchange::new(|polled: &Polled| polled.to as u64);
    polled.unary(pact, "Extract", move |_, _| {
        let mut extractor = Extractor {
            plan,
            shares: vec![Owned::default(); workers],
        };
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
    /// What each worker owns of the piece at hand: used again for every piece.
    shares: Vec<Owned>,
}

/// Entries of one piece.
#[derive(Clone, Default)]
struct Owned {
    seen: Vec<Seen>,
    spans: Vec<Span>,
}

impl Extractor {
    fn piece(
        &mut self,
        of: PollRef,
        number: u32,
        bytes: &Bytes,
        mut give: impl FnMut(usize, ExtractedItem),
    ) {
        let plan = self.plan.clone();
        let outcome = self.fill(&plan.cells[of.index], plan.seed, bytes);
        for (to, owned) in self.shares.iter_mut().enumerate() {
            if outcome.is_ok() && !owned.spans.is_empty() {
                // They are kept until the snapshot is decided: copies take just what they need.
                let chunk = Chunk {
                    of,
                    number,
                    bytes: bytes.clone(),
                    seen: owned.seen.clone(),
                    spans: owned.spans.clone(),
                };
                give(to, ExtractedItem::Chunk(chunk));
            }
            owned.seen.clear();
            owned.spans.clear();
            // A piece may be one line of 256 MiB.
            owned.seen.shrink_to(KEPT_MAX);
            owned.spans.shrink_to(KEPT_MAX);
            let trailer = Trailer {
                of,
                number,
                outcome: outcome.clone(),
            };
            give(to, ExtractedItem::Trailer(trailer));
        }
    }

    fn fill(&mut self, cell: &CellPlan, seed: u64, bytes: &Bytes) -> Result<Counts, String> {
        let workers = self.shares.len();
        let mut record_key = RecordKey::new(&cell.key_prefix, &cell.key_suffix);
        let counts = extract::scan(bytes, &cell.keys, |entry| {
            let Some(key) = entry.key else { return };
            let hash = record_key.hash(seed, key);
            let owned = &mut self.shares[range::owner(hash, workers)];
            owned.seen.push(Seen {
                hash: [hash.top(), hash.0 as u64],
                raw: hash::raw(seed, entry.bytes),
            });
            owned.spans.push(Span {
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

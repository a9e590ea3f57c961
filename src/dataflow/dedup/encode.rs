//! From decided changes to the bytes that are sealed (R11), one batch at a time.

use crate::change::{Builder, Change, Fingerprint, Head, KeyHash, Kind};
use crate::config::Removed;
use crate::io::kafka::murmur2::partition_of;
use crate::snapshot::{CellPlan, Plan};

use super::decide::{RecordKeys, removal};
use super::entries::{Entries, TOGETHER};

/// A batch is closed when it is this long: small enough to cut a large epoch into transactions and
/// objects, large enough that a frame costs nothing.
const BATCH_BYTES: usize = 1 << 20;

/// An entry that is new or changed: 16 bytes, because a first snapshot has nothing else.
pub struct Pending {
    /// Its place among the snapshot's entries; the top bit says that its key is new.
    at: u32,
    pub canon: u64,
}

const ADDED: u32 = 1 << 31;

impl Pending {
    pub fn new(at: u32, kind: Kind, canon: u64) -> Pending {
        assert!(at < ADDED, "body_max bounds the entries");
        Pending {
            at: at | if kind == Kind::Added { ADDED } else { 0 },
            canon,
        }
    }

    pub fn at(&self) -> u32 {
        self.at & !ADDED
    }

    pub fn kind(&self) -> Kind {
        if self.at & ADDED == 0 {
            Kind::Changed
        } else {
            Kind::Added
        }
    }
}

/// A key that is gone.
pub struct Gone {
    pub hash: KeyHash,
    /// Empty where no removal is published.
    pub key: String,
}

/// What is published for a removal with `removed = "event"`.
pub fn removal_event(key: &str) -> String {
    serde_json::json!({ "removed": true, "key": key }).to_string()
}

/// Encodes the changes of one snapshot step by step; holds the body's bytes until it is done.
pub struct Encoder(Option<State>);

struct State {
    index: usize,
    entries: Entries,
    pending: std::vec::IntoIter<Pending>,
    gone: std::vec::IntoIter<Gone>,
    builder: Builder,
}

impl Encoder {
    pub fn new(
        cell: &CellPlan,
        index: usize,
        polled_at: u64,
        entries: Entries,
        pending: Vec<Pending>,
        gone: Vec<Gone>,
    ) -> Encoder {
        if pending.is_empty() && gone.is_empty() {
            return Encoder(None);
        }
        let head = Head {
            cell: cell.id,
            polled_at,
            topic: cell.topic.clone(),
            source: cell.source.clone(),
            label: cell.label.clone(),
        };
        Encoder(Some(State {
            index,
            entries,
            pending: pending.into_iter(),
            gone: gone.into_iter(),
            builder: Builder::new(&head),
        }))
    }

    pub fn is_done(&self) -> bool {
        self.0.is_none()
    }

    /// The next batch; `None` when there is none left.
    pub fn next(&mut self, plan: &Plan) -> Option<Vec<u8>> {
        let state = self.0.as_mut()?;
        let cell = &plan.cells[state.index];
        let mut keys = RecordKeys::new(cell);
        while state.builder.bytes() < BATCH_BYTES {
            // The first ones, fewer than that, come by themselves.
            if state.pending.len().is_multiple_of(TOGETHER) {
                let next = state.pending.as_slice().iter().take(TOGETHER);
                state.entries.bring_near(next.map(Pending::at));
            }
            if let Some(pending) = state.pending.next() {
                state.push_entry(cell, &mut keys, &pending);
            } else if let Some(gone) = state.gone.next() {
                state.push_gone(cell, &gone);
            } else {
                let last = state.builder.take();
                self.0 = None;
                return last;
            }
        }
        state.builder.take()
    }
}

impl State {
    fn push_entry(&mut self, cell: &CellPlan, keys: &mut RecordKeys<'_>, pending: &Pending) {
        let seen = self.entries.seen(pending.at());
        let (span, entry) = self.entries.entry(pending.at());
        let key = keys.of(span, entry);
        self.builder.push(&Change {
            kind: pending.kind(),
            partition: partition_of(key.as_bytes(), cell.partitions),
            hash: seen.hash(),
            print: Fingerprint {
                raw: seen.raw,
                canon: pending.canon,
                rule: cell.rule,
            },
            key,
            value: Some(entry),
            silent: false,
        });
    }

    fn push_gone(&mut self, cell: &CellPlan, gone: &Gone) {
        let partition = partition_of(gone.key.as_bytes(), cell.partitions);
        let event;
        let value = match cell.removed {
            Removed::Tombstone | Removed::Ignore => None,
            Removed::Event => {
                event = removal_event(&gone.key);
                Some(event.as_bytes())
            }
        };
        let silent = cell.removed == Removed::Ignore;
        self.builder.push(&Change {
            silent,
            ..removal(gone, partition, value)
        });
    }
}

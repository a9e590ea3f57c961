//! What arrived for each epoch, until the frontier has passed it.

use std::collections::BTreeMap;

use timely::dataflow::operators::Capability;

use super::Work;
use crate::dataflow::message::{Part, Polled, PolledItem};

/// What arrived and is not decided.
#[derive(Default)]
pub struct Gathered(BTreeMap<u64, Arrived>);

struct Arrived {
    capability: Capability<u64>,
    parts: Vec<Part>,
    close: bool,
}

impl Gathered {
    /// Keeps what arrived at the capability's time.
    pub fn add(&mut self, capability: Capability<u64>, data: impl Iterator<Item = Polled>) {
        let epoch = *capability.time();
        let arrived = self.0.entry(epoch).or_insert_with(|| Arrived {
            capability,
            parts: Vec::new(),
            close: false,
        });
        for polled in data {
            match polled.item {
                PolledItem::Part(part) => arrived.parts.push(part),
                PolledItem::Close => arrived.close = true,
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

impl Arrived {
    fn into_work(mut self) -> Work {
        // IMPORTANT: the same order on every worker and in every run, whatever order messages took.
        self.parts.sort_unstable_by_key(|part| part.of);
        Work {
            capability: self.capability,
            snapshots: self.parts.into(),
            encoding: None,
            close: self.close,
        }
    }
}

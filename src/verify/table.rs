//! What is compared in one pass: all changes, batches and keys whose hashes are in one range, each once
//! for every side that has it, with +1 for the topic and -1 for the other side. What consolidation leaves
//! is where they differ.
//!
//! * Changes: topic against archive, and against the journal for what no object has yet. (Batch, key) is
//!   unique: a batch holds a key at most once.
//! * Order: of each batch in a partition its keys in order, against the same.
//! * Keys: the topic's last value of a key against the state's fingerprint.

use std::collections::{BTreeMap, HashMap};

use deltapoll_state::range::Range;
use differential_dataflow::consolidation::consolidate;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::change::{Change as Sealed, Fingerprint, KeyHash, Kind as ChangeKind};
use crate::io::json::canonical::Canonical;
use crate::io::json::hash;
use crate::rules::Rules;

use super::scope::{Scope, Sight};
use super::topic::is_removal;

/// A change; two sides have the same one or differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub lane: u32,
    /// In two halves: 8-byte alignment keeps it small.
    key: [u64; 2],
    /// 0: records do not say.
    pub seq: u64,
    pub polled_at: u64,
    pub tombstone: bool,
    content: u64,
}

impl Change {
    pub fn hash(&self) -> KeyHash {
        join(self.key)
    }
}

/// The keys of a batch in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub lane: u32,
    pub seq: u64,
    pub count: u64,
    /// Whatever their order.
    pub set: u64,
    chain: u64,
}

/// The last value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub topic: u32,
    key: [u64; 2],
    token: u64,
}

impl Key {
    pub fn hash(&self) -> KeyHash {
        join(self.key)
    }
}

/// What both sides say of a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    state: Option<Fingerprint>,
    /// Whether the topic has a value of it in the end.
    live: bool,
    /// Whether that is the state's; `None`: this build cannot tell.
    same: Option<bool>,
    /// The last batch with it.
    pub last: u64,
}

/// Bytes of memory for a change that both sides show, its part in an order and its key included:
/// consolidation sorts with half as much again.
pub const CHANGE_BYTES: u64 =
    ((size_of::<(Change, isize)>() + size_of::<(Order, isize)>() / 2) * 3 / 2) as u64;
/// And for a key, in a table that is half full at worst.
pub const KEY_BYTES: u64 = 2 * (size_of::<((u32, KeyHash), Known)>() as u64 + 1);

/// The side that shows a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Topic = 1,
    /// Archive or journal.
    Other = -1,
}

/// See the module.
pub struct Table<'a> {
    scope: &'a Scope,
    range: Range,
    rules: &'a Rules,
    canonical: BTreeMap<u8, Canonical>,
    pub changes: Vec<(Change, isize)>,
    pub orders: Vec<(Order, isize)>,
    pub keys: HashMap<(u32, KeyHash), Known>,
    /// The order that is being followed, by lane.
    runs: BTreeMap<usize, Order>,
    /// The first batch in the topic, by lane.
    pub first: BTreeMap<u32, u64>,
}

impl<'a> Table<'a> {
    pub fn new(scope: &'a Scope, rules: &'a Rules, range: Range) -> Table<'a> {
        Table {
            scope,
            range,
            rules,
            canonical: BTreeMap::new(),
            changes: Vec::new(),
            orders: Vec::new(),
            keys: HashMap::new(),
            runs: BTreeMap::new(),
            first: BTreeMap::new(),
        }
    }

    /// A change that must have another side.
    pub fn change(&mut self, sight: &Sight<'_>, side: Side) {
        let lane = u32::try_from(sight.lane).expect("far below 4 G partitions");
        let stamp = sight.stamp.filter(|_| self.scope.headers);
        if let Some(stamp) = stamp {
            self.order(sight.lane, stamp.seq.0, sight.hash, side);
        }
        if !self.range.contains(sight.hash) {
            return;
        }
        let change = Change {
            lane,
            key: split(sight.hash),
            seq: stamp.map_or(0, |stamp| stamp.seq.0),
            polled_at: stamp.map_or(0, |stamp| stamp.polled_at),
            tombstone: sight.value.is_none(),
            content: self.content(sight),
        };
        self.changes.push((change, side as isize));
    }

    fn content(&self, sight: &Sight<'_>) -> u64 {
        let mut hash = Xxh3::new();
        if let Some(stamp) = sight.stamp.filter(|_| self.scope.headers) {
            hash.update(stamp.kind.as_str().as_bytes());
            hash.update(&stamp.epoch.0.to_le_bytes());
        }
        let value = sight.value.unwrap_or_default();
        if self.scope.one_line {
            for part in value.split(|byte| matches!(byte, b'\n' | b'\r')) {
                hash.update(part);
            }
        } else {
            hash.update(value);
        }
        hash.digest()
    }

    /// The next key of a batch in a lane; one side shows all of its batches before the other begins.
    fn order(&mut self, lane: usize, seq: u64, key: KeyHash, side: Side) {
        let fresh = Order {
            lane: u32::try_from(lane).expect("far below 4 G partitions"),
            seq,
            count: 0,
            set: 0,
            chain: 0,
        };
        let run = self.runs.entry(lane).or_insert(fresh);
        let ended = (run.seq != seq).then(|| std::mem::replace(run, fresh));
        let small = key.top() ^ key.0 as u64;
        run.count += 1;
        run.set = run.set.wrapping_add(small);
        run.chain = (run.chain.rotate_left(5) ^ small).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Some(ended) = ended {
            self.end_order(ended, side);
        }
    }

    fn end_order(&mut self, order: Order, side: Side) {
        let place = [order.seq.to_le_bytes(), u64::from(order.lane).to_le_bytes()].concat();
        if order.count > 1 && self.range.contains(KeyHash(xxh3_128(&place))) {
            self.orders.push((order, side as isize));
        }
    }

    /// A side has shown all of its changes.
    pub fn end(&mut self, side: Side) {
        for order in std::mem::take(&mut self.runs).into_values() {
            self.end_order(order, side);
        }
    }

    /// What the state says of a key; `None`: it is gone.
    pub fn state(&mut self, topic: usize, hash: KeyHash, print: Option<Fingerprint>) {
        let known = self.keys.entry(place(topic, hash)).or_default();
        known.state = print;
    }

    /// The next value of a key in the topic; the state is shown before.
    pub fn value(&mut self, sight: &Sight<'_>) {
        let seq = sight.stamp.map_or(0, |stamp| stamp.seq.0);
        if sight.stamp.is_some() {
            let lane = u32::try_from(sight.lane).expect("far below 4 G partitions");
            let first = self.first.entry(lane).or_insert(seq);
            *first = seq.min(*first);
        }
        if !self.range.contains(sight.hash) {
            return;
        }
        let topic = self.scope.lanes[sight.lane].topic;
        let mut known = self.keys.get(&place(topic, sight.hash)).copied();
        let known = known.get_or_insert_default();
        known.live = !is_removal(sight);
        known.last = known.last.max(seq);
        if let (true, Some(print), Some(value)) = (known.live, known.state, sight.value) {
            known.same = self.same(print, value);
        }
        self.keys.insert(place(topic, sight.hash), *known);
    }

    /// The next value of a key that is sealed and will be in the topic.
    pub fn coming(&mut self, topic: usize, change: &Sealed<'_>) {
        if change.silent || !self.range.contains(change.hash) {
            return;
        }
        let mut known = self.keys.get(&place(topic, change.hash)).copied();
        let known = known.get_or_insert_default();
        known.live = change.kind != ChangeKind::Removed;
        if let (true, Some(print), Some(value)) = (known.live, known.state, change.value) {
            let new = change.print;
            let equal = new == print || (new.rule == print.rule && new.canon == print.canon);
            known.same = if equal {
                Some(true)
            } else {
                self.same(print, value)
            };
        }
        self.keys.insert(place(topic, change.hash), *known);
    }

    /// Whether `print` is that of `value` (R10).
    fn same(&mut self, print: Fingerprint, value: &[u8]) -> Option<bool> {
        if print.rule != 0 && hash::raw(self.scope.seed, value) == print.raw {
            return Some(true);
        }
        if print.rule != 0 {
            return self
                .canonical(print.rule, value)
                .map(|canon| canon == Some(print.canon));
        }
        // After `state republish`: some rule made it.
        let mut rules = 1..=u8::MAX;
        rules
            .any(|rule| self.canonical(rule, value) == Some(Some(print.canon)))
            .then_some(true)
    }

    /// The fingerprint of `value` under a rule, if it is JSON; `None`: this build does not have it.
    fn canonical(&mut self, rule: u8, value: &[u8]) -> Option<Option<u64>> {
        let ignore = self.rules.get(rule)?;
        let made = self.canonical.entry(rule);
        let canonical = made.or_insert_with(|| Canonical::new(ignore, self.scope.seed));
        Some(canonical.fingerprint(value).ok())
    }

    /// Consolidates changes and orders; returns what is left of keys, and how many could not be compared.
    pub fn consolidate(&mut self) -> (Vec<(Key, isize)>, u64) {
        consolidate(&mut self.changes);
        consolidate(&mut self.orders);
        let mut keys = Vec::new();
        let mut unknown = 0;
        for (&(topic, hash), known) in &self.keys {
            let key = |token| Key {
                topic,
                key: split(hash),
                token,
            };
            let state = known.state.map(|print| print.canon);
            keys.extend(state.map(|canon| (key(canon), -1)));
            match (known.live, state, known.same) {
                (false, _, _) => {}
                (true, Some(canon), Some(true)) => keys.push((key(canon), 1)),
                (true, Some(canon), None) => {
                    unknown += 1;
                    keys.push((key(canon), 1));
                }
                (true, Some(canon), Some(false)) => keys.push((key(!canon), 1)),
                (true, None, _) => keys.push((key(0), 1)),
            }
        }
        consolidate(&mut keys);
        (keys, unknown)
    }
}

fn place(topic: usize, hash: KeyHash) -> (u32, KeyHash) {
    (u32::try_from(topic).expect("far below 4 G topics"), hash)
}

fn split(hash: KeyHash) -> [u64; 2] {
    [hash.top(), hash.0 as u64]
}

fn join(halves: [u64; 2]) -> KeyHash {
    KeyHash(u128::from(halves[0]) << 64 | u128::from(halves[1]))
}

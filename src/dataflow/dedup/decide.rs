//! One snapshot against what is remembered: a merge-join in order of key hash.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltapoll_state::fail;
use deltapoll_state::range_state::{Note, RangeState};

use crate::change::{Change, Epoch, Fingerprint, KeyHash, Kind};
use crate::config::Removed;
use crate::dataflow::message::Part;
use crate::fault::Fault;
use crate::io::json::canonical::Canonical;
use crate::io::json::extract;
use crate::io::json::hash::RecordKey;
use crate::snapshot::{CellPlan, Plan, Span, Tally};

use super::SharedState;
use super::encode::{Encoder, Gone, Pending, removal_event};
use super::entries::{Entries, TOGETHER};
use super::misses::Misses;

/// Noted at a time: what a note needs meanwhile is as large as what it leaves.
const NOTED_TOGETHER: usize = 1 << 14;

/// What deciding needs, kept from one snapshot to the next.
pub struct Decider {
    pub plan: Arc<Plan>,
    pub state: SharedState,
    /// By number of the rule; made when it is first needed.
    canonical: BTreeMap<u8, Canonical>,
}

/// What a snapshot changes.
pub struct Decision {
    pub tally: Tally,
    pub encoder: Encoder,
}

/// What is known of an entry after looking at its content.
enum Content {
    Same(Option<Fingerprint>),
    Different(Fingerprint),
    Malformed,
}

impl Decider {
    pub fn new(plan: Arc<Plan>, state: SharedState) -> Decider {
        Decider {
            plan,
            state,
            canonical: BTreeMap::new(),
        }
    }

    /// Decides what this worker owns of a snapshot, and notes its changes in the state.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn decide(
        &mut self,
        epoch: Epoch,
        part: Part,
        misses: &mut Misses,
    ) -> Result<Decision, Fault> {
        let plan = self.plan.clone();
        let index = part.of.index;
        let cell = &plan.cells[index];
        let entries = Entries::new(part.chunks);
        // A snapshot with keyless entries is partial: one of them may be any key (R5).
        let whole = part.complete && (part.counts.keyless == 0 || fail::broken("r05"));
        let mut found = self.join(&plan, cell, &entries, &part.gone, whole, misses)?;
        found.tally.missing = misses.of(cell.id).len() as u64;
        let gone = self.note(cell, epoch, &entries, &mut found)?;
        found.tally.removed = gone.len() as u64;
        let encoder = Encoder::new(cell, index, part.polled_at, entries, found.pending, gone);
        Ok(Decision {
            tally: found.tally,
            encoder,
        })
    }

    /// The merge-join (R7): remembered keys in order of hash on one side, the snapshot's on the other.
    /// Of those that it lacks, the ones that it says are `gone` are removed at once.
    fn join(
        &mut self,
        plan: &Plan,
        cell: &CellPlan,
        entries: &Entries,
        gone: &[u128],
        whole: bool,
        misses: &mut Misses,
    ) -> Result<Found, Fault> {
        let state = self.state.clone();
        let state = state.borrow();
        let mut found = Found::default();
        let misses = misses.of(cell.id);
        let mut missed: Vec<KeyHash> = misses.keys().copied().collect();
        missed.sort_unstable();
        let mut missed = missed.into_iter().peekable();
        let mut miss = |hash: KeyHash, found: &mut Found| {
            if gone.binary_search(&hash.0).is_ok() {
                misses.remove(&hash);
                found.gone.push(hash);
                return;
            }
            if !whole {
                return;
            }
            let count = misses.get(&hash).copied().unwrap_or(0) + 1;
            if count >= cell.removed_after || fail::broken("r08") {
                misses.remove(&hash);
                found.gone.push(hash);
            } else {
                misses.insert(hash, count);
            }
        };
        // Keys that were missed and are there again, in a partial snapshot or skipped too (R8, R5).
        let mut back = Vec::new();
        let mut differing = Vec::with_capacity(TOGETHER);
        let mut walk = state.walk(cell.id).map_err(damaged)?;
        for at in 0..entries.len() {
            if entries.is_replaced(at) {
                found.tally.duplicates += 1;
                continue;
            }
            let row = entries.seen(at);
            let hash = row.hash();
            let is_known = loop {
                match walk.peek().map_err(damaged)? {
                    Some(next) if next < hash => {
                        walk.advance();
                        miss(next, &mut found);
                    }
                    next => break next == Some(hash),
                }
            };
            let known = is_known.then(|| walk.advance());
            if let Some(print) = known {
                while missed.next_if(|missed| *missed < hash).is_some() {}
                back.extend(missed.next_if_eq(&hash));
                if print.raw == row.raw && print.rule == cell.rule {
                    continue;
                }
            }
            differing.push((at, known.copied()));
            if differing.len() == TOGETHER {
                self.look_at(plan, cell, entries, &mut differing, &mut found);
            }
        }
        self.look_at(plan, cell, entries, &mut differing, &mut found);
        for left in walk {
            let (gone, _) = left.map_err(damaged)?;
            miss(gone, &mut found);
        }
        for hash in back {
            misses.remove(&hash);
        }
        Ok(found)
    }

    /// Looks into entries whose raw bytes are new, or whose fingerprint was made under another rule.
    fn look_at(
        &mut self,
        plan: &Plan,
        cell: &CellPlan,
        entries: &Entries,
        differing: &mut Vec<(u32, Option<Fingerprint>)>,
        found: &mut Found,
    ) {
        entries.bring_near(differing.iter().map(|(at, _)| *at));
        for (at, known) in differing.drain(..) {
            self.look(plan, cell, entries, at, known, found);
        }
    }

    /// Looks into one of them.
    fn look(
        &mut self,
        plan: &Plan,
        cell: &CellPlan,
        entries: &Entries,
        at: u32,
        known: Option<Fingerprint>,
        found: &mut Found,
    ) {
        let seen = entries.seen(at);
        let (span, entry) = entries.entry(at);
        match self.content(plan, cell, seen.raw, entry, known) {
            Content::Same(None) => {}
            Content::Same(Some(print)) => found.refreshed.push((seen.hash(), print)),
            Content::Malformed => found.tally.malformed += 1,
            Content::Different(_) if !Self::is_publishable(cell, span, entry) => {
                found.tally.oversized += 1;
            }
            Content::Different(print) => {
                let kind = if known.is_some() {
                    Kind::Changed
                } else {
                    Kind::Added
                };
                match kind {
                    Kind::Added => found.tally.added += 1,
                    _ => found.tally.changed += 1,
                }
                found.pending.push(Pending::new(at, kind, print.canon));
            }
        }
    }

    fn content(
        &mut self,
        plan: &Plan,
        cell: &CellPlan,
        raw: u64,
        entry: &[u8],
        known: Option<Fingerprint>,
    ) -> Content {
        let mut under = |rule: u8| {
            let ignore = plan.rules.get(rule)?;
            let made = self.canonical.entry(rule);
            let canonical = made.or_insert_with(|| Canonical::new(ignore, plan.seed));
            Some(canonical.fingerprint_of_utf8(entry))
        };
        let rule = cell.rule;
        let Some(Ok(canon)) = under(rule) else {
            return Content::Malformed;
        };
        let print = Fingerprint { raw, canon, rule };
        let same = match known {
            None => false,
            // Equal bytes are equal content under any rule; only the fingerprint is out of date.
            Some(known) if known.raw == raw => true,
            Some(known) if known.rule == rule => known.canon == canon,
            // Under the rule that the old fingerprint was made with, if this build has it (R10).
            Some(known) => matches!(under(known.rule), Some(Ok(old)) if old == known.canon),
        };
        if same {
            Content::Same(Some(print))
        } else {
            Content::Different(print)
        }
    }

    /// Whether the entry's record fits, and that of its removal (R11).
    fn is_publishable(cell: &CellPlan, span: &Span, entry: &[u8]) -> bool {
        // Header names, numbers and framing of a record; the broker counts them too.
        const OVERHEAD_BYTES: usize = 256;
        // Beside the key, and more than it is.
        const EVENT_BYTES: usize = 64;
        let names = cell.source.len() + cell.label.len() + OVERHEAD_BYTES;
        // Nearly all are so far below that their keys need not be looked at: a key is a part of its
        // entry, and a removal event has every character of it as six, at most.
        let key_max = cell.key_prefix.len() + entry.len() + cell.key_suffix.len();
        let event_max = EVENT_BYTES + 6 * key_max;
        if key_max + entry.len().max(event_max) + names <= cell.record_max {
            return true;
        }
        let mut keys = RecordKeys::new(cell);
        let key = keys.of(span, entry);
        // Its removal has to be publishable too, whenever that is.
        let event = match cell.removed {
            Removed::Event => removal_event(key).len(),
            Removed::Tombstone | Removed::Ignore => 0,
        };
        let value = entry.len().max(event);
        let bytes = key.len() + value + names;
        bytes <= cell.record_max || fail::broken("r11")
    }

    /// Notes what changed in the state, and finds the key bytes of what is gone.
    fn note(
        &mut self,
        cell: &CellPlan,
        epoch: Epoch,
        entries: &Entries,
        found: &mut Found,
    ) -> Result<Vec<Gone>, Fault> {
        let mut state = self.state.borrow_mut();
        let keys = match cell.keeps_keys() {
            true => state.keys(cell.id, &found.gone).map_err(damaged)?,
            false => vec![Some(Vec::new()); found.gone.len()],
        };
        let mut gone = Vec::with_capacity(keys.len());
        for (&hash, key) in found.gone.iter().zip(keys) {
            let key = key.and_then(|key| String::from_utf8(key).ok());
            let key = key.ok_or_else(|| lost_key(cell, hash))?;
            gone.push(Gone { hash, key });
        }
        let left = found.gone.iter().map(|&hash| Note {
            hash,
            print: None,
            key: &[],
        });
        state.note(cell.id, epoch, left.collect());
        for pending in found.pending.chunks(NOTED_TOGETHER) {
            note_new(&mut state, cell, epoch, entries, pending);
        }
        for (hash, print) in found.refreshed.drain(..) {
            state.refresh(cell.id, hash, print);
        }
        Ok(gone)
    }
}

fn note_new(
    state: &mut RangeState,
    cell: &CellPlan,
    epoch: Epoch,
    entries: &Entries,
    pending: &[Pending],
) {
    let mut record_keys = RecordKeys::new(cell);
    let mut keys = Vec::new();
    let mut ends = Vec::with_capacity(pending.len());
    // The key of one that is only changed is kept already.
    let is_new = |pending: &&Pending| pending.kind() == Kind::Added && cell.keeps_keys();
    for pending in pending.chunks(TOGETHER) {
        entries.bring_near(pending.iter().filter(is_new).map(Pending::at));
        for pending in pending {
            if is_new(&pending) {
                let (span, entry) = entries.entry(pending.at());
                keys.extend_from_slice(record_keys.bytes_of(span, entry));
            }
            ends.push(keys.len());
        }
    }
    let mut start = 0;
    let notes = pending.iter().zip(ends).map(|(pending, end)| {
        let seen = entries.seen(pending.at());
        let print = Fingerprint {
            raw: seen.raw,
            canon: pending.canon,
            rule: cell.rule,
        };
        let key = &keys[std::mem::replace(&mut start, end)..end];
        Note {
            hash: seen.hash(),
            print: Some(print),
            key,
        }
    });
    state.note(cell.id, epoch, notes.collect());
}

#[derive(Default)]
struct Found {
    tally: Tally,
    pending: Vec<Pending>,
    gone: Vec<KeyHash>,
    refreshed: Vec<(KeyHash, Fingerprint)>,
}

/// The record keys of entries that the scan found a key in, in one reused buffer.
pub struct RecordKeys<'p> {
    keys: extract::Keys<'p>,
    record: RecordKey,
}

impl<'p> RecordKeys<'p> {
    pub fn new(cell: &'p CellPlan) -> RecordKeys<'p> {
        RecordKeys {
            keys: extract::Keys::new(&cell.keys),
            record: RecordKey::new(&cell.key_prefix, &cell.key_suffix),
        }
    }

    pub fn of<'a>(&'a mut self, span: &Span, entry: &'a [u8]) -> &'a str {
        let key = self.bytes_of(span, entry);
        std::str::from_utf8(key).expect("the scan checks UTF-8")
    }

    fn bytes_of<'a>(&'a mut self, span: &Span, entry: &'a [u8]) -> &'a [u8] {
        let key = match span.key_length {
            0 => self.keys.of(entry),
            length => {
                let start = span.key_offset as usize;
                Some(&entry[start..start + length as usize])
            }
        };
        let key = key.expect("the scan found a key in these bytes");
        self.record.of(key)
    }
}

fn damaged(error: deltapoll_state::error::Error) -> Fault {
    Fault::directory(error.to_string())
}

fn lost_key(cell: &CellPlan, hash: KeyHash) -> Fault {
    Fault::directory(format!(
        "the state of source {} lacks the key of {:032x}: the store is damaged; make it again with \
         `deltapoll rebuild --state-only`",
        cell.source, hash.0
    ))
}

/// A removal as it is published.
pub fn removal<'a>(gone: &'a Gone, partition: u32, value: Option<&'a [u8]>) -> Change<'a> {
    Change {
        kind: Kind::Removed,
        partition,
        hash: gone.hash,
        print: Fingerprint::default(),
        key: &gone.key,
        value,
        silent: false,
    }
}

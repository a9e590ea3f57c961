//! Random snapshots, and what they must lead to.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::change::Kind;
use crate::config::Removed;
use crate::io::json::cutter::Cutter;
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::Scan;
use crate::snapshot::{Piece, Tally, Verdict};

const CELLS: usize = 3;
const KEYS: u32 = 60;

/// What holds for a whole play.
#[derive(Clone, Debug)]
pub struct Settings {
    pub removed_after: u32,
    pub removed: Removed,
    pub cells: usize,
    /// Pointers that do not count as a change.
    pub ignore: Vec<String>,
    pub record_max: usize,
}

/// An entry as it is served.
#[derive(Clone, Debug)]
enum Served {
    Sound {
        key: u32,
        value: u32,
        text: String,
    },
    /// Sound outside, not JSON inside.
    Broken {
        key: u32,
        text: String,
    },
    Keyless {
        text: String,
    },
}

/// One poll of one cell.
#[derive(Clone, Debug)]
pub struct Poll {
    pub cell: usize,
    pub complete: bool,
    /// Keys that it says are gone, as a stored one may.
    gone: Vec<u32>,
    entries: Vec<Served>,
    /// A piece with this number is no UTF-8.
    spoiled: bool,
    piece_bytes: usize,
}

impl Poll {
    /// A whole snapshot of the first cell with these entries.
    pub fn of(text: &str) -> Poll {
        let text = text.to_owned();
        Poll {
            cell: 0,
            complete: true,
            gone: Vec::new(),
            entries: vec![Served::Keyless { text }],
            spoiled: false,
            piece_bytes: 1000,
        }
    }

    /// The keys that it says are gone.
    pub fn gone(&self) -> Vec<String> {
        let gone = self.gone.iter();
        gone.map(|key| key_text(self.cell, *key)).collect()
    }

    /// The body as `io` would cut and scan it.
    pub fn pieces(&self, scan: &Scan) -> Result<Vec<Piece>, String> {
        let texts: Vec<&str> = self.entries.iter().map(Served::text).collect();
        let body = format!("{{\"entries\": [{}]}}", texts.join(" ,"));
        let pointer = Pointer::parse("/entries").expect("a pointer");
        let mut cutter = Cutter::new(&pointer, self.piece_bytes, &scan.keys);
        let mut scanner = scan.begin();
        for chunk in body.as_bytes().chunks(body.len() / 4096 + 37) {
            cutter.push(chunk, &mut scanner).expect("a sound body");
        }
        cutter.finish().expect("a whole body");
        if self.spoiled {
            scanner.take(Bytes::from_static(b"{\"id\":\"\xff\"}"))?;
        }
        Ok(scanner.finish())
    }
}

impl Served {
    fn text(&self) -> &str {
        match self {
            Served::Sound { text, .. } | Served::Broken { text, .. } | Served::Keyless { text } => {
                text
            }
        }
    }

    fn key(&self) -> Option<u32> {
        match self {
            Served::Sound { key, .. } | Served::Broken { key, .. } => Some(*key),
            Served::Keyless { .. } => None,
        }
    }
}

/// Decides everything that is random.
pub struct Script(StdRng);

impl Script {
    pub fn new(seed: u64) -> Script {
        Script(StdRng::seed_from_u64(seed))
    }

    pub fn settings(&mut self) -> Settings {
        let removed = [Removed::Tombstone, Removed::Event, Removed::Ignore];
        Settings {
            removed_after: self.0.random_range(1..=3),
            removed: removed[self.0.random_range(0..removed.len())],
            cells: self.0.random_range(1..=CELLS),
            ignore: Vec::new(),
            record_max: 1 << 20,
        }
    }

    pub fn workers(&mut self) -> usize {
        self.0.random_range(1..=4)
    }

    pub fn restarts(&mut self) -> bool {
        self.0.random_bool(0.15)
    }

    pub fn crashes(&mut self) -> bool {
        self.0.random_bool(0.5)
    }

    /// One poll each of some cells.
    pub fn polls(&mut self, world: &World) -> Vec<Poll> {
        let mut cells: Vec<usize> = (0..world.settings.cells).collect();
        cells.shuffle(&mut self.0);
        cells.truncate(self.0.random_range(1..=cells.len()));
        cells
            .into_iter()
            .map(|cell| self.one(world, cell))
            .collect()
    }

    fn one(&mut self, world: &World, cell: usize) -> Poll {
        let (change, leave, arrive) = match self.0.random_range(0..6) {
            0 => (0.0, 0.0, 0.0),
            1 => (0.1, 1.0, 0.0),
            _ => (0.2, 0.15, 0.1),
        };
        let mut entries = Vec::new();
        for key in 0..KEYS {
            let value = match world.cells[cell].get(&key) {
                Some(_) if self.0.random_bool(leave) => continue,
                Some(known) if !self.0.random_bool(change) => known.value,
                None if !self.0.random_bool(arrive) => continue,
                _ => self.0.random_range(0..1000),
            };
            entries.push(self.served(key, value));
            if self.0.random_bool(0.03) {
                let value = self.0.random_range(0..1000);
                entries.push(self.served(key, value));
            }
        }
        if self.0.random_bool(0.05) {
            entries.push(Served::Keyless {
                text: "{\"name\": \"nobody\"}".into(),
            });
        }
        entries.shuffle(&mut self.0);
        let told = if self.0.random_bool(0.2) { 0.2 } else { 0.0 };
        let gone = (0..KEYS).filter(|_| self.0.random_bool(told)).collect();
        Poll {
            cell,
            complete: self.0.random_bool(0.85),
            gone,
            entries,
            spoiled: self.0.random_bool(0.05),
            piece_bytes: self.0.random_range(1..2000),
        }
    }

    fn served(&mut self, key: u32, value: u32) -> Served {
        if self.0.random_bool(0.02) {
            return Served::Broken {
                key,
                text: format!("{{\"id\":\"k{key}\",\"v\":0{value}x}}"),
            };
        }
        let mut fields = [
            format!("\"id\":\"k{key}\""),
            format!("\"v\" : {value}"),
            format!(
                "\"w\":{{\"a\":[{value},null],\"b\":{:.1}}}",
                f64::from(value)
            ),
        ];
        if self.0.random_bool(0.3) {
            fields.shuffle(&mut self.0);
        }
        let space = if self.0.random_bool(0.3) { "\n\t " } else { "" };
        let text = format!("{{{space}{}{space}}}", fields.join(&format!(",{space}")));
        Served::Sound { key, value, text }
    }
}

/// One change as it must be published: epoch left out, since the graph chooses it.
pub type Published = (usize, String, &'static str, Option<String>);

/// What a poll must lead to.
pub struct Expected {
    pub tally: Tally,
    pub changes: Vec<Published>,
    failed: bool,
}

impl Expected {
    pub fn verdict(&self) -> Verdict {
        match () {
            () if self.failed => Verdict::Failed(super::bench::SPOILED.into()),
            () if self.tally.changes() > 0 => Verdict::Sealed,
            () => Verdict::Unchanged,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    value: u32,
    misses: u32,
}

/// The model: a map per cell.
pub struct World {
    settings: Settings,
    cells: Vec<BTreeMap<u32, Known>>,
}

impl World {
    pub fn new(settings: Settings) -> World {
        World {
            cells: vec![BTreeMap::new(); settings.cells],
            settings,
        }
    }

    /// After a crash all misses are 0 (R8).
    pub fn forget_misses(&mut self) {
        self.cells
            .iter_mut()
            .flat_map(BTreeMap::values_mut)
            .for_each(|known| known.misses = 0);
    }

    pub fn apply(&mut self, poll: &Poll) -> Expected {
        let mut expected = Expected {
            tally: Tally::default(),
            changes: Vec::new(),
            failed: poll.spoiled,
        };
        if poll.spoiled {
            return expected;
        }
        let mut last: BTreeMap<u32, &Served> = BTreeMap::new();
        let tally = &mut expected.tally;
        for entry in &poll.entries {
            tally.entries += 1;
            match entry.key() {
                None => tally.keyless += 1,
                Some(key) => tally.duplicates += u64::from(last.insert(key, entry).is_some()),
            }
        }
        let cell = &mut self.cells[poll.cell];
        let mut publish = |key: u32, kind: Kind, value: Option<String>| {
            expected
                .changes
                .push((poll.cell, key_text(poll.cell, key), kind.as_str(), value));
        };
        for (&key, served) in &last {
            if let Some(known) = cell.get_mut(&key) {
                known.misses = 0;
            }
            let Served::Sound { value, text, .. } = served else {
                tally.malformed += 1;
                continue;
            };
            let known = cell.insert(
                key,
                Known {
                    value: *value,
                    misses: 0,
                },
            );
            match known {
                None => tally.added += 1,
                Some(known) if known.value != *value => tally.changed += 1,
                Some(_) => continue,
            }
            let kind = if known.is_none() {
                Kind::Added
            } else {
                Kind::Changed
            };
            publish(key, kind, Some(text.clone()));
        }
        let whole = poll.complete && tally.keyless == 0;
        if whole || !poll.gone.is_empty() {
            let settings = &self.settings;
            cell.retain(|&key, known| {
                let missing = !last.contains_key(&key);
                known.misses += u32::from(whole && missing);
                let gone = (whole && known.misses >= settings.removed_after)
                    || (missing && poll.gone.contains(&key));
                tally.removed += u64::from(gone);
                match settings.removed {
                    Removed::Tombstone if gone => publish(key, Kind::Removed, None),
                    Removed::Event if gone => {
                        let key_text = key_text(poll.cell, key);
                        let event = format!("{{\"key\":\"{key_text}\",\"removed\":true}}");
                        publish(key, Kind::Removed, Some(event));
                    }
                    _ => {}
                }
                !gone
            });
        }
        tally.missing = cell.values().filter(|known| known.misses > 0).count() as u64;
        expected
    }
}

fn key_text(cell: usize, key: u32) -> String {
    format!("c{cell}:k{key}")
}

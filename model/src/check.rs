//! Looks at every state within the bounds, breadth first, so that a counterexample is as short as any.
//!
//! Of a state that was looked at only 64 bits of hash are kept (as stateright does): with a million
//! states the chance that two of them meet, and one is taken for the other, is below 10^-7.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::action::{Action, Successor, successors};
use crate::bounds::Bounds;
use crate::properties::{Property, check_end};
use crate::state::State;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The bounds' name.
    pub name: &'static str,
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// States in which nothing is left to do but what may go wrong.
    pub ends: usize,
    /// How a promise is broken, if it is.
    pub broken: Option<Counterexample>,
}

/// How a promise comes to be broken.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// Which one.
    pub property: Property,
    /// The steps to it.
    pub trace: Vec<Action>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.trace {
            writeln!(f, "  {action}")?;
        }
        write!(f, "  => {}", self.property)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, states, steps) = (self.name, self.states, self.steps);
        let (depth, ends) = (self.depth, self.ends);
        write!(
            f,
            "{name}: {states} states, {steps} steps, depth {depth}, {ends} ends"
        )?;
        match &self.broken {
            None => Ok(()),
            Some(broken) => write!(f, "\n{broken}"),
        }
    }
}

/// Checks the promises `wanted` in every state that can be reached within `bounds`, until one is broken.
///
/// # Panics
/// When a list of the model is too short for the bounds.
#[must_use]
pub fn explore(bounds: &Bounds, wanted: &[Property]) -> Report {
    let mut report = Report {
        name: bounds.name,
        states: 1,
        steps: 0,
        depth: 0,
        ends: 0,
        broken: None,
    };
    let start = State::start();
    let mut ways = Ways::new(&start);
    let mut layer: Vec<(u32, State)> = vec![(0, start)];
    let mut next = Vec::new();
    while !layer.is_empty() {
        let mut following = Vec::new();
        for (way, state) in layer {
            next.clear();
            successors(&state, bounds, &mut next);
            report.steps += next.len();
            if is_end(&next) {
                report.ends += 1;
                if let Some(property) = check_end(&state, bounds).filter(|p| wanted.contains(p)) {
                    report.broken = Some(ways.counterexample(bounds, property, way));
                    return report;
                }
            }
            for (_, state) in next.drain(..) {
                let Some(here) = ways.add(way, &state) else {
                    continue;
                };
                report.states += 1;
                let broken = wanted.iter().find(|wanted| !wanted.holds(&state, bounds));
                if let Some(&property) = broken {
                    report.broken = Some(ways.counterexample(bounds, property, here));
                    return report;
                }
                following.push((here, state));
            }
        }
        report.depth += usize::from(!following.is_empty());
        layer = following;
    }
    report
}

/// Whether nothing is left to do but what may go wrong.
fn is_end(next: &[Successor]) -> bool {
    next.iter().all(|(action, _)| action.is_fault())
}

/// Whether nothing within `bounds` goes on for ever: no state can be reached from itself. Then every run
/// comes to an end, and what holds in all ends is what everything comes to.
#[must_use]
pub fn always_ends(bounds: &Bounds) -> bool {
    // Whether a state is on the way that is being walked.
    let mut seen: HashMap<u64, bool, BuildHasherDefault<Already>> = HashMap::default();
    let start = State::start();
    seen.insert(hash(&start), true);
    let mut way = vec![(hash(&start), following(&start, bounds))];
    while let Some((here, next)) = way.last_mut() {
        let Some((_, state)) = next.pop() else {
            seen.insert(*here, false);
            way.pop();
            continue;
        };
        let there = hash(&state);
        match seen.get(&there) {
            Some(true) => return false,
            Some(false) => {}
            None => {
                seen.insert(there, true);
                way.push((there, following(&state, bounds)));
            }
        }
    }
    true
}

fn following(state: &State, bounds: &Bounds) -> Vec<Successor> {
    let mut next = Vec::new();
    successors(state, bounds, &mut next);
    next
}

/// The states that were reached, and from where.
struct Ways {
    seen: HashSet<u64, BuildHasherDefault<Already>>,
    /// In order of discovery: the state before, and the hash.
    ways: Vec<(u32, u64)>,
}

impl Ways {
    fn new(start: &State) -> Ways {
        let hash = hash(start);
        Ways {
            seen: [hash].into_iter().collect(),
            ways: vec![(0, hash)],
        }
    }

    /// A state that can be reached from `from`; `None`: it was reached before.
    fn add(&mut self, from: u32, state: &State) -> Option<u32> {
        let hash = hash(state);
        if !self.seen.insert(hash) {
            return None;
        }
        self.ways.push((from, hash));
        Some(u32::try_from(self.ways.len() - 1).expect("fewer states than that"))
    }

    /// Walks the way to the state `end` again.
    fn counterexample(&self, bounds: &Bounds, property: Property, end: u32) -> Counterexample {
        let mut hashes = Vec::new();
        let mut at = end;
        while at != 0 {
            let (before, hash) = self.ways[at as usize];
            hashes.push(hash);
            at = before;
        }
        let mut state = State::start();
        let mut trace = Vec::new();
        for wanted in hashes.into_iter().rev() {
            let next = following(&state, bounds);
            let mut steps = next.into_iter();
            let step = steps.find(|(_, state)| hash(state) == wanted);
            let (action, then) = step.expect("it was found before");
            trace.push(action);
            state = then;
        }
        Counterexample { property, trace }
    }
}

fn hash(state: &State) -> u64 {
    let mut hasher = Folding(0x243f_6a88_85a3_08d3);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Multiplies and folds: states are a few hundred small numbers, and are hashed by the million.
struct Folding(u64);

impl Folding {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are wanted")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.0 = folded.rotate_left(23) ^ 0x1319_8a2e_0370_7344;
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }
}

/// What is hashed already.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole words");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

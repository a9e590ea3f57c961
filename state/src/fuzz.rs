//! For tests: property fuzzing by mutation, with a time budget and a kept corpus.
//!
//! [`run`] checks every input of the corpus as it is, then mutations of them until the time is up:
//! `DELTAPOLL_FUZZ_SECONDS`, by default two. An input that the check calls interesting is mutated
//! further. A check fails by a panic; the input is then kept as a file, whose name is printed: once
//! mended, it goes into the corpus, or becomes a small test with a name.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::dice::Dice;

/// Inputs that are mutated further; more would only dilute them.
const INPUTS_MAX: usize = 512;
/// No input gets longer by mutation.
const BYTES_MAX: usize = 64 << 10;

/// The files of a corpus, in order of name; the directory is part of the repository.
///
/// # Panics
/// When it cannot be read, or is empty.
#[must_use]
pub fn corpus(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the corpus is in the repository");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the corpus can be listed").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", dir.display());
    let read = |path: &PathBuf| fs::read(path).expect("the corpus can be read");
    paths.iter().map(read).collect()
}

/// Calls `check` with each of `inputs` and then with mutations of them. Returns how many it was called
/// with.
///
/// # Panics
/// When `check` does.
pub fn run(
    name: &str,
    seed: u64,
    mut inputs: Vec<Vec<u8>>,
    mut check: impl FnMut(&[u8]) -> Interest,
) -> u64 {
    let mut dice = Dice::new(seed);
    for input in &inputs {
        guarded(name, seed, input, &mut check);
    }
    let given = inputs.len();
    let mut count = given as u64;
    let end = now() + budget();
    while now() < end {
        for _ in 0..16 {
            let input = mutate(&mut dice, &inputs);
            count += 1;
            if guarded(name, seed, &input, &mut check) == Interest::New {
                if inputs.len() == INPUTS_MAX {
                    let old = given + dice.below((INPUTS_MAX - given) as u64) as usize;
                    inputs.swap_remove(old);
                }
                inputs.push(input);
            }
        }
    }
    println!(
        "{name}: {count} inputs, {} interesting",
        inputs.len() - given
    );
    count
}

/// What an input was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// It got further than most: worth to be mutated again.
    New,
    /// Nothing in particular.
    None,
}

fn guarded(
    name: &str,
    seed: u64,
    input: &[u8],
    check: &mut impl FnMut(&[u8]) -> Interest,
) -> Interest {
    match catch_unwind(AssertUnwindSafe(|| check(input))) {
        Ok(interest) => interest,
        Err(panic) => {
            let path = std::env::temp_dir().join(format!("deltapoll-{name}-{seed}.input"));
            let kept = fs::write(&path, input);
            println!("{name}: failed on {} ({kept:?})", path.display());
            resume_unwind(panic)
        }
    }
}

fn budget() -> Duration {
    let seconds = std::env::var("DELTAPOLL_FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(2.0))
}

#[expect(clippy::disallowed_methods, reason = "a budget of real time")]
fn now() -> Instant {
    Instant::now()
}

/// One of `inputs`, changed in one to eight ways.
///
/// # Panics
/// When there are no inputs.
#[must_use]
pub fn mutate(dice: &mut Dice, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pick(dice, inputs).to_vec();
    let times = 1 + dice.below(4) * dice.below(3);
    for _ in 0..times {
        change(dice, &mut bytes, inputs);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn pick<'a>(dice: &mut Dice, inputs: &'a [Vec<u8>]) -> &'a [u8] {
    &inputs[dice.below(inputs.len() as u64) as usize]
}

/// A part of something that has `length` bytes.
fn part(dice: &mut Dice, length: usize) -> std::ops::Range<usize> {
    let from = dice.below(length as u64 + 1) as usize;
    let most = (length - from).min(if dice.once_in(4) { length } else { 64 });
    from..from + dice.below(most as u64 + 1) as usize
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
    let length = bytes.len();
    let at = dice.below(length.max(1) as u64) as usize;
    match dice.below(9) {
        0 | 1 if length > 0 => bytes[at] ^= 1 << dice.below(8),
        2 if length > 0 => bytes[at] = dice.word() as u8,
        3 | 4 => number(dice, bytes, at),
        5 => bytes.truncate(at),
        6 => {
            let range = part(dice, length);
            drop(bytes.drain(range));
        }
        7 => {
            let range = part(dice, length);
            let again = bytes[range].to_vec();
            drop(bytes.splice(at.min(length)..at.min(length), again));
        }
        _ => {
            let other = pick(dice, inputs);
            let (from, to) = (part(dice, other.len()), part(dice, length));
            drop(bytes.splice(to, other[from].iter().copied()));
        }
    }
}

/// Puts an extreme where a number may be, little- or big-endian.
fn number(dice: &mut Dice, bytes: &mut [u8], at: usize) {
    let width = 1 << dice.below(4);
    let most = u64::MAX >> (64 - 8 * width);
    let value = match dice.below(7) {
        0 => 0,
        1 => 1,
        2 => most,
        3 => most - 1,
        4 => most / 2 + 1,
        5 => bytes.len() as u64,
        _ => 1 << dice.below(8 * width as u64),
    };
    let little = value.to_le_bytes();
    let mut value = little[..width].to_vec();
    if dice.once_in(3) {
        value.reverse();
    }
    for (byte, new) in bytes.iter_mut().skip(at).zip(value) {
        *byte = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_reach_every_byte_and_length_and_stay_bounded() {
        let mut dice = Dice::new(71);
        let inputs = [vec![7; 40], vec![9; 10]];
        let (mut changed, mut lengths) = ([false; 40], std::collections::BTreeSet::new());
        for _ in 0..20_000 {
            let bytes = mutate(&mut dice, &inputs);
            assert!(bytes.len() <= BYTES_MAX);
            lengths.insert(bytes.len());
            for (at, byte) in bytes.iter().enumerate().take(40) {
                changed[at] |= *byte != 7 && *byte != 9;
            }
        }
        assert!(changed.iter().all(|changed| *changed));
        assert!(
            (0..=60).all(|length| lengths.contains(&length)),
            "{lengths:?}"
        );
    }

    #[test]
    #[should_panic(expected = "seen")]
    fn a_check_that_fails_is_a_failure_and_the_input_is_kept() {
        run("kept", 72, vec![vec![1]], |_| panic!("seen"));
    }
}

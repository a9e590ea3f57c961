//! Fuzzers with a time budget: mutated texts of the corpus (`tests/corpus/list`, `tests/corpus/entry`)
//! and random ones, against serde_json and the slow reference.
//!
//! `DELTAPOLL_FUZZ_SECONDS` is the time of each (default 2); `DELTAPOLL_SEED` plays one again. What they
//! find becomes a small test with a name, and a text of the corpus.

use std::time::Duration;

use super::document::{Dice, Model};
use super::random::{chunks, cut_like_serde_json, damage, document};
use super::reference::{self, Tree};
use super::*;
use crate::clock;
use crate::io::json::canonical::Canonical;

const PATHS: &[&str] = &["", "/entries", "/a/entries", "/1"];

/// Calls `case` with fresh dice until the time is up; at least so many times.
fn fuzz(name: &str, least: u64, mut case: impl FnMut(&mut Dice)) {
    let var = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = var("DELTAPOLL_FUZZ_SECONDS").unwrap_or(2);
    let seed = var("DELTAPOLL_SEED").unwrap_or_else(rand::random);
    eprintln!("{name}: play it again with DELTAPOLL_SEED={seed}");
    let end = clock::now() + Duration::from_secs(seconds);
    let mut cases = 0;
    while cases < least || clock::now() < end {
        case(&mut Dice(seed.wrapping_add(cases)));
        cases += 1;
    }
    eprintln!("{name}: {cases} cases");
}

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a corpus")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
        .iter()
        .map(|path| std::fs::read(path).expect("reads"))
        .collect()
}

/// A text of the corpus, mutated and mixed with another, or a random one.
fn text(corpus: &[Vec<u8>], random: impl FnOnce(&mut Dice) -> String, dice: &mut Dice) -> Vec<u8> {
    let one = |dice: &mut Dice| &corpus[dice.below(corpus.len())];
    let mut text = match dice.below(4) {
        0 => random(dice).into_bytes(),
        1 => {
            let (a, b) = (one(dice), one(dice));
            let (to, from) = (dice.below(a.len() + 1), dice.below(b.len() + 1));
            [&a[..to], &b[from..]].concat()
        }
        _ => one(dice).clone(),
    };
    if !text.is_empty() && !dice.one_in(4) {
        damage(&mut text, dice);
    }
    text
}

#[test]
fn fuzz_r04_a_list_is_the_same_however_it_arrives_and_what_serde_json_reads() {
    let corpus = corpus("list");
    for body in &corpus {
        for path in PATHS {
            cut_like_serde_json(path, body, &mut Dice(1));
        }
    }
    fuzz("lists", 1_000, |dice| {
        let path = dice.of(PATHS);
        let random = |dice: &mut Dice| {
            let list = Model::Array(Model::list(dice, 3));
            document(path, &list, dice)
        };
        let body = text(&corpus, random, dice);
        cut_like_serde_json(path, &body, dice);
        let pieces = |size: usize, chunks: Vec<&[u8]>| {
            let pieces = cut(path, size, chunks).ok()?;
            let all = pieces.iter().map(|piece| entries(piece, &[pointer("/id")]));
            let all = all.collect::<Result<Vec<_>, _>>().ok()?;
            Some(
                all.into_iter()
                    .flat_map(|(texts, _)| texts)
                    .collect::<Vec<_>>(),
            )
        };
        let whole = pieces(usize::MAX / 2, vec![&body]);
        let parts = pieces(1 + dice.below(300), chunks(&body, dice));
        assert_eq!(whole, parts, "{}", String::from_utf8_lossy(&body));
    });
}

const SEED: u64 = 7;

struct Prints {
    all: Canonical,
    without_id: Canonical,
}

impl Prints {
    /// The fingerprints with and without `/id`, after a look at whether it is JSON at all, and at whether
    /// what came before counts.
    fn of(&mut self, text: &[u8], tree: Option<&Tree>) -> Option<(u64, u64)> {
        let shown = || String::from_utf8_lossy(text).into_owned();
        let prints = self.all.fingerprint(text);
        assert_eq!(prints.is_ok(), tree.is_some(), "{prints:?}: {}", shown());
        let fresh = Canonical::new(&[], SEED).fingerprint(text);
        assert_eq!(prints, fresh, "{}", shown());
        let without = self.without_id.fingerprint(text);
        assert_eq!(without.is_ok(), tree.is_some(), "{without:?}: {}", shown());
        let fresh = Canonical::new(&[pointer("/id")], SEED).fingerprint(text);
        assert_eq!(without, fresh, "{}", shown());
        prints.ok().zip(without.ok())
    }
}

#[test]
fn fuzz_r10_fingerprints_are_equal_where_the_content_is_and_nowhere_else() {
    let corpus = corpus("entry");
    let mut prints = Prints {
        all: Canonical::new(&[], SEED),
        without_id: Canonical::new(&[pointer("/id")], SEED),
    };
    fuzz("fingerprints", 1_000, |dice| {
        let random = |dice: &mut Dice| {
            let mut text = String::new();
            Model::random(dice, 3).spell(dice, &mut text);
            text
        };
        let one = text(&corpus, random, dice);
        let tree = reference::read(&one);
        let print = prints.of(&one, tree.as_ref());
        let (Some(tree), Some(print)) = (tree, print) else {
            return;
        };
        if reference::is_huge(&one) {
            return;
        }
        let shown = |other: &[u8]| {
            let [one, other] = [&one, other].map(String::from_utf8_lossy);
            format!("{one}\n{other}")
        };
        let mut again = String::new();
        tree.spell(dice, &mut again);
        let same = prints.of(again.as_bytes(), Some(&tree));
        assert_eq!(same, Some(print), "{}", shown(again.as_bytes()));
        let mut other = one.clone();
        damage(&mut other, dice);
        let others = reference::read(&other);
        let its = prints.of(&other, others.as_ref());
        if let (Some(others), Some(its), false) = (others, its, reference::is_huge(&other)) {
            let equal = (tree == others, tree.without("id") == others.without("id"));
            assert_eq!(
                (print.0 == its.0, print.1 == its.1),
                equal,
                "{}",
                shown(&other)
            );
        }
    });
}

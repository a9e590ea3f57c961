//! Fuzzers with a time budget: configurations and progress records, mutated from `tests/corpus`.
//!
//! `DELTAPOLL_FUZZ_SECONDS` is the time of each (default 2); `DELTAPOLL_SEED` plays one again. What they
//! find becomes a small test with a name, and a text of the corpus.

use std::time::{Duration, Instant};

use deltapoll::config::{check_shape, parse, warnings};
use deltapoll::fault::Exit;
use deltapoll::io::kafka::progress::Progress;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Calls `case` with texts of the corpus, first as they are, then mutated until the time is up.
fn fuzz(folder: &str, pieces: &[&str], mut case: impl FnMut(&str)) {
    let var = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = var("DELTAPOLL_FUZZ_SECONDS").unwrap_or(2);
    let seed = var("DELTAPOLL_SEED").unwrap_or_else(rand::random);
    eprintln!("{folder}: play it again with DELTAPOLL_SEED={seed}");
    let root = format!("{}/tests/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let corpus: Vec<_> = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    corpus.iter().for_each(|text| case(text));
    let mut random = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut cases = 0;
    while cases < 500 || Instant::now() < end {
        case(&mutated(&corpus, pieces, &mut random));
        cases += 1;
    }
    eprintln!("{folder}: {cases} cases");
}

fn mutated(corpus: &[String], pieces: &[&str], random: &mut StdRng) -> String {
    let mut text: Vec<char> = corpus.choose(random).unwrap().chars().collect();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=text.len());
        let end = text.len().min(at + random.random_range(0..20));
        match random.random_range(0..5) {
            0 => drop(text.splice(at..end, [])),
            1 => {
                // A part of another text, perhaps of many lines.
                let other: Vec<char> = corpus.choose(random).unwrap().chars().collect();
                let from = random.random_range(0..=other.len());
                let to = other.len().min(from + random.random_range(0..80));
                drop(text.splice(at..at, other[from..to].iter().copied()));
            }
            2 => {
                let copy = text[at..end].to_vec();
                let to = random.random_range(0..=text.len());
                drop(text.splice(to..to, copy));
            }
            3 if at < text.len() => text[at] = char::from(random.random_range(0..128)),
            _ => drop(text.splice(at..end, pieces.choose(random).unwrap().chars())),
        }
    }
    text.into_iter().collect()
}

const TOML: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "[",
    "[[",
    "]",
    "{",
    "}",
    "=",
    "\n",
    "\r\n",
    "\r",
    "\0",
    ".",
    ",",
    "#",
    "${env:X}",
    "${",
    "99999999999999999999",
    "-1",
    "0x1f",
    "1e400",
    "nan",
    "1979-05-27",
    "true",
    "\u{e9}",
    "\u{1f600}",
    "\\u0041",
    "\\",
    "  ",
    "\t",
    "0s",
    "1000years",
    "{key}",
    "{{",
    "://",
    "@",
    "?",
    "~2",
    "/",
];

#[test]
fn fuzz_a_configuration_is_sound_or_refused_with_its_line_and_never_a_panic() {
    let (mut sound, mut unread, mut unsound) = (0, 0, 0);
    fuzz("config", TOML, |text| {
        let fault = match parse(text, "a.toml") {
            Err(fault) => {
                let line = fault.message.strip_prefix("a.toml:").and_then(|rest| {
                    let (line, what) = rest.split_once(": ")?;
                    line.parse::<usize>().ok().filter(|_| !what.is_empty())
                });
                let lines = text.matches('\n').count() + 1;
                let named = line.is_some_and(|line| (1..=lines).contains(&line));
                assert!(named, "{}\n{text}", fault.message);
                unread += 1;
                fault
            }
            Ok(config) => {
                drop(warnings(&config));
                match check_shape(&config) {
                    Ok(()) => {
                        sound += 1;
                        return;
                    }
                    Err(fault) => {
                        for line in fault.message.lines() {
                            assert!(line.contains(": "), "no field: {line}\n{text}");
                        }
                        unsound += 1;
                        fault
                    }
                }
            }
        };
        assert_eq!(fault.exit, Exit::Usage, "{text}");
        let plain = |c: char| c == '\n' || !c.is_control();
        assert!(
            fault.message.chars().all(plain),
            "{:?}\n{text}",
            fault.message
        );
    });
    assert!(
        sound > 10 && unread > 100 && unsound > 10,
        "{sound} {unread} {unsound}"
    );
}

const JSON: &[&str] = &[
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "1.5",
    "1e3",
    "18446744073709551616",
    "4294967296",
    "\\u0000",
    "\\",
    "\0",
    "\u{e9}",
    "{\"version\":1}",
    "\"seq\":1,",
    "\"version\":2,",
];

#[test]
fn fuzz_r23_a_progress_record_reads_back_or_is_refused_and_never_a_panic() {
    let (mut sound, mut refused) = (0, 0);
    fuzz("progress", JSON, |text| {
        match Progress::parse("p", text.as_bytes()) {
            Ok(progress) => {
                let again = serde_json::to_vec(&progress).unwrap();
                assert_eq!(Progress::parse("p", &again).unwrap(), progress, "{text}");
                sound += 1;
            }
            Err(fault) => {
                assert_eq!(fault.exit, Exit::Directory, "{text}");
                assert!(
                    fault
                        .message
                        .starts_with("the progress record in topic 'p' "),
                    "{fault}"
                );
                refused += 1;
            }
        }
    });
    assert!(sound > 5 && refused > 100, "{sound} {refused}");
}

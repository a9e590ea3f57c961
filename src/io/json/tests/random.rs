//! Random documents, random chunks, random damage: compared with serde_json.
//!
//! Differences that are meant, in what is accepted: a byte order mark, lone surrogates, numbers
//! beyond f64 and nesting of exactly 128 are accepted here and not by serde_json; a step of the list's
//! pointer that is there twice is refused here, at the first place that is wrong.

use serde_json::Value;

use super::document::{Dice, Model};
use super::*;
use crate::io::json::canonical::Canonical;

const SEED: u64 = 20_261_124;
const PATHS: &[&str] = &["", "/entries", "/a/entries", "/1", "/b/2/a~1b"];

/// A document with a list of `list` at `path`, among other things.
pub(super) fn document(path: &str, list: &Model, dice: &mut Dice) -> String {
    let steps: Vec<_> = path
        .split('/')
        .skip(1)
        .map(|s| s.replace("~1", "/"))
        .collect();
    let mut value = list.clone();
    for step in steps.iter().rev() {
        value = if let Ok(index) = step.parse::<usize>() {
            let mut elements: Vec<_> = (0..index).map(|_| Model::random(dice, 2)).collect();
            elements.push(value);
            elements.extend(Model::list(dice, 2));
            Model::Array(elements)
        } else {
            let Model::Object(mut members) = Model::object(dice, 2) else {
                unreachable!("an object");
            };
            members.insert(step.clone(), value);
            Model::Object(members)
        };
    }
    let mut text = String::new();
    value.spell(dice, &mut text);
    text
}

pub(super) fn chunks<'a>(body: &'a [u8], dice: &mut Dice) -> Vec<&'a [u8]> {
    let most = dice.of(&[1, 3, 20, 1000]);
    let mut rest = body;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + dice.below(most.min(rest.len())));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// Whether a step of a pointer to a list that is there may have been refused for being there twice.
fn is_twice(fault: &Malformed) -> bool {
    fault.what.ends_with("is there twice") || fault.what.contains("is not a list but")
}

fn key_by_serde(entry: &Value, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match entry.pointer(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(n) if n.is_i64() || n.is_u64() => Some(n.to_string()),
        _ => None,
    })
}

#[test]
fn model_entries_and_keys_are_those_that_serde_json_sees() {
    // Names that end alike and in different ways, in one byte or in two, and the empty one.
    let lists: [&[&str]; 7] = [
        &["/id", "/a/b", "/\u{e9}", "/b/1"],
        &["/id"],
        &["/a/b"],
        &["/\u{e9}"],
        &["/b/1"],
        &["/", "/id"],
        &["/"],
    ];
    let (mut keyed, mut twice) = (0, 0);
    for case in 0..8_000 {
        let dice = &mut Dice(SEED + case);
        let keys = dice.of(&lists);
        let pointers: Vec<_> = keys.iter().map(|key| pointer(key)).collect();
        let path = dice.of(PATHS);
        let entry = |dice: &mut Dice| match dice.below(4) {
            0 => Model::random(dice, 3),
            _ => Model::object(dice, 2),
        };
        let list = (0..dice.below(12)).map(|_| entry(dice)).collect();
        let body = document(path, &Model::Array(list), dice);
        let seen: Value = serde_json::from_str(&body).expect(&body);
        let seen = seen.pointer(path).and_then(Value::as_array).expect(&body);
        let piece_bytes = 1 + dice.below(if case % 8 == 0 { 4_000 } else { 200 });
        let pieces = match cut_with(path, piece_bytes, &pointers, chunks(body.as_bytes(), dice)) {
            Err(fault) if is_twice(&fault) => {
                twice += 1;
                continue;
            }
            result => result.unwrap_or_else(|fault| panic!("seed {SEED}+{case}: {fault}: {body}")),
        };
        let mut at = 0;
        for piece in pieces {
            let counts = extract::scan(&piece, &pointers, |entry| {
                let value: Value = serde_json::from_slice(entry.bytes).expect(&body);
                assert_eq!(value, seen[at], "seed {SEED}+{case}, entry {at}: {body}");
                let key = entry
                    .key
                    .map(|key| String::from_utf8(key.to_vec()).expect("UTF-8"));
                assert_eq!(
                    key,
                    key_by_serde(&value, keys),
                    "seed {SEED}+{case}, entry {at}: {body}"
                );
                keyed += usize::from(key.is_some());
                at += 1;
            });
            let counts = counts.unwrap_or_else(|fault| panic!("seed {SEED}+{case}: {fault}"));
            assert!(counts.entries > 0, "seed {SEED}+{case}: an empty piece");
        }
        assert_eq!(at, seen.len(), "seed {SEED}+{case}: {body}");
    }
    assert!(
        keyed > 1_000 && twice < 800,
        "{keyed} keys, {twice} documents refused"
    );
}

pub(super) fn damage(body: &mut Vec<u8>, dice: &mut Dice) {
    const ODD: &[u8] = b"\"\"\\{}[],:,0-.eEtfnu19 \n\0\x1f\x7f\x80\xc3\xed\xff";
    for _ in 0..1 + dice.below(3) {
        if body.is_empty() {
            return;
        }
        let at = dice.below(body.len());
        match dice.below(6) {
            0 => body[at] = dice.below(256) as u8,
            1 => body[at] = dice.of(ODD),
            2 => body.insert(at, dice.of(ODD)),
            3 if body.len() > 1 => drop(body.remove(at)),
            4 => body.truncate(at + 1),
            _ => {
                let end = (at + dice.below(20)).min(body.len());
                let part = body[at..end].to_vec();
                let to = dice.below(body.len());
                body.splice(to..to, part);
            }
        }
    }
}

/// Everything that a body goes through when all its entries are new.
fn accepted(path: &str, chunks: Vec<&[u8]>) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut canonical = Canonical::new(&[], 1);
    let mut all = Vec::new();
    for piece in cut(path, 50, chunks)? {
        all.extend(entries(&piece, &[pointer("/id"), pointer("/a/b/0")])?.0);
    }
    for entry in &all {
        canonical.fingerprint(entry)?;
    }
    Ok(all)
}

/// Checks that a body is accepted exactly if serde_json accepts it and finds the list, whatever the
/// chunks; whether it was, unless that is one of the meant differences.
pub(super) fn cut_like_serde_json(path: &str, body: &[u8], dice: &mut Dice) -> Option<bool> {
    let shown = || format!("{path}: {:?}", String::from_utf8_lossy(body));
    let ours = accepted(path, chunks(body, dice));
    let where_cut = |result: Result<_, Malformed>| result.map_err(|fault| fault.offset);
    let whole = where_cut(cut(path, 50, [body]));
    let bytes = where_cut(cut(path, 50, body.chunks(1)));
    assert_eq!(whole, bytes, "chunks matter: {}", shown());
    let theirs = serde_json::from_slice::<Value>(body).map_err(|fault| fault.to_string());
    let list = |value: &Value| value.pointer(path).and_then(Value::as_array).cloned();
    match (ours, theirs.as_ref().map(list)) {
        (Ok(ours), Ok(Some(theirs))) => {
            let ours = ours
                .iter()
                .map(|e| serde_json::from_slice(e).expect("an entry"));
            assert_eq!(ours.collect::<Vec<Value>>(), theirs, "{}", shown());
            Some(true)
        }
        (Err(fault), Ok(Some(_))) => {
            assert!(is_twice(&fault), "{fault}, {}", shown());
            None
        }
        (Err(_), _) => Some(false),
        (Ok(_), Ok(None)) => panic!("no list in {}", shown()),
        (Ok(_), Err(fault)) => {
            let meant = [
                "number out of range",
                "surrogate",
                "hex escape",
                "recursion limit",
            ];
            assert!(
                meant.iter().any(|m| fault.contains(m)) || body.starts_with(b"\xef\xbb\xbf"),
                "{fault}, {}",
                shown()
            );
            None
        }
    }
}

#[test]
fn model_what_is_accepted_after_random_damage_is_what_serde_json_accepts() {
    let (mut both, mut neither) = (0, 0);
    for case in 0..60_000 {
        let dice = &mut Dice((SEED ^ 0x5a5a) + case);
        let path = dice.of(PATHS);
        let list = Model::Array(Model::list(dice, 3));
        let mut body = document(path, &list, dice).into_bytes();
        damage(&mut body, dice);
        match cut_like_serde_json(path, &body, dice) {
            Some(true) => both += 1,
            Some(false) => neither += 1,
            None => {}
        }
    }
    assert!(both > 2_000 && neither > 10_000, "{both}, {neither}");
}

#[test]
fn bytes_of_any_kind_are_no_reason_to_panic() {
    for case in 0..20_000 {
        let dice = &mut Dice((SEED << 1) ^ case);
        let path = dice.of(PATHS);
        let mut body: Vec<u8> = match dice.below(3) {
            0 => b"[".to_vec(),
            1 => b"{\"entries\":[{\"id\":".to_vec(),
            _ => Vec::new(),
        };
        let alphabet: &[u8] = dice.of(&[
            b"\"\\{}[],:".as_slice(),
            b"[]{}\"\\,:0e-. \xc3\xa9unrl",
            &[],
        ]);
        for _ in 0..dice.below(60) {
            let any = dice.below(256) as u8;
            body.push(if alphabet.is_empty() {
                any
            } else {
                dice.of(alphabet)
            });
        }
        let ours = accepted(path, chunks(&body, dice)).is_ok();
        let theirs = serde_json::from_slice::<Value>(&body);
        assert!(
            !ours || theirs.is_ok(),
            "case {case}: {:?}",
            String::from_utf8_lossy(&body)
        );
        // Each stage on its own, without the one before it.
        let keys = [pointer("/id"), pointer("/a/0/b"), pointer("")];
        let _ = extract::scan(&body, &keys, |_| {});
        let mut canonical = Canonical::new(&keys[..2], 1);
        let sound = canonical.fingerprint(&body).is_ok();
        assert!(
            !sound || theirs.is_ok(),
            "case {case}: {:?}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[test]
fn r10_model_fingerprints_are_equal_for_equal_content_and_for_no_other() {
    let mut canonical = Canonical::new(&[], SEED);
    let mut known: Vec<(u64, Model)> = Vec::new();
    for case in 0..3_000 {
        let dice = &mut Dice(SEED - case);
        let model = Model::random(dice, 3);
        let mut prints = (0..3).map(|_| {
            let mut text = String::new();
            model.spell(dice, &mut text);
            let print = canonical.fingerprint(text.as_bytes());
            (
                print.unwrap_or_else(|fault| panic!("case {case}: {fault}: {text}")),
                text,
            )
        });
        let (print, text) = prints.next().expect("three");
        for (other, spelling) in prints {
            assert_eq!(print, other, "case {case}: {text} and {spelling}");
        }
        known.push((print, model));
    }
    for (i, (print, model)) in known.iter().enumerate() {
        for (other, its) in &known[..i] {
            assert_eq!(print == other, model == its, "{model:?} and {its:?}");
        }
    }
}

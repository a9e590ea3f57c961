//! The way through a value whose brackets are sound: strings, members, elements, and what may be a key.

use deltapoll_state::fail;

use super::escape::{self, Text};
use super::number;
use super::pointer::Step;
use super::skim::Skim;
use super::{Fault, WRONG_BRACKET, find, is_scalar};

/// The bytes between two quotes.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Plain(&'a [u8]),
    Escaped(&'a [u8]),
}

impl Raw<'_> {
    pub(super) fn is(self, wanted: &str, text: &mut Vec<u8>) -> bool {
        match self {
            Raw::Plain(name) => name == wanted.as_bytes(),
            Raw::Escaped(raw) => {
                text.clear();
                escape::unescape(raw, text) == Ok(Text::Whole) && text == wanted.as_bytes()
            }
        }
    }
}

/// The string whose opening quote is at `at`, and the index after its closing one.
pub(super) fn string(bytes: &[u8], at: usize) -> Option<(Raw<'_>, usize)> {
    let start = at + 1;
    let mut stop = find::text_stop(bytes, start);
    let mut escaped = false;
    while *bytes.get(stop)? == b'\\' {
        escaped = true;
        bytes.get(stop + 1)?;
        stop = find::text_stop(bytes, stop + 2);
    }
    let raw = &bytes[start..stop];
    let raw = if escaped {
        Raw::Escaped(raw)
    } else {
        Raw::Plain(raw)
    };
    Some((raw, stop + 1))
}

/// Skips a string, object or array within `around` open brackets; returns the index after it.
fn skip(bytes: &[u8], at: usize, around: u32) -> Result<usize, Fault> {
    let end = Skim::within(around).run(bytes, at);
    let end = end.map_err(|(at, what)| (at, what.into()))?;
    end.ok_or_else(|| cut_short(bytes))
}

pub(super) fn cut_short(bytes: &[u8]) -> Fault {
    (bytes.len(), "the piece ends within an entry".into())
}

/// Skips the object at `at`, calling `member` with each name and the index where its value starts;
/// returns the index after the object. A string that a colon follows is a name.
pub(super) fn members<'a>(
    bytes: &'a [u8],
    at: usize,
    mut member: impl FnMut(Raw<'a>, usize),
) -> Result<usize, Fault> {
    let mut at = at + 1;
    loop {
        at = find::structure(bytes, at);
        match bytes.get(at) {
            None => return Err(cut_short(bytes)),
            Some(b'"') => {
                let (name, end) = string(bytes, at).ok_or_else(|| cut_short(bytes))?;
                at = find::solid(bytes, end);
                if bytes.get(at) == Some(&b':') {
                    at = find::solid(bytes, at + 1);
                    member(name, at);
                    if bytes.get(at) == Some(&b'"') {
                        (_, at) = string(bytes, at).ok_or_else(|| cut_short(bytes))?;
                    }
                }
            }
            Some(b'{' | b'[') => at = skip(bytes, at, 1)?,
            Some(b'}') => return Ok(at + 1),
            Some(b']') => return Err((at, WRONG_BRACKET.into())),
            Some(_) => at += 1,
        }
    }
}

/// Where the value that `step` names starts, within the value at `at` (of an entry that was skipped
/// already, so that its brackets are sound).
pub(super) fn descend(bytes: &[u8], at: usize, step: &Step, text: &mut Vec<u8>) -> Option<usize> {
    match (bytes.get(at)?, step.index) {
        (b'{', _) => {
            let mut found = None;
            members(bytes, at, |name, value| {
                if name.is(&step.name, text) {
                    found = Some(value);
                }
            })
            .ok()?;
            found
        }
        (b'[', Some(index)) => element(bytes, at, index),
        _ => None,
    }
}

/// Where the element `index` of the array at `at` starts.
fn element(bytes: &[u8], at: usize, index: u64) -> Option<usize> {
    let mut at = find::solid(bytes, at + 1);
    for _ in 0..index {
        loop {
            match bytes.get(at)? {
                b'"' | b'{' | b'[' => at = skip(bytes, at, 0).ok()?,
                b']' | b'}' => return None,
                b',' => break,
                _ => at += 1,
            }
        }
        at = find::solid(bytes, at + 1);
    }
    Some(at)
}

/// The key that the value at `at` is: a non-empty string, or an integer as it is written.
pub(super) fn scalar_key(bytes: &[u8], at: usize) -> Option<Raw<'_>> {
    if *bytes.get(at)? == b'"' {
        let (raw, _) = string(bytes, at)?;
        let (Raw::Plain(text) | Raw::Escaped(text)) = raw;
        return (!text.is_empty() || fail::broken("r33")).then_some(raw);
    }
    let (len, progress) = number::read(&bytes[at..]).ok()?;
    let ended = !bytes.get(at + len).is_some_and(|byte| is_scalar(*byte));
    (ended && progress.is_integer()).then(|| Raw::Plain(&bytes[at..at + len]))
}

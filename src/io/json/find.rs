//! Finds the next byte that matters, eight bytes at a time in ordinary registers.
//!
//! Each function returns the first index at or after `at` whose byte it looks for, or the length of
//! `bytes`. Where a word has a zero byte, `zeros` marks the lowest one exactly; marks above it may be
//! false, and are not used.

const LOW: u64 = u64::MAX / 255;
const HIGH: u64 = LOW << 7;
/// Words looked at before a long string is handed to memchr.
const WORDS_BEFORE_MEMCHR: usize = 4;

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*eight))
}

/// Marks (bit 7) the bytes of `word` that are below `limit` (at most 128).
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(LOW * u64::from(limit)) & !word & HIGH
}

fn zeros(word: u64) -> u64 {
    below(word, 1)
}

fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (LOW * u64::from(byte)))
}

fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

fn one_by_one(bytes: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let found = bytes[at..].iter().position(|byte| wanted(*byte));
    found.map_or(bytes.len(), |found| at + found)
}

/// The next quote or backslash: where a string ends or an escape starts.
pub(super) fn text_stop(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    for _ in 0..WORDS_BEFORE_MEMCHR {
        let Some(word) = word(bytes, at) else {
            return one_by_one(bytes, at, |b| matches!(b, b'"' | b'\\'));
        };
        let marks = equal(word, b'"') | equal(word, b'\\');
        if marks != 0 {
            return at + first(marks);
        }
        at += 8;
    }
    let found = memchr::memchr2(b'"', b'\\', &bytes[at..]);
    found.map_or(bytes.len(), |found| at + found)
}

/// The next quote, backslash or control character.
pub(super) fn strict_text_stop(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(word) = word(bytes, at) {
        let marks = equal(word, b'"') | equal(word, b'\\') | below(word, 0x20);
        if marks != 0 {
            return at + first(marks);
        }
        at += 8;
    }
    one_by_one(bytes, at, |b| matches!(b, b'"' | b'\\' | 0..0x20))
}

/// The next quote or bracket; it may stop too early, at `Y`, `_`, `y` or DEL, which share the bits
/// of the brackets and are no part of JSON outside strings.
pub(super) fn structure(bytes: &[u8], at: usize) -> usize {
    const BRACKETS: u64 = LOW * 0x26;
    let mut at = at;
    while let Some(word) = word(bytes, at) {
        let marks = equal(word | BRACKETS, 0x7f) | equal(word, b'"');
        if marks != 0 {
            return at + first(marks);
        }
        at += 8;
    }
    one_by_one(bytes, at, |b| b | 0x26 == 0x7f || b == b'"')
}

/// The next byte that is not white space.
pub(super) fn solid(bytes: &[u8], at: usize) -> usize {
    one_by_one(bytes, at, |b| !super::is_space(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_offset_is_judged_as_one_by_one() {
        type Find = fn(&[u8], usize) -> usize;
        type Wanted = fn(u8) -> bool;
        let pairs: [(Find, Wanted); 3] = [
            (text_stop, |b| matches!(b, b'"' | b'\\')),
            (strict_text_stop, |b| matches!(b, b'"' | b'\\' | 0..0x20)),
            (structure, |b| matches!(b, b'"' | b'[' | b']' | b'{' | b'}')),
        ];
        for (find, wanted) in pairs {
            for byte in 0..=255_u8 {
                for place in [0, 1, 7, 8, 15, 31, 32, 40, 49] {
                    for fill in [b'a', 0x80, 0xff] {
                        let mut bytes = [fill; 50];
                        bytes[place] = byte;
                        let expected = if wanted(byte) { place } else { 50 };
                        let early = b"Y_y\x7f".contains(&byte);
                        let found = find(&bytes, 0);
                        assert!(found == expected || early, "{byte:#x} at {place}: {found}");
                        assert_eq!(find(&bytes, place + 1), 50, "nothing after {place}");
                    }
                }
            }
        }
    }
}

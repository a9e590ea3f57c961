//! Finds the next byte that matters, 16 bytes at a time: mostly it is so near that asking for longer
//! vectors would take longer than to look.
//!
//! Each function returns the first index at or after `at` whose byte it looks for, or the length of
//! `bytes`.

use fearless_simd::{Level, Simd, dispatch, mask8x16, prelude::*, u8x16};

const VECTOR_BYTES: usize = 16;
/// Vectors looked at before a long string is handed to memchr, whose vectors are longer where the
/// processor has such.
const VECTORS_BEFORE_MEMCHR: usize = 8;

/// Says which bytes of a vector are wanted.
trait Wanted: Copy {
    fn of<S: Simd>(self, bytes: u8x16<S>) -> mask8x16<S>;
}

#[derive(Clone, Copy)]
struct TextStop;

impl Wanted for TextStop {
    #[inline]
    fn of<S: Simd>(self, bytes: u8x16<S>) -> mask8x16<S> {
        bytes.simd_eq(b'"') | bytes.simd_eq(b'\\')
    }
}

#[derive(Clone, Copy)]
struct StrictTextStop;

impl Wanted for StrictTextStop {
    #[inline]
    fn of<S: Simd>(self, bytes: u8x16<S>) -> mask8x16<S> {
        TextStop.of(bytes) | bytes.simd_lt(b' ')
    }
}

#[derive(Clone, Copy)]
struct Structure;

impl Wanted for Structure {
    #[inline]
    fn of<S: Simd>(self, bytes: u8x16<S>) -> mask8x16<S> {
        (bytes | 0x26).simd_eq(0x7f) | bytes.simd_eq(b'"')
    }
}

/// The bytes that are wanted, a bit for each, the first lowest.
#[inline]
fn marks(bytes: [u8; VECTOR_BYTES], wanted: impl Wanted) -> u32 {
    dispatch!(Level::baseline(), simd => wanted.of(bytes.simd_into(simd)).to_bitmask() as u32)
}

/// Looks at whole vectors, at most `most` of them; `Err`: nothing in the bytes before that index.
#[inline]
fn vectors(bytes: &[u8], at: usize, most: usize, wanted: impl Wanted) -> Result<usize, usize> {
    let mut at = at;
    for _ in 0..most {
        let Some(vector) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let marks = marks(*vector, wanted);
        if marks != 0 {
            return Ok(at + marks.trailing_zeros() as usize);
        }
        at += VECTOR_BYTES;
    }
    Err(at)
}

/// Looks at the bytes from `at` on where they are less than a vector.
#[inline]
fn last(bytes: &[u8], at: usize, wanted: impl Wanted) -> usize {
    let Some(rest) = bytes.get(at..) else {
        return bytes.len();
    };
    let mut padded = [0; VECTOR_BYTES];
    padded[..rest.len()].copy_from_slice(rest);
    let outside = u32::MAX << rest.len();
    let marks = marks(padded, wanted) | outside;
    at + marks.trailing_zeros() as usize
}

fn one_by_one(bytes: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let found = bytes[at..].iter().position(|byte| wanted(*byte));
    found.map_or(bytes.len(), |found| at + found)
}

/// The next quote or backslash: where a string ends or an escape starts.
pub(super) fn text_stop(bytes: &[u8], at: usize) -> usize {
    match vectors(bytes, at, VECTORS_BEFORE_MEMCHR, TextStop) {
        Ok(found) => found,
        Err(at) if at + VECTOR_BYTES > bytes.len() => last(bytes, at, TextStop),
        Err(at) => {
            let found = memchr::memchr2(b'"', b'\\', &bytes[at..]);
            found.map_or(bytes.len(), |found| at + found)
        }
    }
}

/// The next quote, backslash or control character.
pub(super) fn strict_text_stop(bytes: &[u8], at: usize) -> usize {
    let wanted = StrictTextStop;
    vectors(bytes, at, usize::MAX, wanted).unwrap_or_else(|at| last(bytes, at, wanted))
}

/// The next quote or bracket; it may stop too early, at `Y`, `_`, `y` or DEL, which share the bits
/// of the brackets and are no part of JSON outside strings.
pub(super) fn structure(bytes: &[u8], at: usize) -> usize {
    let wanted = Structure;
    vectors(bytes, at, usize::MAX, wanted).unwrap_or_else(|at| last(bytes, at, wanted))
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
                for place in [0, 1, 7, 8, 15, 16, 31, 32, 40, 47, 48, 49] {
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

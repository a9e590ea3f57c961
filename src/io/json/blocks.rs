//! What is where in blocks of 64 bytes of JSON, found with the vectors that this machine has.
//!
//! A program is built for the oldest machine that it shall run on: on x86-64 with vectors of 16 bytes.
//! Most have 32, many 64, and only asking the machine tells: `fearless_simd` asks, and has each function
//! here, which says `inline(always)` for that, for whatever there is.

use fearless_simd::{Simd, prelude::*, u8x64};

/// Bytes of a block.
pub(super) const BYTES: usize = 64;
/// Blocks that are looked at together.
pub(super) const AHEAD: usize = 16;
/// Places that are written for a block even if it has fewer: less work than asking how many there are.
pub(super) const FEW: usize = 4;

/// The bits in which the four brackets differ. With all of them set each is [`BRACKET`], and so are `Y`,
/// `_`, `y` and DEL.
const BRACKET_BITS: u8 = 0x26;
const BRACKET: u8 = b'{' | BRACKET_BITS;

/// A bit for each byte of a block, the first byte lowest.
pub(super) type Bits = u64;

/// Which bytes of some blocks are what, block by block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// `"`.
    pub(super) quotes: [Bits; AHEAD],
    /// Each bit is the XOR of itself and all lower ones of `quotes`: from an opening quote up to before
    /// the closing one, if no quote is escaped and the block starts outside of a string.
    pub(super) strings: [Bits; AHEAD],
    /// `\`.
    pub(super) backslashes: [Bits; AHEAD],
    /// `[`, `]`, `{` and `}`, and `Y`, `_`, `y` and DEL, which share their bits.
    pub(super) brackets: [Bits; AHEAD],
    /// `:`.
    pub(super) colons: [Bits; AHEAD],
    /// The byte that was asked for.
    pub(super) tails: [Bits; AHEAD],
}

impl Found {
    /// Looks at `blocks`, of which there are [`AHEAD`] at most; `tail` is the byte whose places are wanted
    /// too. What is behind them is of no meaning.
    #[expect(clippy::inline_always, reason = "inlined, it is built for the machine")]
    #[inline(always)]
    pub(super) fn look<S: Simd>(&mut self, simd: S, blocks: &[[u8; BYTES]], tail: u8) {
        debug_assert!(blocks.len() <= AHEAD);
        for (at, block) in blocks.iter().take(AHEAD).enumerate() {
            let bytes: u8x64<S> = (*block).simd_into(simd);
            let each = |byte: u8| bytes.simd_eq(byte).to_bitmask();
            self.quotes[at] = each(b'"');
            self.backslashes[at] = each(b'\\');
            self.brackets[at] = (bytes | BRACKET_BITS).simd_eq(BRACKET).to_bitmask();
            self.colons[at] = each(b':');
            self.tails[at] = each(tail);
        }
        // All of them: a number that is known is unrolled.
        self.strings = self.quotes;
        for step in [1, 2, 4, 8, 16, 32] {
            for strings in &mut self.strings {
                *strings ^= *strings << step;
            }
        }
    }
}

/// Each bit becomes the XOR of itself and all the lower ones.
pub(super) fn prefix_xor(bits: Bits) -> Bits {
    let steps = [1, 2, 4, 8, 16, 32];
    steps.iter().fold(bits, |bits, step| bits ^ bits << step)
}

/// Writes where the bits of `blocks` are, ascending: `start` for the lowest of the first. Returns how many
/// there are; what `places` has behind them is overwritten.
///
/// # Panics
/// When `places` is shorter than they are and [`FEW`].
#[expect(clippy::inline_always, reason = "inlined, it is built for the machine")]
#[inline(always)]
pub(super) fn write(blocks: &[Bits], start: u32, places: &mut [u32]) -> usize {
    let mut len = 0;
    for (at, &bits) in (start..).step_by(BYTES).zip(blocks) {
        let count = bits.count_ones() as usize;
        let mut bits = bits;
        for place in &mut places[len..len + FEW] {
            *place = at.wrapping_add(bits.trailing_zeros());
            bits &= bits.wrapping_sub(1);
        }
        if count > FEW {
            for place in &mut places[len + FEW..len + count] {
                *place = at.wrapping_add(bits.trailing_zeros());
                bits &= bits.wrapping_sub(1);
            }
        }
        len += count;
    }
    len
}

#[cfg(test)]
mod tests {
    use std::array;

    use fearless_simd::{Level, dispatch};

    use super::*;

    /// Every set of instructions that this machine has.
    fn levels() -> Vec<Level> {
        let best = Level::new();
        let mut levels = vec![best, Level::baseline()];
        #[cfg(target_arch = "x86_64")]
        levels.extend(
            [
                best.as_sse2().map(Level::Sse2),
                best.as_sse4_2().map(Level::Sse4_2),
                best.as_avx2().map(Level::Avx2),
            ]
            .into_iter()
            .flatten(),
        );
        levels
    }

    /// What there is in a block, a byte at a time.
    fn one_by_one(found: &mut Found, at: usize, block: &[u8; BYTES], tail: u8) {
        let mut inside = false;
        for (place, &byte) in block.iter().enumerate() {
            let bit = |is: bool| Bits::from(is) << place;
            inside ^= byte == b'"';
            found.quotes[at] |= bit(byte == b'"');
            found.strings[at] |= bit(inside);
            found.backslashes[at] |= bit(byte == b'\\');
            found.brackets[at] |= bit(b"[]{}Yy_\x7f".contains(&byte));
            found.colons[at] |= bit(byte == b':');
            found.tails[at] |= bit(byte == tail);
        }
    }

    /// Numbers below `end`, the same each time.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut seed = 1_u64;
        move |end| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % end
        }
    }

    #[test]
    fn all_vectors_find_in_any_bytes_what_one_byte_at_a_time_does() {
        let mut below = numbers();
        let any: Vec<u8> = (0..=255).collect();
        let alphabets: [&[u8]; 3] = [&any, b"\"\\{}[]:,a", b"aaaaaaaaaaaaaaaaa\":"];
        for round in 0..10_000 {
            let alphabet = alphabets[round % 3];
            let mut block = || array::from_fn(|_| alphabet[below(alphabet.len())]);
            let blocks: [[u8; BYTES]; 3] = [block(), block(), block()];
            let tail = alphabet[below(alphabet.len())];
            // At every alignment.
            let shift = below(BYTES);
            let bytes = [vec![0; shift], blocks.concat()].concat();
            let (shifted, _) = bytes[shift..].as_chunks();
            let mut expected = Found::default();
            for (at, block) in blocks.iter().enumerate() {
                one_by_one(&mut expected, at, block, tail);
            }
            for level in levels() {
                let mut found = Found::default();
                dispatch!(level, simd => found.look(simd, shifted, tail));
                assert_eq!(found, expected, "{level:?}: {blocks:?}");
            }
        }
    }

    #[test]
    fn bits_are_written_as_places_and_nothing_is_left_out() {
        let mut below = numbers();
        for round in 0..20_000 {
            let mut bits = || {
                let any = (0..64).fold(0, |bits, _| bits << 1 | u64::from(below(4) == 0));
                // None, some, half of all, all.
                [0, any & any << 3, !any, u64::MAX][(below(8) / 2).min(round % 4)]
            };
            let blocks = [bits(), bits(), bits()];
            let bit = |place: u32| blocks[place as usize / BYTES] >> (place as usize % BYTES) & 1;
            let expected: Vec<u32> = (0..3 * BYTES as u32)
                .filter(|place| bit(*place) == 1)
                .collect();
            let start = below(1 << 20) as u32;
            for level in levels() {
                let mut places = [0; 3 * BYTES + FEW];
                let len = dispatch!(level, _simd => write(&blocks, start, &mut places));
                let places = places[..len].iter().map(|place| place - start);
                assert!(places.eq(expected.iter().copied()), "{level:?}: {blocks:?}");
            }
        }
    }
}

//! What is where in 64 bytes of JSON, found with the widest vectors that this machine has.
//!
//! A program is built for the oldest machine that it shall run on: on x86-64 with vectors of 16 bytes.
//! Most have 32, many 64, and only asking the machine tells. This crate asks, and has the code for
//! both. It depends on nothing and keeps no state; all unsafe code that reading JSON needs is here.
//!
//! Safety: two things here are unsafe, and nothing else.
//!
//! * A function is called that uses instructions which a machine may lack. [`Vectors`] is only made
//!   after the machine was asked whether it has them all, and cannot be made outside of this crate.
//! * A vector is loaded through a pointer. It points to an array of just its size, and the instruction
//!   asks for no alignment.

#![cfg_attr(not(target_arch = "x86_64"), forbid(unsafe_code))]

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes of a block.
pub const BYTES: usize = 64;

/// Which bytes of a block are what: a bit for each, that of the first byte lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// `"`.
    pub quotes: u64,
    /// Each bit is the XOR of itself and all lower ones of `quotes`: from an opening quote up to before
    /// the closing one, if no quote is escaped and the block starts outside of a string.
    pub strings: u64,
    /// `\`.
    pub backslashes: u64,
    /// `[`, `]`, `{` and `}`, and `Y`, `_`, `y` and DEL, which share their bits.
    pub brackets: u64,
    /// `:`.
    pub colons: u64,
    /// The byte that was asked for.
    pub tails: u64,
}

/// A set of instructions that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Vectors {
    /// The widest that this machine has; `None`: it has none that this crate knows.
    #[must_use]
    pub fn widest() -> Option<Vectors> {
        Vectors::all().next_back()
    }

    /// All that this machine has, the widest last.
    pub fn all() -> impl DoubleEndedIterator<Item = Vectors> {
        #[cfg(target_arch = "x86_64")]
        let known = [
            (Set::Avx2, x86::has_avx2()),
            (Set::Avx512, x86::has_avx512()),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let known = [];
        let there = |(set, has): (Set, bool)| has.then_some(Vectors(set));
        known.into_iter().filter_map(there)
    }

    /// Looks at `blocks` and says of each, at its place in `found`, what is where; `tail` is the byte
    /// whose places are wanted too. What `found` has beyond `blocks` is left as it is.
    ///
    /// # Panics
    /// When `found` is shorter than `blocks`.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "see the safety argument of the crate")
    )]
    #[inline]
    pub fn find(self, blocks: &[[u8; BYTES]], tail: u8, found: &mut [Block]) {
        let found = &mut found[..blocks.len()];
        match self.0 {
            // SAFETY: where this set is, `has_avx2` was true.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { x86::find_avx2(blocks, tail, found) },
            // SAFETY: where this set is, `has_avx512` was true.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { x86::find_avx512(blocks, tail, found) },
        }
    }
}

impl Vectors {
    /// What [`write()`] does, with the instructions of this machine for single bits.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "see the safety argument of the crate")
    )]
    #[inline]
    pub fn write(self, blocks: &[u64], start: u32, places: &mut [u32]) -> usize {
        match self.0 {
            // SAFETY: where one of these sets is, `has_avx2` was true.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::Avx512 => unsafe { x86::write(blocks, start, places) },
        }
    }
}

/// Places that are written for a block even if it has fewer: less work than asking how many there are.
pub const FEW: usize = 4;

/// Writes where the bits of `blocks` are, ascending: `start` for the lowest of the first. Returns how many
/// there are; what `places` has behind them is overwritten.
///
/// # Panics
/// When `places` is shorter than they are and [`FEW`].
#[inline]
pub fn write(blocks: &[u64], start: u32, places: &mut [u32]) -> usize {
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
    use super::*;

    /// The same, a byte at a time.
    fn one_by_one(block: &[u8; BYTES], tail: u8) -> Block {
        let mut found = Block::default();
        let mut inside = false;
        for (at, &byte) in block.iter().enumerate() {
            let bit = |is: bool| u64::from(is) << at;
            inside ^= byte == b'"';
            found.quotes |= bit(byte == b'"');
            found.strings |= bit(inside);
            found.backslashes |= bit(byte == b'\\');
            found.brackets |= bit(b"[]{}Yy_\x7f".contains(&byte));
            found.colons |= bit(byte == b':');
            found.tails |= bit(byte == tail);
        }
        found
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
    fn every_set_of_vectors_finds_in_any_bytes_what_one_byte_at_a_time_does() {
        let mut below = numbers();
        let any: Vec<u8> = (0..=255).collect();
        let alphabets: [&[u8]; 3] = [&any, b"\"\\{}[]:,a", b"aaaaaaaaaaaaaaaaa\":"];
        for round in 0..30_000 {
            let alphabet = alphabets[round % 3];
            let mut block = || std::array::from_fn(|_| alphabet[below(alphabet.len())]);
            let blocks: [[u8; BYTES]; 3] = [block(), block(), block()];
            let tail = alphabet[below(alphabet.len())];
            // At every alignment.
            let shift = below(BYTES);
            let bytes = [vec![0; shift], blocks.concat()].concat();
            let (shifted, _) = bytes[shift..].as_chunks();
            let expected = blocks.map(|block| one_by_one(&block, tail));
            for vectors in Vectors::all() {
                let mut found = [Block::default(); 4];
                vectors.find(shifted, tail, &mut found);
                assert_eq!(found[..3], expected, "{vectors:?}: {blocks:?}");
                assert_eq!(found[3], Block::default(), "{vectors:?}: beyond the blocks");
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
            let written = |write: &dyn Fn(&mut [u32]) -> usize| {
                let mut places = [0; 3 * BYTES + FEW];
                let len = write(&mut places);
                places[..len]
                    .iter()
                    .map(|place| place - start)
                    .collect::<Vec<_>>()
            };
            assert_eq!(written(&|places| write(&blocks, start, places)), expected);
            for vectors in Vectors::all() {
                let places = written(&|places| vectors.write(&blocks, start, places));
                assert_eq!(places, expected, "{vectors:?}: {blocks:?}");
            }
        }
    }

    #[test]
    fn the_widest_is_one_of_all() {
        assert_eq!(Vectors::widest(), Vectors::all().last());
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn fewer_places_than_blocks_are_refused() {
        // Where there are no vectors there is nothing that could be wrong.
        let vectors = Vectors::widest().expect("out of range");
        vectors.find(&[[0; BYTES]; 2], 0, &mut [Block::default()]);
    }
}

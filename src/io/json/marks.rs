//! Finds what gives JSON its structure, 64 bytes at a time in vectors: where strings are, and the
//! brackets and colons outside of them.
//!
//! The way is that of simdjson's first stage (Langdale and Lemire, "Parsing Gigabytes of JSON per
//! Second", 2019): a bit for each byte, and a prefix XOR over the quotes that are not escaped, which
//! sets the bits of strings. [`deltapoll_blocks`] has it for the widest vectors of this machine. Where it
//! has none, `find_in_16` does the same in vectors of 16 bytes, which every machine can do.

use std::sync::LazyLock;

use deltapoll_blocks::{BYTES as BLOCK_BYTES, Block, Vectors};
use wide::u8x16;

/// Blocks that are found together.
const AHEAD: usize = 16;

static WIDEST: LazyLock<Option<Vectors>> = LazyLock::new(Vectors::widest);

/// A bit for each byte of a block, the first byte lowest.
type Bits = u64;

/// What one block leaves to the next, in whatever parts the bytes arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carry {
    /// All bits: the next byte is within a string.
    inside: Bits,
    /// 1: the next byte is escaped.
    escaped: Bits,
}

impl Carry {
    /// Whether the bytes so far end within a string.
    pub(super) fn in_text(self) -> bool {
        self.inside != 0
    }

    /// The bytes that backslashes escape; leaves whether the first byte after `len` is one.
    fn escapes(&mut self, backslashes: Bits, len: usize) -> Bits {
        let mut escaped = self.escaped;
        let mut left = backslashes & !escaped;
        self.escaped = 0;
        while left != 0 {
            let first = left & left.wrapping_neg();
            escaped |= first << 1;
            self.escaped |= first >> (len - 1);
            left &= !(first | first << 1);
        }
        escaped
    }
}

/// Which colons are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colons {
    None,
    /// Those that may follow a name that ends with this byte and is written without escapes: right before
    /// the colon are this byte and a quote, or something else than a quote (there may be white space).
    Behind(u8),
    All,
}

/// The marks of some bytes, from one place on, in order.
///
/// Marks are brackets outside of strings, the colons there that are wanted, and backslashes there:
/// those are no JSON, and behind one of them it is not known what a string is. `Y`, `_`, `y` and DEL
/// outside of strings may be marked too: they share the bits of the brackets, and are no part of JSON
/// there. A colon that is not wanted may be marked.
pub(super) struct Marks<'b> {
    bytes: &'b [u8],
    colons: Colons,
    carry: Carry,
    /// What the last two bytes of the block before say about the first two of the next: whether the last
    /// one is a quote, and which of them are the tail. Kept for [`Colons::Behind`] only.
    last: (Bits, Bits),
    /// Blocks that were found ahead, from `at_ahead` on still to be looked at.
    ahead: [Block; AHEAD],
    at_ahead: usize,
    /// Of the block that was looked at last.
    start: usize,
    end: usize,
    marks: Bits,
    quotes: Bits,
    escapes: bool,
    /// Whether a block since [`Marks::forget_escapes`] has a backslash.
    escapes_seen: bool,
}

impl<'b> Marks<'b> {
    /// The marks of `bytes` from `at` on; `carry` is what the bytes before it leave.
    pub(super) fn new(bytes: &'b [u8], at: usize, carry: Carry, colons: Colons) -> Marks<'b> {
        Marks {
            bytes,
            colons,
            carry,
            last: (0, 0),
            ahead: [Block::default(); AHEAD],
            at_ahead: AHEAD,
            start: at,
            end: at,
            marks: 0,
            quotes: 0,
            escapes: false,
            escapes_seen: false,
        }
    }

    /// Some marks at or after `at`, in order: those of one block. Places must not go back from call to
    /// call. `None`: there are no more.
    #[inline]
    pub(super) fn some_from(&mut self, at: usize) -> Option<Places> {
        self.find(at, |block| block.marks)
    }

    /// The first quote at or after `at` that is not escaped, the same way.
    pub(super) fn quote_from(&mut self, at: usize) -> Option<usize> {
        self.find(at, |block| block.quotes)?.next()
    }

    /// Begins to watch for backslashes, in the block that was looked at last and those to come.
    pub(super) fn forget_escapes(&mut self) {
        self.escapes_seen = self.escapes;
    }

    /// Whether there may be a backslash in the bytes since; where there is one, it says so.
    pub(super) fn escapes_seen(&self) -> bool {
        self.escapes_seen
    }

    /// What all the bytes leave to those that come next.
    pub(super) fn finish(mut self) -> Carry {
        while self.end < self.bytes.len() {
            self.look();
        }
        self.carry
    }

    #[inline]
    fn find(&mut self, at: usize, of: impl Fn(&Self) -> Bits) -> Option<Places> {
        loop {
            if at < self.end {
                let passed = at.saturating_sub(self.start);
                let bits = of(self) >> passed << passed;
                if bits != 0 {
                    let start = self.start;
                    return Some(Places { start, bits });
                }
            }
            if self.end == self.bytes.len() {
                return None;
            }
            self.look();
        }
    }

    /// Looks at the next block; the last one may be shorter.
    #[inline]
    fn look(&mut self) {
        if self.at_ahead == AHEAD {
            self.find_ahead();
        }
        let block = self.ahead[self.at_ahead];
        self.at_ahead += 1;
        self.start = self.end;
        self.end = self.bytes.len().min(self.start + BLOCK_BYTES);
        self.see(block);
    }

    /// Finds the next whole blocks, as many as there is room for; where there is none left, the last,
    /// shorter one, padded. Out of line: every sixteenth block needs it.
    #[inline(never)]
    fn find_ahead(&mut self) {
        let rest = &self.bytes[self.end..];
        let (blocks, short) = rest.as_chunks();
        let mut last = [0; BLOCK_BYTES];
        let blocks = match blocks.len() {
            0 => {
                last[..short.len()].copy_from_slice(short);
                &[last]
            }
            len => &blocks[..len.min(AHEAD)],
        };
        // The last places are filled: `look` only has to know one end.
        self.at_ahead = AHEAD - blocks.len();
        let found = &mut self.ahead[self.at_ahead..];
        let tail = match self.colons {
            Colons::Behind(tail) => tail,
            Colons::None | Colons::All => 0,
        };
        match *WIDEST {
            Some(vectors) => vectors.find(blocks, tail, found),
            None => find_in_16(blocks, tail, found),
        }
    }

    #[inline]
    fn see(&mut self, block: Block) {
        let mut quotes = block.quotes;
        let mut strings = block.strings;
        let colons = match self.colons {
            Colons::None => 0,
            Colons::All => block.colons,
            Colons::Behind(_) => {
                let (last_quote, last_tails) = self.last;
                self.last = (block.quotes >> 63, block.tails >> 62);
                let quoted = block.quotes << 1 | last_quote;
                block.colons & (block.tails << 2 | last_tails | !quoted)
            }
        };
        let mut marks = block.brackets | colons;
        self.escapes = block.backslashes != 0;
        if self.escapes || self.carry.escaped != 0 {
            self.escapes_seen |= self.escapes;
            let len = self.end - self.start;
            quotes &= !self.carry.escapes(block.backslashes, len);
            strings = prefix_xor(quotes);
            marks |= block.backslashes;
        }
        let strings = strings ^ self.carry.inside;
        // What pads is within a string exactly if the end is.
        self.carry.inside = (strings.cast_signed() >> (BLOCK_BYTES - 1)).cast_unsigned();
        self.marks = marks & !strings;
        self.quotes = quotes;
    }
}

/// Places in the bytes, ascending.
pub(super) struct Places {
    start: usize,
    bits: Bits,
}

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let first = self.bits.trailing_zeros() as usize;
        let place = (self.bits != 0).then(|| self.start + first);
        self.bits &= self.bits.wrapping_sub(1);
        place
    }
}

/// What [`Vectors::find`] does, in vectors of 16 bytes.
fn find_in_16(blocks: &[[u8; BLOCK_BYTES]], tail: u8, found: &mut [Block]) {
    for (block, found) in blocks.iter().zip(found) {
        let (vectors, _) = block.as_chunks::<16>();
        let vectors: [u8x16; BLOCK_BYTES / 16] = std::array::from_fn(|at| u8x16::new(vectors[at]));
        let bits = |of: &dyn Fn(u8x16) -> u8x16| {
            let bits = |at: usize| Bits::from(of(vectors[at]).to_bitmask());
            bits(0) | bits(1) << 16 | bits(2) << 32 | bits(3) << 48
        };
        let each = |byte: u8| bits(&|bytes| bytes.simd_eq(u8x16::splat(byte)));
        let quotes = each(b'"');
        *found = Block {
            quotes,
            strings: prefix_xor(quotes),
            backslashes: each(b'\\'),
            brackets: bits(&|bytes| (bytes | u8x16::splat(0x26)).simd_eq(u8x16::splat(0x7f))),
            colons: each(b':'),
            tails: each(tail),
        };
    }
}

/// Each bit becomes the XOR of itself and all the lower ones.
fn prefix_xor(bits: Bits) -> Bits {
    let steps = [1, 2, 4, 8, 16, 32];
    steps.iter().fold(bits, |bits, step| bits ^ bits << step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, a byte at a time: marks, and quotes that are not escaped.
    fn one_by_one(bytes: &[u8]) -> (Vec<usize>, Vec<usize>) {
        let (mut marks, mut quotes) = (Vec::new(), Vec::new());
        let (mut inside, mut escaped) = (false, false);
        for (at, byte) in bytes.iter().enumerate() {
            let now = std::mem::take(&mut escaped);
            match byte {
                b'\\' if !inside => {
                    marks.push(at);
                    break;
                }
                b'\\' => escaped = !now,
                b'"' if !now => {
                    quotes.push(at);
                    inside = !inside;
                }
                b'[' | b']' | b'{' | b'}' | b':' | b'Y' | b'y' | b'_' | 0x7f if !inside => {
                    marks.push(at);
                }
                _ => {}
            }
        }
        (marks, quotes)
    }

    fn all(bytes: &[u8], parts: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let (mut marks, mut quotes) = (Vec::new(), Vec::new());
        let mut carry = Carry::default();
        let mut from = 0;
        for to in parts.iter().copied().chain([bytes.len()]) {
            let part = &bytes[..to];
            for (found, is_mark) in [(&mut marks, true), (&mut quotes, false)] {
                let mut seen = Marks::new(part, from, carry, Colons::All);
                let mut at = from;
                let mut next = |at| match is_mark {
                    true => seen.some_from(at)?.next(),
                    false => seen.quote_from(at),
                };
                while let Some(place) = next(at) {
                    found.push(place);
                    at = place + 1;
                }
            }
            carry = Marks::new(part, from, carry, Colons::All).finish();
            from = to;
        }
        (marks, quotes)
    }

    #[test]
    fn marks_in_blocks_are_those_found_one_by_one_however_the_bytes_arrive() {
        let mut seed = 1_u64;
        let mut below = |end: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % end
        };
        let alphabets: [&[u8]; 3] = [
            b"\"\\",
            b"a\"\\{}[]:,Y_y\x7f ",
            b"aaaaaaaaaaaaaaa\"\\\\\\{:",
        ];
        for round in 0..20_000 {
            let alphabet = alphabets[round % 3];
            // Now and then more than what is found together.
            let len = below(if round % 64 == 0 { 2_300 } else { 200 });
            // Within a string from the start, mostly: what is behind a stray backslash is not told.
            let first = if round % 8 == 0 { b'a' } else { b'"' };
            let rest = (0..len).map(|_| alphabet[below(alphabet.len())]);
            let bytes: Vec<u8> = [first].into_iter().chain(rest).collect();
            let mut parts = vec![below(bytes.len() + 1), below(bytes.len() + 1)];
            parts.sort_unstable();
            let (marks, quotes) = one_by_one(&bytes);
            let text = String::from_utf8_lossy(&bytes);
            let sure = |places: &[usize], all: &[usize]| {
                let stray = places.len().min(all.len());
                assert_eq!(places, &all[..stray], "{text} in {parts:?}");
            };
            let (found, found_quotes) = all(&bytes, &parts);
            sure(&marks, &found);
            sure(&quotes, &found_quotes);
            if marks.last().is_none_or(|at| bytes[*at] != b'\\') {
                assert_eq!(
                    (found, found_quotes),
                    (marks, quotes),
                    "{text} in {parts:?}"
                );
            }
        }
    }

    #[test]
    fn backslashes_are_seen_in_the_block_that_has_them() {
        let bytes = [b"{".repeat(64), b"\"\\n\"{".to_vec()].concat();
        let mut marks = Marks::new(&bytes, 0, Carry::default(), Colons::None);
        let first = |marks: &mut Marks<'_>, at| marks.some_from(at)?.next();
        assert_eq!(first(&mut marks, 0), Some(0));
        marks.forget_escapes();
        assert_eq!(first(&mut marks, 63), Some(63));
        assert!(!marks.escapes_seen());
        assert_eq!(first(&mut marks, 64), Some(68));
        assert!(marks.escapes_seen());
        marks.forget_escapes();
        assert!(marks.escapes_seen(), "of the same block");
    }

    #[test]
    fn blocks_are_found_alike_with_and_without_wide_vectors() {
        let Some(vectors) = *WIDEST else { return };
        let mut seed = 7_u64;
        let mut byte = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as u8
        };
        for round in 0..2_000 {
            let mut block = || {
                std::array::from_fn(|_| match round % 2 {
                    0 => byte(),
                    _ => b"\"\\{}[]:,"[usize::from(byte()) % 8],
                })
            };
            let blocks: [[u8; BLOCK_BYTES]; 2] = [block(), block()];
            let tail = blocks[0][0];
            let mut found = [[Block::default(); 2]; 2];
            vectors.find(&blocks, tail, &mut found[0]);
            find_in_16(&blocks, tail, &mut found[1]);
            assert_eq!(found[0], found[1], "{blocks:?}");
        }
    }

    #[test]
    fn a_colon_is_marked_unless_a_quote_behind_another_byte_is_before_it() {
        let names: [(&[u8], bool); 6] = [
            (b"\"id\":", true),
            (b"\"id\" :", true),
            (b"\"lad\":", true),
            (b"\"do\":", false),
            (b"\"\":", false),
            (b"id:", true),
        ];
        for (name, marked) in names {
            for before in 0..2 * BLOCK_BYTES {
                let bytes = [&vec![b' '; before][..], name, &[b'1'; 70]].concat();
                let mut marks = Marks::new(&bytes, 0, Carry::default(), Colons::Behind(b'd'));
                let first = marks.some_from(0).and_then(|mut places| places.next());
                let colon = before + name.len() - 1;
                let text = String::from_utf8_lossy(name);
                assert_eq!(first, marked.then_some(colon), "{text} after {before}");
            }
        }
    }
}

//! Finds what gives JSON its structure, 64 bytes at a time in vectors: where strings are, and the
//! brackets and colons outside of them.
//!
//! The way is that of simdjson's first stage (Langdale and Lemire, "Parsing Gigabytes of JSON per
//! Second", 2019): a bit for each byte, and a prefix XOR over the quotes that are not escaped, which
//! sets the bits of strings. [`deltapoll_blocks`] has it for the widest vectors of this machine. Where it
//! has none, `find_in_16` does the same in vectors of 16 bytes, which every machine can do.

use std::sync::LazyLock;

use deltapoll_blocks::{BYTES as BLOCK_BYTES, Block, FEW, Vectors};
use wide::u8x16;

/// Blocks that are looked at together.
const AHEAD: usize = 16;
const ESCAPES: u32 = (1 << AHEAD) - 1;
/// Every byte of the blocks may be one.
const PLACES: usize = AHEAD * BLOCK_BYTES + FEW;

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
///
/// They are written down for some blocks at once, without asking how many a block has: whoever goes
/// through them then meets the same sequence for each entry, wherever in a block it starts, which is what
/// a processor foresees.
pub(super) struct Marks<'b> {
    bytes: &'b [u8],
    /// Of the blocks that were looked at last; places from `next` to `len` are still to be told.
    room: &'b mut Room,
    colons: Colons,
    before: Before,
    next: usize,
    len: usize,
    /// Where these blocks start and end, and a bit for each of them that has a backslash, the first lowest.
    start: usize,
    end: usize,
    escapes: u32,
    /// Since where backslashes are watched for, and whether a block before these had one.
    watched: usize,
    escapes_seen: bool,
}

/// What the blocks so far leave to the next.
#[derive(Clone, Copy)]
struct Before {
    carry: Carry,
    /// What the last two bytes say about the next two: whether the last one is a quote, and which of them
    /// are the tail. Kept for [`Colons::Behind`] only.
    last: (Bits, Bits),
}

impl Before {
    /// The marks of the next block, of which `len` bytes count.
    #[inline]
    fn see(&mut self, block: &Block, len: usize, wanted: Colons) -> Bits {
        let mut strings = block.strings;
        let colons = match wanted {
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
        if block.backslashes != 0 || self.carry.escaped != 0 {
            let quotes = block.quotes & !self.carry.escapes(block.backslashes, len);
            strings = prefix_xor(quotes);
            marks |= block.backslashes;
        }
        let strings = strings ^ self.carry.inside;
        // What pads is within a string exactly if the end is.
        self.carry.inside = (strings.cast_signed() >> (BLOCK_BYTES - 1)).cast_unsigned();
        marks & !strings
    }
}

/// Where [`Marks`] write down what they find: used again for the next part of the bytes.
pub(super) struct Room {
    ahead: [Block; AHEAD],
    places: [u32; PLACES],
}

impl Room {
    pub(super) fn new() -> Box<Room> {
        Box::new(Room {
            ahead: [Block::default(); AHEAD],
            places: [0; PLACES],
        })
    }
}

impl<'b> Marks<'b> {
    /// The marks of `bytes` from `at` on; `carry` is what the bytes before it leave. Where colons are wanted
    /// that a name may be before, all of the name has to be in `bytes`.
    pub(super) fn new(
        bytes: &'b [u8],
        at: usize,
        carry: Carry,
        colons: Colons,
        room: &'b mut Room,
    ) -> Marks<'b> {
        debug_assert!(u32::try_from(bytes.len()).is_ok());
        let is = |back: usize, byte: u8| {
            let place = at.checked_sub(back);
            Bits::from(place.is_some_and(|place| bytes[place] == byte))
        };
        let last = match colons {
            Colons::Behind(tail) => (is(1, b'"'), is(2, tail) | is(1, tail) << 1),
            Colons::None | Colons::All => (0, 0),
        };
        Marks {
            bytes,
            room,
            colons,
            before: Before { carry, last },
            next: 0,
            len: 0,
            start: at,
            end: at,
            escapes: 0,
            watched: at,
            escapes_seen: false,
        }
    }

    /// The first mark at or after `at` that was not told yet. Places must not go back from call to call.
    #[inline]
    pub(super) fn next_from(&mut self, at: usize) -> Option<usize> {
        loop {
            while self.next < self.len {
                let place = self.room.places[self.next] as usize;
                self.next += 1;
                if place >= at {
                    return Some(place);
                }
            }
            if self.end == self.bytes.len() {
                return None;
            }
            self.look();
        }
    }

    /// Begins to watch for backslashes, from `at` on.
    #[inline]
    pub(super) fn watch_escapes(&mut self, at: usize) {
        self.watched = at;
        self.escapes_seen = false;
    }

    /// Whether there may be a backslash between there and `end`, which was looked at; where there is one,
    /// it says so.
    #[inline]
    pub(super) fn escapes_seen(&self, end: usize) -> bool {
        self.escapes_seen || (self.escapes != 0 && self.escapes_until(end))
    }

    fn escapes_until(&self, end: usize) -> bool {
        let block = |place: usize| (place.saturating_sub(self.start) / BLOCK_BYTES).min(AHEAD);
        let from_there = self.escapes >> block(self.watched) << block(self.watched);
        let last = block(end.saturating_sub(1)).min(AHEAD - 1);
        end > self.start && from_there << (AHEAD - 1 - last) & ESCAPES != 0
    }

    /// What all the bytes leave to those that come next.
    pub(super) fn finish(mut self) -> Carry {
        while self.end < self.bytes.len() {
            self.look();
        }
        self.before.carry
    }

    /// Looks at the next blocks: as many whole ones as there is room for; where there is none left, the
    /// last, shorter one, padded.
    #[inline(never)]
    fn look(&mut self) {
        self.escapes_seen |= self.escapes_seen(self.end);
        let rest = &self.bytes[self.end..];
        let (blocks, short) = rest.as_chunks();
        let mut last = [0; BLOCK_BYTES];
        let (blocks, bytes) = match blocks.len() {
            0 => {
                last[..short.len()].copy_from_slice(short);
                (&[last][..], short.len())
            }
            len => {
                let blocks = &blocks[..len.min(AHEAD)];
                (blocks, size_of_val(blocks))
            }
        };
        let tail = match self.colons {
            Colons::Behind(tail) => tail,
            Colons::None | Colons::All => 0,
        };
        let found = &mut self.room.ahead[..blocks.len()];
        match *WIDEST {
            Some(vectors) => vectors.find(blocks, tail, found),
            None => find_in_16(blocks, tail, found),
        }
        self.start = self.end;
        self.end += bytes;
        self.next = 0;
        let mut marks = [0; AHEAD];
        let marks = &mut marks[..blocks.len()];
        // In registers while it goes from block to block.
        let (mut before, mut escapes) = (self.before, 0);
        for (at, (block, marks)) in found.iter().zip(&mut *marks).enumerate() {
            escapes |= u32::from(block.backslashes != 0) << at;
            *marks = before.see(block, bytes.min(BLOCK_BYTES), self.colons);
        }
        (self.before, self.escapes) = (before, escapes);
        let start = self.start as u32;
        self.len = match *WIDEST {
            Some(vectors) => vectors.write(marks, start, &mut self.room.places),
            None => deltapoll_blocks::write(marks, start, &mut self.room.places),
        };
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

    /// The same, a byte at a time.
    fn one_by_one(bytes: &[u8]) -> Vec<usize> {
        let mut marks = Vec::new();
        let (mut inside, mut escaped) = (false, false);
        for (at, byte) in bytes.iter().enumerate() {
            let now = std::mem::take(&mut escaped);
            match byte {
                b'\\' if !inside => {
                    marks.push(at);
                    break;
                }
                b'\\' => escaped = !now,
                b'"' if !now => inside = !inside,
                b'[' | b']' | b'{' | b'}' | b':' | b'Y' | b'y' | b'_' | 0x7f if !inside => {
                    marks.push(at);
                }
                _ => {}
            }
        }
        marks
    }

    fn all(bytes: &[u8], parts: &[usize]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut carry = Carry::default();
        let mut room = Room::new();
        let mut from = 0;
        for to in parts.iter().copied().chain([bytes.len()]) {
            let mut marks = Marks::new(&bytes[..to], from, carry, Colons::All, &mut room);
            let mut at = from;
            while let Some(place) = marks.next_from(at) {
                found.push(place);
                at = place + 1;
            }
            carry = marks.finish();
            from = to;
        }
        found
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = next.wrapping_add(1);
            (self.0 >> 33) as usize % end
        }
    }

    #[test]
    fn marks_in_blocks_are_those_found_one_by_one_however_the_bytes_arrive() {
        let mut random = Random(1);
        let alphabets: [&[u8]; 3] = [
            b"\"\\",
            b"a\"\\{}[]:,Y_y\x7f ",
            b"aaaaaaaaaaaaaaa\"\\\\\\{:",
        ];
        for round in 0..20_000 {
            let alphabet = alphabets[round % 3];
            // Now and then more than what is looked at together.
            let len = random.below(if round % 64 == 0 { 2_300 } else { 200 });
            // Within a string from the start, mostly: what is behind a stray backslash is not told.
            let first = if round % 8 == 0 { b'a' } else { b'"' };
            let rest = (0..len).map(|_| alphabet[random.below(alphabet.len())]);
            let bytes: Vec<u8> = [first].into_iter().chain(rest).collect();
            let mut parts = vec![random.below(len + 2), random.below(len + 2)];
            parts.sort_unstable();
            let marks = one_by_one(&bytes);
            let found = all(&bytes, &parts);
            let text = String::from_utf8_lossy(&bytes);
            let sure = marks.len().min(found.len());
            assert_eq!(&found[..sure], &marks[..sure], "{text} in {parts:?}");
            if marks.last().is_none_or(|at| bytes[*at] != b'\\') {
                assert_eq!(found, marks, "{text} in {parts:?}");
            }
        }
    }

    #[test]
    fn a_backslash_is_seen_by_whoever_has_it_and_by_who_shares_its_block() {
        let mut random = Random(3);
        for _ in 0..5_000 {
            let len = 1 + random.below(4_000);
            // In one string: else it would not be known what is behind a backslash.
            let mut bytes = vec![b'a'; len];
            bytes[0] = b'"';
            let escapes = 1 + random.below(len.max(2) - 1);
            bytes[escapes.min(len - 1)] = b'\\';
            let mut room = Room::new();
            let mut marks = Marks::new(&bytes, 0, Carry::default(), Colons::None, &mut room);
            let (mut from, mut seen) = (0, Vec::new());
            while from < len {
                let to = len.min(from + 1 + random.below(1_500));
                marks.watch_escapes(from);
                // Nothing is marked: it looks as far as it has to, or further.
                while marks.end < to {
                    marks.look();
                }
                let told = marks.escapes_seen(to);
                let has = |from: usize, to: usize| bytes[from..to].contains(&b'\\');
                let block = |place: usize| place / BLOCK_BYTES * BLOCK_BYTES;
                let near = has(block(from), len.min(block(to - 1) + BLOCK_BYTES));
                assert!(!has(from, to) || told, "{from}..{to} of {len}");
                assert!(!told || near, "{from}..{to} of {len}");
                seen.push(told);
                from = to;
            }
            assert!(seen.contains(&true));
        }
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
                let mut room = Room::new();
                let colons = Colons::Behind(b'd');
                let mut marks = Marks::new(&bytes, 0, Carry::default(), colons, &mut room);
                let first = marks.next_from(0);
                let colon = before + name.len() - 1;
                let text = String::from_utf8_lossy(name);
                assert_eq!(first, marked.then_some(colon), "{text} after {before}");
            }
        }
    }
}

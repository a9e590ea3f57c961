//! Finds what gives JSON its structure, 64 bytes at a time in vectors: where strings are, and the
//! brackets and colons outside of them.
//!
//! The way is that of simdjson's first stage (Langdale and Lemire, "Parsing Gigabytes of JSON per
//! Second", 2019): a bit for each byte, and a prefix XOR over the quotes that are not escaped, which
//! sets the bits of strings. It is done in the widest vectors of this machine (`blocks`).

use fearless_simd::{Level, Simd, dispatch};

use super::blocks::{self, AHEAD, BYTES as BLOCK_BYTES, Bits, FEW, Found, prefix_xor};

const ESCAPES: u32 = (1 << AHEAD) - 1;
/// Every byte of the blocks may be one.
const PLACES: usize = AHEAD * BLOCK_BYTES + FEW;

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
    /// The marks of the next block, which is at `at` and of which `len` bytes count.
    #[expect(clippy::inline_always, reason = "inlined, it is built for the machine")]
    #[inline(always)]
    fn see(&mut self, found: &Found, at: usize, len: usize, wanted: Colons) -> Bits {
        let (quotes, tails) = (found.quotes[at], found.tails[at]);
        let (backslashes, mut strings) = (found.backslashes[at], found.strings[at]);
        let colons = match wanted {
            Colons::None => 0,
            Colons::All => found.colons[at],
            Colons::Behind(_) => {
                let (last_quote, last_tails) = self.last;
                self.last = (quotes >> 63, tails >> 62);
                let quoted = quotes << 1 | last_quote;
                found.colons[at] & (tails << 2 | last_tails | !quoted)
            }
        };
        let mut marks = found.brackets[at] | colons;
        if backslashes != 0 || self.carry.escaped != 0 {
            let quotes = quotes & !self.carry.escapes(backslashes, len);
            strings = prefix_xor(quotes);
            marks |= backslashes;
        }
        let strings = strings ^ self.carry.inside;
        // What pads is within a string exactly if the end is.
        self.carry.inside = (strings.cast_signed() >> (BLOCK_BYTES - 1)).cast_unsigned();
        marks & !strings
    }
}

/// Where [`Marks`] write down what they find: used again for the next part of the bytes.
pub(super) struct Room {
    ahead: Found,
    places: [u32; PLACES],
}

impl Room {
    pub(super) fn new() -> Box<Room> {
        Box::new(Room {
            ahead: Found::default(),
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
        self.start = self.end;
        self.end += bytes;
        dispatch!(Level::new(), simd => self.mark(simd, blocks, bytes.min(BLOCK_BYTES)));
    }

    /// Writes down the marks of `blocks`, of each of which `len` bytes count.
    #[expect(clippy::inline_always, reason = "inlined, it is built for the machine")]
    #[inline(always)]
    fn mark<S: Simd>(&mut self, simd: S, blocks: &[[u8; BLOCK_BYTES]], len: usize) {
        let tail = match self.colons {
            Colons::Behind(tail) => tail,
            Colons::None | Colons::All => 0,
        };
        let found = &mut self.room.ahead;
        found.look(simd, blocks, tail);
        let mut marks = [0; AHEAD];
        let marks = &mut marks[..blocks.len()];
        // In registers while it goes from block to block.
        let (mut before, mut escapes) = (self.before, 0);
        for (at, marks) in marks.iter_mut().enumerate() {
            escapes |= u32::from(found.backslashes[at] != 0) << at;
            *marks = before.see(found, at, len, self.colons);
        }
        (self.before, self.escapes) = (before, escapes);
        self.next = 0;
        self.len = blocks::write(marks, self.start as u32, &mut self.room.places);
    }
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

//! The entries of a piece and their keys, in one pass and without a tree; while a body arrives,
//! [`super::cutter`] finds both with what is here.
//!
//! Checked on every byte (R4): UTF-8, string ends, brackets, nesting, and that exactly one comma
//! stands between two entries. The grammar inside an entry is not; the key of an entry that is not
//! JSON is what its names and colons suggest.
//!
//! A key is a non-empty string or an integer (R33): the first of the pointers that is one. Of fields
//! with one name the last counts. Only an object has a key.

use std::ops::Range;

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

use super::escape::{self, Text};
use super::marks::{Carry, Colons, Marks, Room};
use super::pointer::Step;
use super::value::{Raw, cut_short, descend, members, scalar_key, string};
use super::{Fault, Malformed, Nest, Pointer, find, is_scalar, is_space, shown};

/// One entry of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it starts in the piece.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
    /// Its key: a string's text (escapes resolved) or an integer as it is written; UTF-8 if the piece is.
    pub key: Option<&'a [u8]>,
    /// Where in the entry the text of its key starts; `None`: it has none, or none without escapes.
    pub key_offset: Option<u32>,
    /// Its bytes as they arrived.
    pub bytes: &'a [u8],
}

/// What a piece held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Entries in all.
    pub entries: u64,
    /// Entries without a key.
    pub keyless: u64,
}

impl Counts {
    /// Adds those of another piece.
    pub fn add(&mut self, other: Counts) {
        self.entries += other.entries;
        self.keyless += other.keyless;
    }
}

/// Calls `entry` for each entry of `piece`, in order.
///
/// # Errors
/// When the piece is malformed; entries before the fault have been handed out by then.
pub fn scan(
    piece: &[u8],
    keys: &[Pointer],
    mut entry: impl FnMut(Entry<'_>),
) -> Result<Counts, Malformed> {
    if u32::try_from(piece.len()).is_err() {
        return Err(Malformed::new(0, "a piece of 4 GiB or more"));
    }
    check_utf8(piece)?;
    let mut finder = Finder::new(keys);
    let mut room = Room::new();
    let mut marks = Marks::new(piece, 0, Carry::default(), finder.colons, &mut room);
    let mut counts = Counts::default();
    let mut at = find::solid(piece, 0);
    while at < piece.len() {
        let start = at;
        let (end, escaped) = finder.entry(piece, start, &mut marks)?;
        let found = finder.found(piece, start..end, escaped)?;
        counts.entries += 1;
        counts.keyless += u64::from(found.key.is_none());
        entry(found);
        at = end;
        at = after_comma(piece, at)?;
    }
    Ok(counts)
}

/// Finds the keys of single entries that [`scan`] has accepted, without checking them again.
pub struct Keys<'k> {
    finder: Finder<'k>,
    room: Box<Room>,
}

impl<'k> Keys<'k> {
    /// The first of these pointers that is a key counts.
    #[must_use]
    pub fn new(keys: &'k [Pointer]) -> Keys<'k> {
        Keys {
            finder: Finder::new(keys),
            room: Room::new(),
        }
    }

    /// The key of an entry; `None`: it has none, or is no entry.
    pub fn of<'a>(&'a mut self, entry: &'a [u8]) -> Option<&'a [u8]> {
        if entry.is_empty() {
            return None;
        }
        let Keys { finder, room } = self;
        let mut marks = Marks::new(entry, 0, Carry::default(), finder.colons, room);
        let (end, escaped) = finder.entry(entry, 0, &mut marks).ok()?;
        finder.found(entry, 0..end, escaped).ok()?.key
    }
}

/// Whether it is UTF-8.
pub(super) fn check_utf8(piece: &[u8]) -> Result<(), Fault> {
    // The fast one does not say where.
    if simdutf8::basic::from_utf8(piece).is_err()
        && let Err(fault) = simdutf8::compat::from_utf8(piece)
        && !fail::broken("r04")
    {
        return Err((fault.valid_up_to(), "not UTF-8".into()));
    }
    Ok(())
}

/// The start of the next entry, or the end of the piece.
fn after_comma(piece: &[u8], at: usize) -> Result<usize, Malformed> {
    let at = find::solid(piece, at);
    match piece.get(at) {
        None => return Ok(at),
        Some(b',') => {}
        Some(byte) => {
            let what = format!("{} where ',' should be", shown(*byte));
            return Err(Malformed::new(at, what));
        }
    }
    let next = find::solid(piece, at + 1);
    if next == piece.len() {
        return Err(Malformed::new(at, "a comma without an entry"));
    }
    Ok(next)
}

/// Finds the values that the key pointers name.
pub(super) struct Finder<'k> {
    /// For each pointer its first step; the pointer to all of an entry names no key.
    members: Vec<Member<'k>>,
    /// The colons that a name of these may be before.
    colons: Colons,
    /// Text of an escaped name or key.
    text: Vec<u8>,
}

impl<'k> Finder<'k> {
    pub(super) fn new(keys: &'k [Pointer]) -> Finder<'k> {
        let pointers = keys.iter().filter_map(|key| key.steps().split_first());
        Finder {
            members: pointers.map(Member::new).collect(),
            colons: colons_of(keys),
            text: Vec::new(),
        }
    }

    /// The colons that have to be marked.
    pub(super) fn colons(&self) -> Colons {
        self.colons
    }

    /// Skips the entry at `at`, noting the values that keys may be in; returns the index after it, and
    /// whether it may have a backslash.
    fn entry(
        &mut self,
        piece: &[u8],
        at: usize,
        marks: &mut Marks<'_>,
    ) -> Result<(usize, bool), Malformed> {
        self.forget();
        marks.watch_escapes(at);
        let end = match piece[at] {
            byte @ (b'{' | b'[') => {
                let mut nest = Nest::default();
                self.nested(&mut nest, piece, at, marks, byte == b'{')?
            }
            b'"' => return Ok((string(piece, at).ok_or_else(|| cut_short(piece))?.1, false)),
            byte if is_scalar(byte) => {
                let rest = piece[at..].iter();
                Some(at + rest.take_while(|byte| is_scalar(**byte)).count())
            }
            byte => {
                let what = format!("{} where an entry should be", shown(byte));
                return Err(Malformed::new(at, what));
            }
        };
        let end = end.ok_or_else(|| cut_short(piece))?;
        Ok((end, marks.escapes_seen(end)))
    }

    /// Goes on at `at` within what `nest` is open for, noting the values that keys may be in if it is an
    /// object; returns the index after it, if it ends in these bytes.
    #[inline(always)]
    pub(super) fn nested(
        &mut self,
        nest: &mut Nest,
        piece: &[u8],
        at: usize,
        marks: &mut Marks<'_>,
        is_object: bool,
    ) -> Result<Option<usize>, Fault> {
        let mut at = at;
        while let Some(mark) = marks.next_from(at) {
            at = mark + 1;
            match piece[mark] {
                b':' if nest.depth == 1 && is_object => self.colon(piece, mark),
                b':' => {}
                byte => {
                    nest.see(byte).map_err(|what| (mark, what.into()))?;
                    if nest.depth == 0 {
                        return Ok(Some(at));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The entry that was skipped last, with its key; `escaped`: it, or one near it, may have a backslash.
    ///
    /// Inlined where it is called: else what it returns is written in small parts and read in large ones,
    /// which the processor has to wait for.
    #[inline(always)]
    pub(super) fn found<'a>(
        &'a mut self,
        piece: &'a [u8],
        entry: Range<usize>,
        escaped: bool,
    ) -> Result<Entry<'a>, Fault> {
        let Range { start, end } = entry;
        // What is found must not depend on what is near it.
        if escaped && piece[start] == b'{' && memchr::memchr(b'\\', &piece[start..end]).is_some() {
            self.members(&piece[..end], start)?;
        }
        let (key, key_at) = self.key(piece).unzip();
        Ok(Entry {
            offset: start as u32,
            len: (end - start) as u32,
            key,
            key_offset: key_at.flatten().map(|key| (key - start) as u32),
            bytes: &piece[start..end],
        })
    }

    /// Notes the value behind `colon`, if a pointer's name is before it.
    #[inline]
    fn colon(&mut self, piece: &[u8], colon: usize) {
        let mut before = &piece[..colon];
        while before.last().is_some_and(|byte| is_space(*byte)) {
            before = &before[..before.len() - 1];
        }
        let tail = tail(before);
        for member in &mut self.members {
            if member.is_named(before, tail) {
                member.value = colon + 1;
            }
        }
    }

    /// The same for all of an object whose names may be written with escapes.
    fn members(&mut self, piece: &[u8], at: usize) -> Result<usize, Fault> {
        self.forget();
        members(piece, at, |name, value| {
            for member in &mut self.members {
                if name.is(member.name, &mut self.text) {
                    member.value = value;
                }
            }
        })
    }

    /// Forgets what was noted of the entry before.
    pub(super) fn forget(&mut self) {
        for member in &mut self.members {
            member.value = 0;
        }
    }

    /// The key of the entry that was skipped last, and where it is if it has no escapes.
    #[inline]
    fn key<'a>(&'a mut self, piece: &'a [u8]) -> Option<(&'a [u8], Option<usize>)> {
        for member in self.members.iter().filter(|member| member.value != 0) {
            let value = find::solid(piece, member.value);
            let value = member.steps.iter().try_fold(value, |value, step| {
                descend(piece, value, step, &mut self.text)
            });
            let Some(value) = value else { continue };
            match scalar_key(piece, value) {
                Some(Raw::Plain(key)) => {
                    let quote = usize::from(piece[value] == b'"');
                    return Some((key, Some(value + quote)));
                }
                Some(Raw::Escaped(raw)) => {
                    self.text.clear();
                    if escape::unescape(raw, &mut self.text) == Ok(Text::Whole) {
                        return Some((&self.text, None));
                    }
                }
                None => {}
            }
        }
        None
    }
}

/// The member that a pointer's first step names; its name is mostly written without escapes.
struct Member<'k> {
    name: &'k str,
    /// The pointer's further steps.
    steps: &'k [Step],
    /// The last eight bytes of the name with its quotes as a number, whose bits in `mask` count.
    tail: u64,
    mask: u64,
    /// Where the member's value starts, or white space before it; 0 = not there (no value of a member
    /// starts at 0).
    value: usize,
}

impl<'k> Member<'k> {
    fn new((first, steps): (&'k Step, &'k [Step])) -> Member<'k> {
        let name = first.name.as_str();
        let quoted = || [b'"'].into_iter().chain(name.bytes()).chain([b'"']);
        Member {
            name,
            steps,
            tail: quoted().fold(0, shift_in),
            mask: quoted().map(|_| 0xff).fold(0, shift_in),
            value: 0,
        }
    }

    /// Whether bytes with this tail end with its name in quotes.
    #[inline]
    fn is_named(&self, bytes: &[u8], tail: u64) -> bool {
        let whole = self.name.len() + 2 <= size_of_val(&tail);
        (tail ^ self.tail) & self.mask == 0 && (whole || ends_with_name(bytes, self.name))
    }
}

/// The colons that the first names of `keys` may be before.
fn colons_of(keys: &[Pointer]) -> Colons {
    let names = keys.iter().filter_map(|key| key.steps().first());
    // An empty name's last byte is its opening quote.
    let mut tails = names.map(|step| step.name.as_bytes().last().copied().unwrap_or(b'"'));
    match tails.next() {
        None => Colons::None,
        Some(tail) if tails.all(|other| other == tail) => Colons::Behind(tail),
        Some(_) => Colons::All,
    }
}

/// Whether `bytes` end with `name` in quotes.
fn ends_with_name(bytes: &[u8], name: &str) -> bool {
    let before = bytes.strip_suffix(b"\"");
    let before = before.and_then(|bytes| bytes.strip_suffix(name.as_bytes()));
    before.is_some_and(|bytes| bytes.ends_with(b"\""))
}

fn shift_in(tail: u64, byte: u8) -> u64 {
    tail >> 8 | u64::from(byte) << 56
}

/// The last eight bytes as a number, the last one highest; what is missing is 0.
#[inline]
fn tail(bytes: &[u8]) -> u64 {
    match bytes.last_chunk() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => bytes.iter().copied().fold(0, shift_in),
    }
}

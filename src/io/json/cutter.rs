//! Finds the list of entries while a body arrives, cuts it into pieces at entry boundaries, and finds each
//! entry's key, in one pass.
//!
//! A piece holds whole entries, separated by single commas, with white space around them, and nothing
//! else: the pieces' entries, in order, are exactly the list's. What is checked on the way is what R4 asks
//! for: outside the list everything, inside it UTF-8, strings, brackets and commas. What a body of any
//! bytes costs is linear in time, and in memory one piece (or one entry with the white space before it, where
//! that is larger).

use bytes::Bytes;
use deltapoll_state::fail;

use super::envelope::Envelope;
use super::extract::{Entry, Finder, check_utf8};
use super::marks::{Carry, Marks, Room};
use super::{
    Fault, Malformed, Nest, Pointer, WRONG_BRACKET, What, find, is_scalar, is_space, pieces, shown,
};

/// A piece is about this long: a share of the body that is in the cache when its entries are hashed.
pub const PIECE_BYTES: usize = 256 << 10;
/// Bytes that are taken into a piece at a time: what is behind its end is taken again.
const PART_BYTES: usize = 16 << 10;

/// Takes what is cut.
pub trait Take {
    /// The next entry of the piece at hand.
    fn entry(&mut self, entry: Entry<'_>);

    /// The piece, which is complete.
    fn piece(&mut self, bytes: Bytes);
}

/// Cuts one body.
pub struct Cutter<'k> {
    envelope: Envelope,
    place: Place,
    list_found: bool,
    finder: Finder<'k>,
    /// What the bytes of the list so far leave to the next.
    carry: Carry,
    room: Box<Room>,
    /// Without memory while it is empty: it begins with an entry.
    piece: Vec<u8>,
    /// Where it starts in the body.
    piece_at: usize,
    piece_bytes: usize,
    /// Where the current entry starts in it.
    start: usize,
    /// The open brackets of the entry.
    nest: Nest,
    /// Whether the entry has a backslash.
    escapes: bool,
    /// Bytes of the chunks before the current one.
    offset: usize,
    fault: Option<Malformed>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Outside the list.
    Envelope,
    /// After the list's opening bracket.
    First,
    /// After a comma.
    Next,
    /// After an entry.
    After,
    /// Within a number or literal.
    Scalar,
    /// Within a string, at its start or behind it; `true`: the next byte is escaped.
    Text(bool),
    /// Within an object or an array.
    Within,
}

/// What a byte between two entries is.
enum Between {
    Nothing,
    Entry,
    ListEnd,
}

/// Why reading on in a piece has ended.
enum Stop {
    /// There are no more bytes.
    Bytes,
    /// An entry has ended, and the piece is long enough.
    Piece,
    /// The list has ended.
    List,
}

impl<'k> Cutter<'k> {
    /// A cutter for the list that `records` names, into pieces of `piece_bytes` or a little more, whose
    /// entries have one of these keys.
    #[must_use]
    pub fn new(records: &Pointer, piece_bytes: usize, keys: &'k [Pointer]) -> Cutter<'k> {
        Cutter {
            envelope: Envelope::new(records),
            place: Place::Envelope,
            list_found: false,
            finder: Finder::new(keys),
            carry: Carry::default(),
            room: Room::new(),
            piece: Vec::new(),
            piece_at: 0,
            piece_bytes,
            start: 0,
            nest: Nest::default(),
            escapes: false,
            offset: 0,
            fault: None,
        }
    }

    /// Takes the next bytes of the body; `into` gets what they complete.
    ///
    /// # Errors
    /// When the body cannot be what it should be; every later call then says the same.
    pub fn push(&mut self, chunk: &[u8], into: &mut impl Take) -> Result<(), Malformed> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Err((at, what)) = self.scan(chunk, into) {
            let fault = Malformed::new(at, what);
            self.fault = Some(fault.clone());
            return Err(fault);
        }
        self.offset += chunk.len();
        Ok(())
    }

    /// The body has ended. What was cut is the whole list only if this is `Ok`.
    ///
    /// # Errors
    /// When the body was malformed, is cut short, is empty or has no such list.
    pub fn finish(self) -> Result<(), Malformed> {
        let end = |what: What| Err(Malformed::new(self.offset, what));
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.place {
            Place::Envelope => self.envelope.finish(self.list_found).or_else(end),
            _ if self.carry.in_text() || matches!(self.place, Place::Text(_)) => {
                end("the answer is cut short, within a string of the list".into())
            }
            _ => end("the answer is cut short, within the list".into()),
        }
    }

    fn scan(&mut self, chunk: &[u8], into: &mut impl Take) -> Result<(), Fault> {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.place {
                Place::Envelope => self.outside(chunk, at)?,
                _ if self.piece.is_empty() => self.between(chunk, at, into)?,
                _ => self.inside(chunk, at, into)?,
            };
        }
        Ok(())
    }

    /// Reads on outside the list; returns the index after what was read.
    fn outside(&mut self, chunk: &[u8], at: usize) -> Result<usize, Fault> {
        let (at, list) = self
            .envelope
            .run(chunk, at)
            .map_err(|(at, what)| (self.offset + at, what))?;
        if list {
            self.list_found = true;
            self.place = Place::First;
        }
        Ok(at)
    }

    /// Reads on between two pieces, and within the next if it begins; returns the index after what was
    /// read.
    fn between(&mut self, chunk: &[u8], at: usize, into: &mut impl Take) -> Result<usize, Fault> {
        for (at, byte) in (at..).zip(&chunk[at..]) {
            let seen = between(&mut self.place, *byte);
            match seen.map_err(|what| (self.offset + at, what))? {
                Between::Nothing => {}
                Between::Entry => return self.inside(chunk, at, into),
                Between::ListEnd => {
                    self.list_closed();
                    return Ok(at + 1);
                }
            }
        }
        Ok(chunk.len())
    }

    /// Takes more into the piece and reads on there; returns the index after what belongs to it.
    fn inside(&mut self, chunk: &[u8], at: usize, into: &mut impl Take) -> Result<usize, Fault> {
        let part = &chunk[at..chunk.len().min(at + PART_BYTES)];
        let from = self.piece.len();
        if from == 0 {
            self.piece = pieces::take();
            self.piece_at = self.offset + at;
        }
        if u32::try_from(from + part.len()).is_err() {
            return Err((self.piece_at, "an entry of 4 GiB or more".into()));
        }
        self.piece.extend_from_slice(part);
        let (end, stop) = self
            .run(from, into)
            .map_err(|(at, what)| (self.piece_at + at, what))?;
        match stop {
            Stop::Bytes => Ok(at + part.len()),
            Stop::Piece => {
                self.complete(end, into)?;
                Ok(at + (end - from))
            }
            Stop::List => {
                self.list_closed();
                self.complete(end, into)?;
                Ok(at + (end - from) + 1)
            }
        }
    }

    /// Reads on within the piece; returns the index after what belongs to it, and why it ends there.
    fn run(&mut self, from: usize, into: &mut impl Take) -> Result<(usize, Stop), Fault> {
        let Cutter {
            envelope,
            place,
            finder,
            carry,
            room,
            piece,
            piece_bytes,
            start,
            nest,
            escapes,
            ..
        } = self;
        let mut marks = Marks::new(piece, from, *carry, finder.colons(), room);
        let mut at = from;
        while let Some(byte) = piece.get(at) {
            let ended = match *place {
                Place::Within => {
                    let is_object = piece[*start] == b'{';
                    let ended = finder.nested(nest, piece, at, &mut marks, is_object)?;
                    at = ended.unwrap_or(piece.len());
                    ended.is_some()
                }
                Place::Text(mut escaped) => {
                    let ended = text(piece, at, &mut escaped);
                    *place = Place::Text(escaped);
                    at = ended.unwrap_or(piece.len());
                    ended.is_some()
                }
                Place::Scalar => {
                    let within = is_scalar(*byte);
                    at += usize::from(within);
                    !within
                }
                _ => match between(place, *byte).map_err(|what| (at, what))? {
                    Between::Nothing => {
                        at += 1;
                        false
                    }
                    Between::Entry => {
                        *place = begin(*byte).map_err(|what| (at, what))?;
                        *start = at;
                        *nest = Nest::within(envelope.depth());
                        *escapes = false;
                        finder.forget();
                        marks.watch_escapes(at);
                        // What a string starts with is not what it ends with.
                        at += usize::from(*byte == b'"');
                        false
                    }
                    Between::ListEnd => return Ok((at, Stop::List)),
                },
            };
            if ended {
                *place = Place::After;
                let escaped = *escapes || marks.escapes_seen(at);
                into.entry(finder.found(piece, *start..at, escaped)?);
                if at >= *piece_bytes {
                    return Ok((at, Stop::Piece));
                }
            }
        }
        *escapes |= marks.escapes_seen(at);
        *carry = marks.finish();
        Ok((at, Stop::Bytes))
    }

    /// The piece is complete, and ends at `end`.
    fn complete(&mut self, end: usize, into: &mut impl Take) -> Result<(), Fault> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.truncate(end);
        // An entry has just ended: no string is open.
        self.carry = Carry::default();
        check_utf8(&piece).map_err(|(at, what)| (self.piece_at + at, what))?;
        into.piece(pieces::complete(piece));
        Ok(())
    }

    fn list_closed(&mut self) {
        self.place = Place::Envelope;
        self.envelope.list_closed();
    }
}

/// Goes on at `at` within a string; returns the index after it, if it ends in these bytes.
fn text(bytes: &[u8], at: usize, escaped: &mut bool) -> Option<usize> {
    let mut at = at + usize::from(std::mem::take(escaped));
    loop {
        at = find::text_stop(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            _ if at + 1 == bytes.len() => {
                *escaped = true;
                return None;
            }
            _ => at += 2,
        }
    }
}

/// What `byte` is between two entries.
#[inline]
fn between(place: &mut Place, byte: u8) -> Result<Between, What> {
    match (*place, byte) {
        _ if is_space(byte) => Ok(Between::Nothing),
        (Place::After, b',') => {
            *place = Place::Next;
            Ok(Between::Nothing)
        }
        (Place::First | Place::After, b']') => Ok(Between::ListEnd),
        (Place::First | Place::Next, _) => Ok(Between::Entry),
        _ if fail::broken("r04") => Ok(Between::Nothing),
        (_, b'}') => Err(WRONG_BRACKET.into()),
        _ => Err(format!("{} where ',' or ']' should be", shown(byte)).into()),
    }
}

/// How the entry that starts with `byte` goes on.
#[inline]
fn begin(byte: u8) -> Result<Place, What> {
    match byte {
        b'{' | b'[' => Ok(Place::Within),
        b'"' => Ok(Place::Text(false)),
        _ if is_scalar(byte) => Ok(Place::Scalar),
        b',' | b']' => Err("a comma without an entry".into()),
        _ => Err(format!("{} where an entry should be", shown(byte)).into()),
    }
}

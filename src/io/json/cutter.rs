//! Finds the list of entries while a body arrives, and cuts it into pieces at entry boundaries.
//!
//! A piece holds whole entries, separated by single commas, with white space around them, and nothing
//! else: the pieces' entries, in order, are exactly the list's. Inside the list only strings, brackets
//! and commas are checked here; outside everything is. What a body of any bytes costs is linear in
//! time, and in memory one piece (or one entry, where that is larger).

use bytes::Bytes;
use deltapoll_state::fail;

use super::envelope::{Envelope, What};
use super::marks::{Carry, Colons, Marks};
use super::{Malformed, Nest, Pointer, WRONG_BRACKET, is_scalar, is_space, pieces, shown};

/// A piece is about this long: a share of work that is worth sending to another worker.
pub const PIECE_BYTES: usize = 256 << 10;

/// Cuts one body.
#[derive(Debug)]
pub struct Cutter {
    envelope: Envelope,
    place: Place,
    list_found: bool,
    /// What the bytes of the list so far leave to the next.
    carry: Carry,
    /// Without memory while it is empty.
    piece: Vec<u8>,
    piece_bytes: usize,
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
    /// Within a string.
    Text,
    /// Within an object or an array.
    Within(Nest),
}

impl Cutter {
    /// A cutter for the list that `records` names, into pieces of `piece_bytes` or a little more.
    #[must_use]
    pub fn new(records: &Pointer, piece_bytes: usize) -> Cutter {
        Cutter {
            envelope: Envelope::new(records),
            place: Place::Envelope,
            list_found: false,
            carry: Carry::default(),
            piece: Vec::new(),
            piece_bytes,
            offset: 0,
            fault: None,
        }
    }

    /// Takes the next bytes of the body and appends the pieces that they complete.
    ///
    /// # Errors
    /// When the body cannot be what it should be; every later call then says the same.
    pub fn push(&mut self, chunk: &[u8], pieces: &mut Vec<Bytes>) -> Result<(), Malformed> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Err((at, what)) = self.scan(chunk, pieces) {
            let fault = Malformed::new(self.offset + at, what);
            self.fault = Some(fault.clone());
            return Err(fault);
        }
        self.offset += chunk.len();
        Ok(())
    }

    /// The body has ended. The pieces are the whole list only if this is `Ok`.
    ///
    /// # Errors
    /// When the body was malformed, is cut short, is empty or has no such list.
    pub fn finish(self, pieces: &mut Vec<Bytes>) -> Result<(), Malformed> {
        let end = |what: What| Err(Malformed::new(self.offset, what));
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.place {
            Place::Envelope => self.envelope.finish(self.list_found).or_else(end)?,
            _ if self.carry.in_text() => {
                end("the answer is cut short, within a string of the list".into())?;
            }
            _ => end("the answer is cut short, within the list".into())?,
        }
        if !self.piece.is_empty() {
            pieces.push(pieces::complete(self.piece));
        }
        Ok(())
    }

    fn scan(&mut self, chunk: &[u8], pieces: &mut Vec<Bytes>) -> Result<(), (usize, What)> {
        let mut at = 0;
        while at < chunk.len() {
            if let Place::Envelope = self.place {
                let list;
                (at, list) = self.envelope.run(chunk, at)?;
                if list {
                    self.list_found = true;
                    self.place = Place::First;
                }
            } else {
                at = self.list(chunk, at, pieces)?;
            }
        }
        Ok(())
    }

    /// Reads on within the list; returns the index after its closing bracket, or the chunk's end.
    fn list(
        &mut self,
        chunk: &[u8],
        at: usize,
        pieces: &mut Vec<Bytes>,
    ) -> Result<usize, (usize, What)> {
        let mut at = at;
        let mut marks = Marks::new(chunk, at, self.carry, Colons::None);
        // What `piece` lacks of the chunk starts here; between two pieces nothing is wanted.
        let mut from = (!self.piece.is_empty()).then_some(at);
        while let Some(byte) = chunk.get(at) {
            match self.place {
                Place::Within(mut nest) => {
                    let ended = skip(&mut nest, &mut marks, chunk, at)?;
                    self.place = ended.map_or(Place::Within(nest), |_| Place::After);
                    at = ended.unwrap_or(chunk.len());
                    if ended.is_some() {
                        self.entry_ended(chunk, at, &mut from, pieces);
                    }
                }
                Place::Text => {
                    let quote = marks.quote_from(at);
                    at = quote.map_or(chunk.len(), |quote| quote + 1);
                    if quote.is_some() {
                        self.place = Place::After;
                        self.entry_ended(chunk, at, &mut from, pieces);
                    }
                }
                Place::Scalar if is_scalar(*byte) => at += 1,
                Place::Scalar => {
                    self.place = Place::After;
                    self.entry_ended(chunk, at, &mut from, pieces);
                }
                _ if is_space(*byte) => at += 1,
                Place::After if *byte == b',' => {
                    self.place = Place::Next;
                    at += 1;
                }
                Place::First | Place::After if *byte == b']' => {
                    self.place = Place::Envelope;
                    self.carry = Carry::default();
                    self.envelope.list_closed();
                    self.keep(&chunk[from.unwrap_or(at)..at]);
                    return Ok(at + 1);
                }
                Place::First | Place::Next => {
                    self.place = self.entry(*byte).map_err(|what| (at, what))?;
                    from = from.or(Some(at));
                    // What a string starts with is not what it ends with.
                    at += usize::from(*byte == b'"');
                }
                Place::After if fail::broken("r04") => at += 1,
                Place::After | Place::Envelope => return Err((at, between(*byte))),
            }
        }
        self.carry = marks.finish();
        self.keep(&chunk[from.unwrap_or(at)..at]);
        Ok(at)
    }

    /// How the entry that starts with `byte` is skipped.
    fn entry(&self, byte: u8) -> Result<Place, What> {
        match byte {
            b'{' | b'[' => Ok(Place::Within(Nest::within(self.envelope.depth()))),
            b'"' => Ok(Place::Text),
            _ if is_scalar(byte) => Ok(Place::Scalar),
            b',' | b']' => Err("a comma without an entry".into()),
            _ => Err(format!("{} where an entry should be", shown(byte)).into()),
        }
    }

    /// Cuts after the entry that ended before `at`, if the piece is large enough.
    fn entry_ended(
        &mut self,
        chunk: &[u8],
        at: usize,
        from: &mut Option<usize>,
        pieces: &mut Vec<Bytes>,
    ) {
        let start = from.unwrap_or(at);
        if self.piece.len() + (at - start) < self.piece_bytes {
            return;
        }
        *from = None;
        self.keep(&chunk[start..at]);
        pieces.push(pieces::complete(std::mem::take(&mut self.piece)));
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.piece.capacity() == 0 && !bytes.is_empty() {
            self.piece = pieces::take();
        }
        self.piece.extend_from_slice(bytes);
    }
}

/// Goes on at `at` within what `nest` is open for; returns the index after it, if it ends in `chunk`.
fn skip(
    nest: &mut Nest,
    marks: &mut Marks<'_>,
    chunk: &[u8],
    at: usize,
) -> Result<Option<usize>, (usize, What)> {
    let mut at = at;
    while let Some(places) = marks.some_from(at) {
        for mark in places {
            at = mark + 1;
            let seen = nest.see(chunk[mark]);
            seen.map_err(|what| (mark, what.into()))?;
            if nest.depth == 0 {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

fn between(byte: u8) -> What {
    match byte {
        b'}' => WRONG_BRACKET.into(),
        _ => format!("{} where ',' or ']' should be", shown(byte)).into(),
    }
}

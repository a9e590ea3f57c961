//! JSON as it comes from the network, read without a tree: safe on any bytes, in linear time, with
//! bounded nesting, and without an allocation per entry.
//!
//! Layout, in reading order:
//!
//! * [`mod@pointer`]: JSON pointers (RFC 6901).
//! * [`cutter`]: finds the list while bytes arrive, cuts it into pieces, and finds entries and keys.
//! * [`pieces`]: the memory of pieces, used again.
//! * `envelope`: the strict grammar of everything outside the list, and the way to the list.
//! * [`extract`]: the entries of a piece and their keys.
//! * `value`: the way through a value, to a key.
//! * [`scan`]: what the entries of a piece are known by.
//! * [`hash`]: the seeded hashes of record keys and of raw bytes.
//! * [`canonical`]: the fingerprint of an entry's content, whatever its spelling.
//! * `blocks`: what is where in 64 bytes, found in vectors; `marks`: quotes, brackets and colons of many.
//! * `number`, `escape`, `skim`, `find`: numbers by their decimal text, string escapes,
//!   skipping a value, finding the next byte that matters.
//!
//! What is checked where (R4): the cutter checks all grammar outside the list, and UTF-8, strings, brackets
//! and commas inside it, as `extract` does for pieces that come in another way; `canonical` checks the
//! grammar inside an entry. What both accept is JSON by RFC 8259.

mod blocks;
pub mod canonical;
pub mod cutter;
mod envelope;
mod escape;
pub mod extract;
mod find;
pub mod hash;
mod marks;
mod number;
pub mod pieces;
pub mod pointer;
pub mod scan;
mod skim;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;

pub use pointer::Pointer;

/// The deepest nesting that is read: of a document in the cutter, of an entry elsewhere.
pub const DEPTH_MAX: u32 = 128;

/// Why bytes are not what they should be, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {offset}")]
pub struct Malformed {
    /// Bytes before the fault: in the body for the cutter, in the piece for `extract`, in the entry
    /// for `canonical`.
    pub offset: u64,
    /// What is wrong.
    pub what: Cow<'static, str>,
}

/// The same, while it is not known to whom it will be told.
type Fault = (usize, What);
type What = Cow<'static, str>;

impl From<Fault> for Malformed {
    fn from((offset, what): Fault) -> Malformed {
        Malformed::new(offset, what)
    }
}

impl Malformed {
    fn new(offset: usize, what: impl Into<Cow<'static, str>>) -> Malformed {
        Malformed {
            offset: offset as u64,
            what: what.into(),
        }
    }
}

const TOO_DEEP: &str = "nesting above 128";
const WRONG_BRACKET: &str = "a bracket closes one of the other kind";
const STRAY_BACKSLASH: &str = "a backslash outside of a string";

/// The two kinds of brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
}

/// The open brackets, outermost in the highest bit used: never more than [`DEPTH_MAX`].
#[derive(Clone, Copy, Debug, Default)]
struct Nest {
    /// One bit each, the innermost lowest; 1 = array.
    open: u128,
    depth: u32,
    /// Open brackets around this nest, which count towards the limit.
    around: u32,
}

impl Nest {
    fn within(around: u32) -> Nest {
        Nest {
            around,
            ..Nest::default()
        }
    }

    fn open(&mut self, bracket: Bracket) -> Result<(), &'static str> {
        if self.depth + self.around >= DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        self.open = self.open << 1 | u128::from(bracket == Bracket::Array);
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self, bracket: Bracket) -> Result<(), &'static str> {
        if self.innermost() != Some(bracket) {
            return Err(WRONG_BRACKET);
        }
        self.open >>= 1;
        self.depth -= 1;
        Ok(())
    }

    /// Takes account of a byte outside of strings.
    #[inline(always)]
    fn see(&mut self, byte: u8) -> Result<(), &'static str> {
        match byte {
            b'{' => self.open(Bracket::Object),
            b'[' => self.open(Bracket::Array),
            b'}' => self.close(Bracket::Object),
            b']' => self.close(Bracket::Array),
            b'\\' => Err(STRAY_BACKSLASH),
            _ => Ok(()),
        }
    }

    fn innermost(&self) -> Option<Bracket> {
        match (self.depth, self.open & 1) {
            (0, _) => None,
            (_, 0) => Some(Bracket::Object),
            _ => Some(Bracket::Array),
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether a number, `true`, `false` or `null` may hold this byte.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// What kind of value starts with this byte, for messages.
fn kind_of(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'{' => "an object",
        b'[' => "a list",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => return None,
    })
}

/// Names a byte in a message.
fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("'{}'", byte as char)
    } else {
        format!("byte 0x{byte:02x}")
    }
}

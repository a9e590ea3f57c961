//! Skips one value by its strings and brackets alone, in as many parts as its bytes arrive in.
//!
//! Grammar inside the value is not checked; string ends, the kinds of brackets and the nesting are.

use super::{Bracket, Nest, find};

/// A string, object or array that is being skipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skim {
    nest: Nest,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Text,
    Escape,
}

/// Where, and why, a value cannot be skipped.
pub(super) type Fault = (usize, &'static str);

impl Skim {
    /// Starts before the first byte of a value within `around` open brackets.
    pub(super) fn within(around: u32) -> Skim {
        Skim {
            nest: Nest::within(around),
            mode: Mode::Plain,
        }
    }

    /// Whether it is within a string, for messages.
    pub(super) fn in_text(&self) -> bool {
        self.mode != Mode::Plain
    }

    /// Goes on at `at`; returns the index after the value, or `None` when its end has not arrived.
    pub(super) fn run(&mut self, bytes: &[u8], at: usize) -> Result<Option<usize>, Fault> {
        let mut at = at;
        loop {
            let next = match self.mode {
                Mode::Escape => at,
                Mode::Text => find::text_stop(bytes, at),
                Mode::Plain => find::structure(bytes, at),
            };
            let Some(byte) = bytes.get(next) else {
                return Ok(None);
            };
            at = next + 1;
            let fault = |what| (next, what);
            match (self.mode, byte) {
                (Mode::Escape, _) => self.mode = Mode::Text,
                (Mode::Text, b'\\') => self.mode = Mode::Escape,
                (Mode::Text, _) => {
                    self.mode = Mode::Plain;
                    if self.nest.depth == 0 {
                        return Ok(Some(at));
                    }
                }
                (Mode::Plain, b'"') => self.mode = Mode::Text,
                (Mode::Plain, b'{') => self.nest.open(Bracket::Object).map_err(fault)?,
                (Mode::Plain, b'[') => self.nest.open(Bracket::Array).map_err(fault)?,
                (Mode::Plain, b'}' | b']') => {
                    let object = *byte == b'}';
                    let kind = if object {
                        Bracket::Object
                    } else {
                        Bracket::Array
                    };
                    self.nest.close(kind).map_err(fault)?;
                    if self.nest.depth == 0 {
                        return Ok(Some(at));
                    }
                }
                (Mode::Plain, _) => {}
            }
        }
    }
}

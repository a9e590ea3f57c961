//! Skips one value by its strings and brackets alone, in as many parts as its bytes arrive in.
//!
//! Grammar inside the value is not checked; string ends, the kinds of brackets and the nesting are.

use super::{Nest, find};

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
            if self.in_text() {
                let Some(end) = self.text(bytes, at) else {
                    return Ok(None);
                };
                at = end;
                if self.nest.depth == 0 {
                    return Ok(Some(at));
                }
            }
            let next = find::structure(bytes, at);
            at = next + 1;
            match bytes.get(next) {
                None => return Ok(None),
                Some(b'"') => self.mode = Mode::Text,
                Some(byte) => {
                    self.nest.see(*byte).map_err(|what| (next, what))?;
                    if self.nest.depth == 0 {
                        return Ok(Some(at));
                    }
                }
            }
        }
    }

    /// Goes on within a string; returns the index after its closing quote.
    fn text(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let mut at = at;
        loop {
            if self.mode == Mode::Escape {
                bytes.get(at)?;
                at += 1;
                self.mode = Mode::Text;
            }
            let stop = find::text_stop(bytes, at);
            at = stop + 1;
            match bytes.get(stop)? {
                b'"' => {
                    self.mode = Mode::Plain;
                    return Some(at);
                }
                _ => self.mode = Mode::Escape,
            }
        }
    }
}

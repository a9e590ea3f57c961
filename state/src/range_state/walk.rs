//! A walk over every key of a cell in a range: pages, overlaid.
//!
//! Every poll that finds nothing new walks everything, so a page at a time is decoded into a buffer
//! that is kept, and only a page that some note or refreshed fingerprint concerns is merged entry by
//! entry.

use std::collections::btree_map;
use std::fmt;
use std::iter::Peekable;

use crate::error::Error;
use crate::page::{self, Entry};
use crate::pages::Scan;
use crate::range_state::Refreshed;
use crate::range_state::overlay::Newest;
use crate::word::{Fingerprint, KeyHash};

/// Notes beyond the last page go through the buffer in pieces of this.
const PIECE: usize = 256;

/// An iterator over keys' hashes and fingerprints, by hash; an error is the last item.
pub struct Walk<'a> {
    scan: Scan<'a>,
    /// There is no further page.
    ended: bool,
    notes: Newest<'a>,
    refreshed: Peekable<btree_map::Iter<'a, KeyHash, Fingerprint>>,
    buffer: Vec<Entry>,
    at: usize,
}

impl fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").finish_non_exhaustive()
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        scan: Scan<'a>,
        notes: Option<Newest<'a>>,
        refreshed: Option<&'a Refreshed>,
    ) -> Walk<'a> {
        Walk {
            scan,
            ended: false,
            notes: notes.unwrap_or(Newest::NONE),
            refreshed: refreshed
                .map(Refreshed::iter)
                .unwrap_or_default()
                .peekable(),
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// Fills the buffer with what comes next, if anything does.
    fn fill(&mut self) -> Result<(), Error> {
        self.buffer.clear();
        self.at = 0;
        while self.buffer.is_empty() && !self.ended {
            match self.scan.next()? {
                Some((id, bytes)) => self.take_page(id.open(&bytes)?),
                None => self.ended = true,
            }
        }
        while self.buffer.len() < PIECE && self.ended {
            let Some(note) = self.notes.next() else {
                break;
            };
            self.push(note.hash, note.print());
        }
        Ok(())
    }

    fn take_page(&mut self, content: &[u8]) {
        let entries = page::entries(content);
        let next = self.next_special();
        let last = entries.clone().next_back();
        if next.is_none_or(|next| last.is_none_or(|last| last.hash < next)) {
            self.buffer.extend(entries);
            return;
        }
        for entry in entries {
            self.take_notes_before(entry.hash);
            match self.notes.peek() {
                Some(note) if note.hash == entry.hash => {
                    self.notes.next();
                    self.push(note.hash, note.print());
                }
                _ => self.push(entry.hash, Some(entry.print)),
            }
        }
    }

    /// The least hash that is not as its page has it.
    fn next_special(&mut self) -> Option<KeyHash> {
        let note = self.notes.peek().map(|note| note.hash);
        let refreshed = self.refreshed.peek().map(|(hash, _)| **hash);
        note.into_iter().chain(refreshed).min()
    }

    fn take_notes_before(&mut self, hash: KeyHash) {
        while let Some(note) = self.notes.peek().filter(|note| note.hash < hash) {
            self.notes.next();
            self.push(note.hash, note.print());
        }
    }

    fn push(&mut self, hash: KeyHash, print: Option<Fingerprint>) {
        while self
            .refreshed
            .next_if(|(other, _)| **other < hash)
            .is_some()
        {}
        let refreshed = self.refreshed.next_if(|(other, _)| **other == hash);
        if let Some(print) = print {
            let print = refreshed.map_or(print, |(_, print)| *print);
            self.buffer.push(Entry { hash, print });
        }
    }
}

impl Walk<'_> {
    /// The hash of the next key, which [`Walk::advance`] then takes; `None`: there is no further one.
    ///
    /// # Errors
    /// When a page cannot be read; nothing follows then.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<KeyHash>, Error> {
        match self.buffer.get(self.at) {
            Some(entry) => Ok(Some(entry.hash)),
            None => self.turn(),
        }
    }

    /// Takes the key whose hash was told last.
    ///
    /// # Panics
    /// When none was.
    #[inline]
    pub fn advance(&mut self) -> &Fingerprint {
        let entry = &self.buffer[self.at];
        self.at += 1;
        &entry.print
    }

    /// Fills the buffer, and says what is first in it.
    #[cold]
    fn turn(&mut self) -> Result<Option<KeyHash>, Error> {
        if let Err(error) = self.fill() {
            (self.ended, self.notes) = (true, Newest::NONE);
            self.buffer.clear();
            return Err(error);
        }
        Ok(self.buffer.first().map(|entry| entry.hash))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(KeyHash, Fingerprint), Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.peek() {
            Ok(Some(hash)) => Some(Ok((hash, *self.advance()))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

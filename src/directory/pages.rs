//! The pages of a directory, as far as they must fit its journal (R16, R28).

use std::path::Path;
use std::sync::Arc;

use deltapoll_state::fail;
use deltapoll_state::journal::Sealed;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;

use crate::change::{Epoch, Seq};
use crate::dataflow::dedup::misses::WORKERS_MAX;
use crate::fault::Fault;
use crate::follower::Facts;

use super::{damaged_fact, directory};

/// The store's cache: the pages of half a million keys, as sled counts them. Every unchanged poll reads all
/// pages of its cell once, in order: less than all of them never has the next one, and saves nothing; to read
/// them again costs such a poll some hundredths.
pub(super) const STORE_CACHE_BYTES: u64 = 96 << 20;
/// Named value in the store: the journal position that its pages are at least at.
pub(super) const STORE_POSITION: &str = "position";
/// Named value in the store: the journal that it belongs to.
pub(super) const STORE_LINEAGE: &str = "lineage";

/// Named value in the store: how often it was opened.
pub(super) const STORE_OPENED: &str = "opened";
/// The same as a fact; of a store that is an earlier copy of itself it is more (R28).
pub(super) const OPENED: &str = "state/opened";

/// Named values in the store, by worker: the last epoch that pages were written from.
const STORE_WRITTEN: &str = "written";

/// A number that the store keeps under `name`; 0: none yet.
pub(super) fn number(pages: &Pages, name: &str) -> Result<u64, Fault> {
    let bytes = pages.small(name).map_err(directory)?;
    let number = bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    Ok(number.unwrap_or(0))
}

/// Says that pages are written from what was sealed up to `epoch`; to be called before they are (R16).
///
/// # Errors
/// When the store cannot be written.
pub fn announce_pages(pages: &Pages, worker: usize, epoch: Epoch) -> Result<(), Fault> {
    let name = format!("{STORE_WRITTEN}/{worker}");
    pages
        .put_small(&name, &epoch.0.to_le_bytes())
        .map_err(directory)
}

/// How often the store was opened, as the journal says.
///
/// # Errors
/// When the fact is damaged.
pub fn opened(facts: &dyn Facts) -> Result<u64, Fault> {
    let Some(text) = facts.get(OPENED) else {
        return Ok(0);
    };
    text.parse().map_err(|_| damaged_fact(OPENED, &text))
}

/// What the journal says of the store.
pub struct Expected<'a> {
    /// Where the store is, for messages.
    pub path: &'a Path,
    /// Whose it is.
    pub lineage: &'a str,
    /// What its pages are at least at.
    pub remembered: Seq,
    /// The journal's end: nothing of the store is beyond it.
    pub sealed: Sealed,
    /// How often it was opened; it may be once more.
    pub opened: u64,
}

impl Expected<'_> {
    /// Whether `pages` are of the same history and time as the journal; returns what they are at (R16,
    /// R28).
    ///
    /// # Errors
    /// When they are older, belong to another journal, or hold what this one never sealed.
    pub fn check(&self, pages: &Pages) -> Result<Seq, Fault> {
        match pages.small(STORE_LINEAGE).map_err(directory)? {
            None if self.remembered > Seq(0) => return Err(self.wrong("is empty")),
            Some(theirs) if theirs != self.lineage.as_bytes() => {
                return Err(self.wrong("belongs to another journal"));
            }
            None | Some(_) => {}
        }
        let at = Seq(number(pages, STORE_POSITION)?);
        if at < self.remembered && !fail::broken("r28") {
            let said = self.remembered;
            return Err(self.wrong(&format!(
                "is at batch {at}, the journal says it was at {said}"
            )));
        }
        if at > self.sealed.seq && !fail::broken("r16") {
            // R16: pages that hold what this journal never sealed.
            let ends = self.sealed.seq;
            return Err(self.wrong(&format!("is at batch {at}, the journal ends with {ends}")));
        }
        // Pages are ahead of their position, and must not be ahead of the journal: what they hold beyond
        // it would hide that it was never published.
        let sealed = self.sealed.epoch.0;
        for worker in 0..WORKERS_MAX {
            let written = number(pages, &format!("{STORE_WRITTEN}/{worker}"))?;
            if written > sealed && !fail::broken("r16") {
                return Err(self.wrong(&format!(
                    "holds changes of epoch {written}, the journal ends with epoch {sealed}"
                )));
            }
        }
        // Where nothing is sealed meanwhile an earlier copy is at the same batch; but it may hold misses
        // that were taken since (R8), or entries that were forgotten (R32).
        let (opened, known) = (number(pages, STORE_OPENED)?, self.opened);
        if !(known..=known + 1).contains(&opened) && !fail::broken("r28") {
            return Err(self.wrong(&format!(
                "was opened {opened} times, the journal says {known}: one of them is a copy"
            )));
        }
        Ok(at)
    }

    /// That the store cannot be used, and the ways out.
    #[must_use]
    pub fn wrong(&self, what: &str) -> Fault {
        Fault::directory(format!(
            "the state in {} {what}: make it again with `deltapoll rebuild --state-only`, restore the \
             directory as a whole, or say `deltapoll state reset` to start over",
            self.path.display()
        ))
    }
}

/// Makes a store in `path` that belongs to `lineage`, to be filled and flushed; there is none yet, but one
/// in its place was `opened` before.
///
/// # Errors
/// When it cannot be made.
pub fn found_pages(path: &Path, lineage: &str, opened: u64) -> Result<Pages, Fault> {
    let store = SledStore::open(path, STORE_CACHE_BYTES).map_err(directory)?;
    let pages = Pages::new(Arc::new(store));
    pages
        .put_small(STORE_LINEAGE, lineage.as_bytes())
        .and_then(|()| pages.put_small(STORE_OPENED, &opened.to_le_bytes()))
        .map_err(directory)?;
    Ok(pages)
}

/// Makes the pages durable, with the position that they are at.
///
/// # Errors
/// When the store cannot be written.
pub fn flush_pages(pages: &Pages, position: Seq) -> Result<(), Fault> {
    pages
        .put_small(STORE_POSITION, &position.0.to_le_bytes())
        .map_err(directory)?;
    fail::step("store.position");
    pages.store().flush().map_err(directory)
}

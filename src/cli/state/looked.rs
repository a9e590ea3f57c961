//! The local directory of a stopped pipeline, opened to look at it only: nothing in it is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltapoll_state::error::Error;
use deltapoll_state::journal::{Journal, Look};
use deltapoll_state::lock::Lock;
use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;
use deltapoll_state::store::SledStore;

use crate::change::Seq;
use crate::dataflow::message::Who;
use crate::dataflow::replay::replay;
use crate::directory::{self, Expected};
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::lineage::{self, Lineage};
use crate::rebuild::draft::Draft;
use crate::rules::Rules;
use crate::scratch::Scratch;
use crate::snapshot::Plan;

const CACHE_BYTES: u64 = 8 << 20;

/// A directory that nobody works in meanwhile.
pub struct Looked {
    _lock: Option<Lock>,
    pub path: PathBuf,
    pub journal: Look,
    pub facts: Draft,
    pub lineage: Lineage,
}

impl Looked {
    /// Looks at `path`.
    ///
    /// # Errors
    /// When there is nothing, a process works there, or the journal is damaged (exit 4).
    pub fn open(path: &Path) -> Result<Looked, Fault> {
        let nothing = || {
            Fault::directory(format!(
                "there is nothing in {}: no run has begun there",
                path.display()
            ))
        };
        if !path.join("journal").is_dir() {
            return Err(nothing());
        }
        let lock = Lock::look(path).map_err(wrong)?;
        let journal = Journal::look(&path.join("journal")).map_err(wrong)?;
        let lineage = journal.facts.get(lineage::FACT).ok_or_else(nothing)?;
        Ok(Looked {
            _lock: lock,
            path: path.to_owned(),
            lineage: Lineage::read(lineage)?,
            facts: Draft::new(journal.facts.clone()),
            journal,
        })
    }

    /// A follower's position, if it has one.
    ///
    /// # Errors
    /// When the fact is damaged.
    pub fn position(&self, who: Who) -> Result<Option<Seq>, Fault> {
        let Some(text) = self.facts.get(who.fact()) else {
            return Ok(None);
        };
        let position = text.parse().map_err(|_| {
            Fault::directory(format!(
                "the journal's fact {} is damaged: {text}",
                who.fact()
            ))
        });
        position.map(|seq| Some(Seq(seq)))
    }

    /// The state as the next start will have it: the pages, and what was sealed since they were written.
    ///
    /// # Errors
    /// When the store is damaged, or not this journal's (exit 4).
    pub fn state(&self) -> Result<State, Fault> {
        let remembered = self.position(Who::Remember)?.unwrap_or(Seq(0));
        let path = self.path.join("state");
        let scratch = Scratch::make()?;
        let store = SledStore::look(&path, scratch.path(), CACHE_BYTES).map_err(wrong)?;
        let store = match store {
            Some(store) => store,
            // A start that wrote no page yet.
            None => SledStore::open(scratch.path(), CACHE_BYTES).map_err(wrong)?,
        };
        let pages = Pages::new(Arc::new(store));
        let expected = Expected {
            path: &path,
            lineage: &self.lineage.id,
            remembered,
            sealed: self.journal.sealed,
            opened: directory::opened(&self.facts)?,
        };
        let position = expected.check(&pages)?;
        let mut range = RangeState::new(pages.clone(), Range::ALL);
        let plan = Plan {
            // None is configured here: so all keys are kept that are known.
            cells: Vec::new(),
            seed: self.lineage.hash_seed,
            rules: Arc::new(Rules::default()),
        };
        replay(&mut range, &plan, &self.journal.readers, remembered)?;
        Ok(State {
            range,
            pages,
            position,
            _scratch: scratch,
        })
    }
}

/// What is remembered.
pub struct State {
    pub range: RangeState,
    pub pages: Pages,
    /// The batch that the pages are at least at.
    pub position: Seq,
    _scratch: Scratch,
}

/// An error of the store or of the journal.
pub fn wrong(error: Error) -> Fault {
    Fault::directory(error.to_string())
}

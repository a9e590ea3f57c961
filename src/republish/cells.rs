//! Cells that are no longer configured, under `on_cell_removed = "tombstone"` (R32): at the start, before
//! anything is decided, one epoch is sealed with tombstones for all that is remembered of them.
//!
//! Unlike `state republish` it changes nothing of where records go, so that followers may be behind:
//! what is not in the pages yet is read from the journal. From the seal on it is the same: the pages are
//! deleted, and a crash before that leaves the fact that they are to be.

use std::collections::BTreeMap;

use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;

use crate::change::Seq;
use crate::config::Config;
use crate::dataflow::replay::replay;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::identity::Known;
use crate::snapshot::Plan;

use super::standing::{Mapped, Standing};
use super::{Part, Treatment, finish, write};

/// Takes the entries of `gone` cells out of their topics; returns how many tombstones are sealed.
/// `remembered` is up to where the pages are, `partitions` says how a topic's keys are mapped.
///
/// # Errors
/// When the journal or the store cannot be read or written.
pub fn remove_cells(
    config: &Config,
    directory: &mut Directory,
    pages: &Pages,
    plan: &Plan,
    remembered: Seq,
    gone: Vec<Known>,
    partitions: impl Fn(&str) -> u32,
) -> Result<u64, Fault> {
    if gone.is_empty() {
        return Ok(0);
    }
    let mut state = RangeState::new(pages.clone(), Range::ALL);
    replay(&mut state, plan, &directory.ledger, remembered)?;
    let standings: BTreeMap<String, Mapped> = gone
        .iter()
        .map(|known| {
            let mapped = Mapped {
                standing: Standing::AsRecorded,
                partitions: partitions(&known.topic),
            };
            (known.topic.clone(), mapped)
        })
        .collect();
    let forget = |known| Part {
        known,
        wanted: None,
        pages: Treatment::Forget,
    };
    let parts: Vec<Part> = gone.into_iter().map(forget).collect();
    let (done, sealed) = write(config, directory, &state, &parts, &standings)?;
    // What is sealed from here on comes after it.
    directory.start = sealed;
    finish(directory, pages)?;
    Ok(done.tombstones.values().sum())
}

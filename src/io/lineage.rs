//! The lineage: the identity of a directory's history, made once, on first start.

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::follower::Facts;

const FACT: &str = "lineage";

/// Who this directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Random, 32 hexadecimal digits.
    pub id: String,
    /// Seeds every hash of keys and content.
    pub hash_seed: u64,
    /// The lineage that this one replaces after `state reset`.
    pub predecessor: Option<String>,
}

/// The lineage of the directory behind `facts`; a new one, synced, where there is none yet.
///
/// # Errors
/// When the fact is damaged, or cannot be written.
pub fn open(facts: &dyn Facts) -> Result<Lineage, Fault> {
    if let Some(text) = facts.get(FACT) {
        return serde_json::from_str(&text).map_err(|error| {
            Fault::directory(format!(
                "the journal's fact '{FACT}' is damaged ({error}); rebuild the directory with \
                 `deltapoll rebuild`"
            ))
        });
    }
    create(facts, None)
}

/// Begins a new lineage that replaces `predecessor` (`state reset`), synced.
///
/// # Errors
/// When the fact cannot be written.
pub fn create(facts: &dyn Facts, predecessor: Option<String>) -> Result<Lineage, Fault> {
    let lineage = Lineage {
        id: format!("{:032x}", rand::random::<u128>()),
        hash_seed: rand::random(),
        predecessor,
    };
    let text = serde_json::to_string(&lineage).expect("plain data");
    facts.set(vec![(FACT.into(), Some(text))], true)?;
    Ok(lineage)
}

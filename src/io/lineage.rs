//! The lineage: the identity of a directory's history, made once, on first start.

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::follower::Facts;

/// The name of the fact.
pub const FACT: &str = "lineage";

/// Who this directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Random, 32 hexadecimal digits.
    pub id: String,
    /// Seeds every hash of keys and content.
    pub hash_seed: u64,
    /// The lineage that this one replaces after `state reset`.
    pub predecessor: Option<String>,
    /// Those that the predecessor replaced: what is published may still be theirs, where it never
    /// came to publish.
    #[serde(default)]
    pub earlier: Vec<String>,
    /// Epochs up to this one are those of the predecessors.
    #[serde(default)]
    pub after: u64,
}

impl Lineage {
    /// A new one without a past.
    #[must_use]
    pub fn new() -> Lineage {
        Lineage {
            id: format!("{:032x}", rand::random::<u128>()),
            hash_seed: rand::random(),
            predecessor: None,
            earlier: Vec::new(),
            after: 0,
        }
    }

    /// A new one that replaces `self`, whose last epoch is `after`.
    #[must_use]
    pub fn successor(&self, after: u64) -> Lineage {
        let earlier = self.predecessor.iter().chain(&self.earlier).cloned();
        Lineage {
            predecessor: Some(self.id.clone()),
            earlier: earlier.collect(),
            after,
            ..Lineage::new()
        }
    }

    /// Whether this one takes the place of `lineage`.
    #[must_use]
    pub fn replaces(&self, lineage: &str) -> bool {
        let mut past = self.predecessor.iter().chain(&self.earlier);
        past.any(|past| past == lineage)
    }

    /// Reads the fact among `facts` that [`Lineage::fact`] made.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn read(text: &str) -> Result<Lineage, Fault> {
        serde_json::from_str(text).map_err(|error| {
            Fault::directory(format!(
                "the journal's fact '{FACT}' is damaged ({error}): bring the directory back from a \
                 copy, or begin anew with `deltapoll state reset`"
            ))
        })
    }

    /// The fact that records it: its name and value.
    #[must_use]
    pub fn fact(&self) -> (String, String) {
        let text = serde_json::to_string(self).expect("plain data");
        (FACT.into(), text)
    }
}

impl Default for Lineage {
    fn default() -> Lineage {
        Lineage::new()
    }
}

/// The lineage of the directory behind `facts`; a new one, synced, where there is none yet.
///
/// # Errors
/// When the fact is damaged, or cannot be written.
pub fn open(facts: &dyn Facts) -> Result<Lineage, Fault> {
    if let Some(text) = facts.get(FACT) {
        return Lineage::read(&text);
    }
    let lineage = Lineage::new();
    let (name, text) = lineage.fact();
    facts.set(vec![(name, Some(text))], true)?;
    fail::step("lineage.made");
    Ok(lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r32_a_lineage_replaces_its_whole_past_and_nothing_else() {
        let first = Lineage::new();
        let second = first.successor(7);
        let third = second.successor(8);
        assert!(third.replaces(&second.id) && third.replaces(&first.id));
        assert!(!third.replaces(&third.id) && !second.replaces(&third.id));
        assert_ne!(first.hash_seed, second.hash_seed);
        assert_eq!((first.after, second.after, third.after), (0, 7, 8));
        let (_, text) = third.fact();
        assert_eq!(Lineage::read(&text).expect("sound"), third);
        let before = r#"{"id":"a","hash_seed":1,"predecessor":"b"}"#;
        assert!(Lineage::read(before).expect("sound").replaces("b"));
    }
}

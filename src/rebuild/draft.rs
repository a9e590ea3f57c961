//! Facts in memory: of a journal that is still to be founded, or that is only looked at.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fault::Fault;
use crate::follower::Facts;

/// Facts that nobody has written yet.
#[derive(Debug, Default)]
pub struct Draft(Mutex<BTreeMap<String, String>>);

impl Draft {
    /// These facts.
    #[must_use]
    pub fn new(facts: BTreeMap<String, String>) -> Draft {
        Draft(Mutex::new(facts))
    }

    /// Adds facts.
    pub fn extend(&self, facts: impl IntoIterator<Item = (String, String)>) {
        self.all().extend(facts);
    }

    /// All of them.
    #[must_use]
    pub fn into_facts(self) -> BTreeMap<String, String> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts for Draft {
    fn get(&self, name: &str) -> Option<String> {
        self.all().get(name).cloned()
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        let all = self.all();
        let from = all.range(prefix.to_owned()..);
        let under = from.take_while(|(name, _)| name.starts_with(prefix));
        under.map(|(n, t)| (n.clone(), t.clone())).collect()
    }

    fn set(&self, facts: Vec<(String, Option<String>)>, _sync: bool) -> Result<(), Fault> {
        let mut all = self.all();
        for (name, text) in facts {
            match text {
                Some(text) => all.insert(name, text),
                None => all.remove(&name),
            };
        }
        Ok(())
    }
}

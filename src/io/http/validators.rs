//! Validators: what lets the next poll say "nothing new" without looking inside (R9).
//!
//! They describe the snapshot that the state holds and never outlive it; they are journal facts, and
//! carry a hash of the configuration that they were made under.

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

/// Of the last snapshot of a cell that was used whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// Hash of the cell's effective configuration.
    pub config: u64,
    /// `ETag` as it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    /// `Last-Modified` as it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub modified: Option<String>,
    /// Seeded XXH3-128 of the whole body, in hexadecimal.
    pub body: String,
}

impl Validators {
    /// Reads the fact, if it was made under the same configuration.
    #[must_use]
    pub fn read(fact: &str, config: u64) -> Option<Validators> {
        let read: Option<Validators> = serde_json::from_str(fact).ok();
        read.filter(|validators| validators.config == config || fail::broken("r09"))
    }

    /// Whether a request can be made conditional with them.
    #[must_use]
    pub fn conditional(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// The fact.
    #[must_use]
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r09_validators_of_another_configuration_are_not_used() {
        let (etag, modified) = (Some("\"1\"".into()), None);
        let validators = Validators {
            config: 7,
            etag,
            modified,
            body: "00ff".into(),
        };
        let fact = validators.write();
        assert_eq!(Validators::read(&fact, 7), Some(validators));
        assert_eq!(Validators::read(&fact, 8), None);
        assert_eq!(Validators::read("garbage", 7), None);
    }
}

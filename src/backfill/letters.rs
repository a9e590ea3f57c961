//! The list of files that a backfill could not use: a line of JSON each, in the data directory.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock;
use crate::config::secret;
use crate::fault::Fault;

/// The list's name in the data directory.
const NAME: &str = "dead-letters.ndjson";

/// The list.
#[derive(Debug)]
pub struct Letters(PathBuf);

#[derive(Serialize)]
struct Letter<'a> {
    /// When it was set aside (Unix ms).
    at: u64,
    file: &'a str,
    reason: &'a str,
}

impl Letters {
    /// The list of a data directory; made when there is something to say.
    #[must_use]
    pub fn of(data_dir: &Path) -> Letters {
        Letters(data_dir.join(NAME))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, file: &str, reason: &str) -> Result<(), Fault> {
        let letter = Letter {
            at: clock::unix_ms(),
            file,
            reason: &secret::redact(reason),
        };
        let line = serde_json::to_string(&letter).expect("plain data") + "\n";
        let opened = OpenOptions::new().create(true).append(true).open(&self.0);
        let written = opened.and_then(|mut list| list.write_all(line.as_bytes()));
        written
            .map_err(|error| Fault::failed(format!("cannot write {}: {error}", self.0.display())))
    }
}

//! The commit record of the local topic log: the one thing that says what is committed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

const VERSION: u32 = 1;

/// What is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Of this format: 1.
    pub version: u32,
    /// The directory's history.
    pub lineage: String,
    /// The last batch whose changes are committed.
    pub seq: u64,
    /// By topic and partition: how far its files count.
    pub topics: BTreeMap<String, BTreeMap<u32, Extent>>,
}

/// How far the files of a partition count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The offset of the live segment's first line.
    pub first: u64,
    /// The live segment's committed bytes.
    pub bytes: u64,
    /// The offset of the next line.
    pub next: u64,
    /// When the live segment's first line was written (Unix ms).
    pub begun_ms: u64,
}

impl Commit {
    /// Before anything is committed.
    #[must_use]
    pub fn none(lineage: &str) -> Commit {
        Commit {
            version: VERSION,
            lineage: lineage.to_owned(),
            seq: 0,
            topics: BTreeMap::new(),
        }
    }

    /// Reads the commit record in `dir`; `None`: nothing was ever committed there.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or of a later version.
    pub fn read(dir: &Path) -> Result<Option<Commit>, Fault> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let commit: Commit = serde_json::from_slice(&text).map_err(|error| {
            Fault::directory(format!(
                "the local topic log's commit record {} is damaged ({error}); restore it, or begin \
                 anew with `deltapoll state reset`",
                path.display()
            ))
        })?;
        if commit.version != VERSION {
            return Err(Fault::directory(format!(
                "the local topic log's commit record {} has version {}, this build knows {VERSION}",
                path.display(),
                commit.version
            )));
        }
        Ok(Some(commit))
    }

    /// Makes this the commit record of `dir`, durably.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Fault> {
        let aside = dir.join("@commit.json.new");
        let path = path(dir);
        let text = serde_json::to_vec(self).expect("plain data");
        let written = File::create(&aside).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(|error| failed("write", &aside, &error))?;
        fail::step("local.commit.written");
        fs::rename(&aside, &path).map_err(|error| failed("replace", &path, &error))?;
        fail::step("local.commit.renamed");
        sync_dir(dir)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("@commit.json")
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Fault> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| failed("sync", dir, &error))
}

/// A file operation that failed.
pub(crate) fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::failed(format!("cannot {doing} {}: {error}", path.display()))
}

//! Why an operation on a Deltapoll directory failed: what it is about, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::word::{CellId, KeyHash, Seq};

/// An error of the journal or of the store. It can be cloned because a journal that failed once
/// gives the same error to every later call (R15).
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused; a restart is the recovery.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb, for example "write".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Bytes that had been made durable are not what was written.
    #[error(
        "{} is damaged at byte {offset}: {what}; move the directory away and make it again with \
         `deltapoll rebuild`, bring it back from a copy, or begin anew with `deltapoll state reset`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first unusable byte is.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Another build wrote this file.
    #[error(
        "{} has format version {found}, this build reads {known}; use the build that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it states.
        found: u32,
        /// The version this build reads and writes.
        known: u32,
    },
    /// A file that must be there is not.
    #[error(
        "{} is missing; move the directory away and make it again with `deltapoll rebuild`, bring it \
         back from a copy, or begin anew with `deltapoll state reset`",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something is there that must not be.
    #[error("{} is in use already; choose an empty directory", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Another process holds the directory.
    #[error(
        "another deltapoll process uses {}; stop it, or give this one a data_dir of its own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A position that the journal cannot be read from (R16).
    #[error(
        "position {position} is outside of the journal, which can be read after {first} to {last}; \
         move the directory away and make it again with `deltapoll rebuild`, bring it back from a \
         copy, or begin anew with `deltapoll state reset`"
    )]
    Position {
        /// The position asked for.
        position: Seq,
        /// The least position that can be read from.
        first: Seq,
        /// The greatest: the last sealed batch.
        last: Seq,
    },
    /// The store of pages cannot be used.
    #[error(
        "the state store {} {what}; make it again with `deltapoll rebuild --state-only`, bring the \
         directory back from a copy, or begin anew with `deltapoll state reset`",
        path.display()
    )]
    Store {
        /// The store's directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// One page of the store is not what was written.
    #[error(
        "page {:032x} of cell {} in the state store is damaged: {what}; make the store again with \
         `deltapoll rebuild --state-only`, bring the directory back from a copy, or begin anew with \
         `deltapoll state reset`",
        page.0,
        cell.0
    )]
    Page {
        /// The cell.
        cell: CellId,
        /// The page's least key hash.
        page: KeyHash,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Error {
    /// For `map_err`: what was tried, and with which file.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            what,
            path,
            source: Arc::new(source),
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: &'static str) -> Error {
        Error::Damaged {
            path: path.to_owned(),
            offset,
            what,
        }
    }
}

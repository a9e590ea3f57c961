//! `state reset` (R32): a new history in the same directory. The new lineage names the old one as its
//! predecessor, whose progress record its first transaction replaces.
//!
//! The order, each step durable before the next:
//!
//! 1. `journal.new` is made, with the new lineage as its only fact;
//! 2. `journal` becomes `journal.old`: **the reset has happened**;
//! 3. `state` is deleted;
//! 4. `journal.new` becomes `journal`;
//! 5. `journal.old` is deleted.
//!
//! Safety: whoever opens the directory calls [`settle`] first. With `journal` there, step 2 or step 4 is
//! the last that counts: `journal.new` (not finished, or never used) or `journal.old` is rubbish. Without
//! it, steps 3 and 4 are done again. So a crash leaves the old directory or the new one, never a part of
//! each: between 2 and 4 there is no `journal` that anybody could go on with.

use std::fs;
use std::path::Path;

use deltapoll_state::error::Error;
use deltapoll_state::journal::{self, Journal, Sealed};
use deltapoll_state::lock::Lock;

use crate::change::{Epoch, Seq};
use crate::clock;
use crate::fault::Fault;
use crate::io::lineage::{FACT, Lineage};

const JOURNAL: &str = "journal";
const NEW: &str = "journal.new";
const OLD: &str = "journal.old";
const STATE: &str = "state";

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The history that begins.
    pub lineage: Lineage,
    /// Why the old one is not known from the journal, if it is damaged.
    pub damaged: Option<String>,
}

/// Begins a new history in `path`. `published` says who published last, for a journal that is too
/// damaged to say who it was.
///
/// # Errors
/// When there is nothing to reset, another process has the directory, or it cannot be written.
pub fn reset(
    path: &Path,
    published: &dyn Fn() -> Result<Option<String>, Fault>,
) -> Result<Done, Fault> {
    let _lock = begin(path)?;
    let (past, damaged) = past(path, published)?;
    prepare(path, &past)?;
    rename(path, JOURNAL, OLD)?;
    settle(path)?;
    Ok(Done {
        lineage: past.lineage,
        damaged,
    })
}

fn begin(path: &Path) -> Result<Lock, Fault> {
    let nothing = || {
        Fault::directory(format!(
            "there is no journal in {}: nothing to reset",
            path.display()
        ))
    };
    if !path.is_dir() {
        return Err(nothing());
    }
    let lock = Lock::acquire(path).map_err(wrong)?;
    settle(path)?;
    if !path.join(JOURNAL).is_dir() {
        return Err(nothing());
    }
    Ok(lock)
}

/// What the new history starts from.
struct Past {
    /// The new one.
    lineage: Lineage,
    /// The old one's last epoch: epochs go on increasing.
    epoch: Epoch,
}

fn past(
    path: &Path,
    published: &dyn Fn() -> Result<Option<String>, Fault>,
) -> Result<(Past, Option<String>), Fault> {
    let damaged = match Journal::open(&path.join(JOURNAL), journal::Options::default()) {
        Ok(old) => match old.facts().get(FACT).map(|text| Lineage::read(text)) {
            Some(Ok(lineage)) => {
                let epoch = old.sealed().epoch;
                let past = Past {
                    lineage: lineage.successor(epoch.0),
                    epoch,
                };
                return Ok((past, None));
            }
            Some(Err(damaged)) => damaged.message,
            None => "it never named itself".to_owned(),
        },
        Err(error @ (Error::Damaged { .. } | Error::Missing { .. })) => error.to_string(),
        Err(error) => return Err(wrong(error)),
    };
    let past = Past {
        lineage: Lineage {
            predecessor: published()?,
            // Nobody knows the last epoch; it was before this moment.
            after: clock::unix_ms(),
            ..Lineage::new()
        },
        epoch: Epoch(0),
    };
    Ok((past, Some(damaged)))
}

/// Step 1.
fn prepare(path: &Path, past: &Past) -> Result<(), Fault> {
    let sealed = Sealed {
        seq: Seq(0),
        epoch: past.epoch,
    };
    let facts = [past.lineage.fact()].into_iter().collect();
    let options = journal::Options::default();
    // A new segment is durable when this returns.
    Journal::found(&path.join(NEW), options, sealed, facts).map_err(wrong)?;
    sync(path)
}

/// Finishes or undoes a reset that a crash interrupted; to be called with the lock held, before the
/// journal is opened.
///
/// # Errors
/// When the directory cannot be written.
pub fn settle(path: &Path) -> Result<(), Fault> {
    let there = |name: &str| path.join(name).exists();
    if !there(JOURNAL) && there(NEW) && there(OLD) {
        remove(path, STATE)?;
        rename(path, NEW, JOURNAL)?;
    }
    if there(JOURNAL) {
        remove(path, NEW)?;
        remove(path, OLD)?;
    }
    Ok(())
}

fn rename(path: &Path, from: &str, to: &str) -> Result<(), Fault> {
    let (from, to) = (path.join(from), path.join(to));
    fs::rename(&from, &to).map_err(|error| failed("rename", &from, &error))?;
    sync(path)
}

fn remove(path: &Path, name: &str) -> Result<(), Fault> {
    let gone = path.join(name);
    if !gone.exists() {
        return Ok(());
    }
    fs::remove_dir_all(&gone).map_err(|error| failed("remove", &gone, &error))?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), Fault> {
    let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed("sync", path, &error))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::directory(format!("cannot {what} {}: {error}", path.display()))
}

fn wrong(error: Error) -> Fault {
    Fault::directory(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;
    use crate::fault::Exit;
    use crate::follower::Facts;
    use crate::io::lineage;

    fn unasked() -> Result<Option<String>, Fault> {
        panic!("the journal says who it was")
    }

    /// A directory with a history and a state; returns its lineage.
    fn used(path: &Path) -> Lineage {
        let directory = Directory::open(path).unwrap();
        let lineage = lineage::open(&directory.ledger).unwrap();
        let pages = directory.pages(&lineage.id, Seq(0)).unwrap();
        pages.put_small("mark", b"old").unwrap();
        pages.store().flush().unwrap();
        let fact = ("cell/00001".to_owned(), Some("old".to_owned()));
        directory.ledger.set(vec![fact], true).unwrap();
        lineage
    }

    /// What an open finds: the lineage, and whether facts and state are the old ones.
    fn found(path: &Path) -> (Lineage, bool) {
        let directory = Directory::open(path).unwrap();
        let lineage = lineage::open(&directory.ledger).unwrap();
        let pages = directory.pages(&lineage.id, Seq(0)).unwrap();
        let facts = directory.ledger.get("cell/00001").is_some();
        let state = pages.small("mark").unwrap().is_some();
        assert_eq!(facts, state, "the old directory or the new one");
        for name in [NEW, OLD] {
            assert!(!path.join(name).exists(), "{name} is rubbish");
        }
        (lineage, facts)
    }

    #[test]
    fn r32_reset_makes_a_directory_that_names_the_old_one_as_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let old = used(dir.path());
        fs::create_dir(dir.path().join("topics")).unwrap();
        let done = reset(dir.path(), &unasked).unwrap();
        assert_eq!(done.lineage.predecessor.as_ref(), Some(&old.id));
        assert_ne!(
            (&done.lineage.id, done.lineage.hash_seed),
            (&old.id, old.hash_seed)
        );
        assert_eq!(found(dir.path()), (done.lineage.clone(), false));
        assert!(
            dir.path().join("topics").exists(),
            "the topic log is what was published"
        );
        // Once more, before the new one published anything.
        let again = reset(dir.path(), &unasked).unwrap();
        assert!(again.lineage.replaces(&old.id) && again.lineage.replaces(&done.lineage.id));
    }

    #[test]
    fn r32_crash_at_any_step_of_a_reset_leaves_the_old_directory_or_the_new_one() {
        type Step = fn(&Path);
        let steps: [Step; 5] = [
            // Within step 1: the new journal has no segment yet.
            |path| fs::create_dir(path.join(NEW)).unwrap(),
            |path| {
                settle(path).unwrap();
                let (past, _) = past(path, &unasked).unwrap();
                prepare(path, &past).unwrap();
            },
            |path| rename(path, JOURNAL, OLD).unwrap(),
            |path| {
                let mut within = fs::read_dir(path.join(STATE)).unwrap();
                let first = within.next().unwrap().unwrap().path();
                match first.is_dir() {
                    true => fs::remove_dir_all(first).unwrap(),
                    false => fs::remove_file(first).unwrap(),
                }
            },
            |path| {
                remove(path, STATE).unwrap();
                rename(path, NEW, JOURNAL).unwrap();
            },
        ];
        for crash in 0..=steps.len() {
            let dir = tempfile::tempdir().unwrap();
            let old = used(dir.path());
            steps[..crash].iter().for_each(|step| step(dir.path()));
            let (lineage, is_old) = found(dir.path());
            assert_eq!(is_old, crash < 3, "after {crash} steps");
            if is_old {
                assert_eq!(lineage, old);
            } else {
                assert_eq!(lineage.predecessor, Some(old.id));
            }
        }
    }

    #[test]
    fn r32_a_reset_waits_for_nobody_and_needs_something_to_reset() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = reset(&dir.path().join("none"), &unasked).unwrap_err();
        assert_eq!(nothing.exit, Exit::Directory);
        assert!(
            reset(dir.path(), &unasked)
                .unwrap_err()
                .message
                .contains("nothing to reset")
        );
        used(dir.path());
        let _running = Directory::open(dir.path()).unwrap();
        let refused = reset(dir.path(), &unasked).unwrap_err();
        assert!(
            refused.message.contains("another deltapoll process"),
            "{refused}"
        );
    }

    #[test]
    fn r32_a_damaged_journal_is_replaced_by_whoever_published_last() {
        let dir = tempfile::tempdir().unwrap();
        used(dir.path());
        for entry in fs::read_dir(dir.path().join(JOURNAL)).unwrap() {
            fs::write(entry.unwrap().path(), b"no journal").unwrap();
        }
        assert!(Directory::open(dir.path()).is_err());
        let done = reset(dir.path(), &|| Ok(Some("theirs".into()))).unwrap();
        assert!(done.damaged.is_some());
        assert_eq!(done.lineage.predecessor.as_deref(), Some("theirs"));
        assert_eq!(found(dir.path()), (done.lineage, false));
    }
}

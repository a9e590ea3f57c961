//! Where a directory is made again: beside what is to be, then moved into place.
//!
//! The order, each step durable before the next:
//!
//! 1. `rebuild.new/journal` and `rebuild.new/state` are made, whole;
//! 2. `rebuild.new/state` becomes `state`;
//! 3. `rebuild.new/journal` becomes `journal`: **the rebuild has happened**;
//! 4. `rebuild.new` is deleted.
//!
//! All of it happens within the directory, which may be a mount point, or the only place that may be
//! written. With just a store to make, it is `state.new`, and `state` becomes `state.old` in between.
//!
//! Safety: without `journal` there is nothing that a run could go on with, and it refuses while
//! `rebuild.new` is there; the next rebuild begins over. Whoever opens the directory calls [`settle`].

use std::fs;
use std::path::{Path, PathBuf};

use deltapoll_state::fail;
use deltapoll_state::lock::Lock;

use crate::fault::Fault;

const JOURNAL: &str = "journal";
const STATE: &str = "state";
const NEW: &str = "rebuild.new";
const STATE_NEW: &str = "state.new";
const STATE_OLD: &str = "state.old";
/// What an empty directory may have: our lock, and what file systems put there.
const NOTHING: [&str; 2] = ["LOCK", "lost+found"];

/// A directory that is being made again, and that this process has for itself.
pub struct Site {
    path: PathBuf,
    _lock: Lock,
}

impl Site {
    /// Takes `path`, which must be absent or empty, but for what an earlier rebuild left.
    ///
    /// # Errors
    /// When something is there (exit 4), or another process is at work there.
    pub fn claim(path: &Path) -> Result<Site, Fault> {
        fs::create_dir_all(path).map_err(|error| failed("make", path, &error))?;
        let lock = Lock::acquire(path).map_err(|error| Fault::directory(error.to_string()))?;
        let begun = path.join(NEW).exists() && !path.join(JOURNAL).exists();
        for entry in fs::read_dir(path).map_err(|error| failed("list", path, &error))? {
            let name = entry
                .map_err(|error| failed("list", path, &error))?
                .file_name();
            let ours = begun && (name == NEW || name == STATE);
            if !ours && !NOTHING.iter().any(|nothing| name == *nothing) {
                return Err(Fault::directory(format!(
                    "{} is not empty ({}): `rebuild` makes a whole directory in the place of one that is \
                     lost; move it away first, or, where only its state is damaged, say `deltapoll \
                     rebuild --state-only`",
                    path.display(),
                    Path::new(&name).display()
                )));
            }
        }
        let site = Site {
            path: path.to_owned(),
            _lock: lock,
        };
        site.clear()?;
        Ok(site)
    }

    /// Removes what was made so far.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> Result<(), Fault> {
        // IMPORTANT: the mark of what is half made goes last.
        remove(&self.path, STATE)?;
        remove(&self.path, NEW)
    }

    /// Where something is made.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(NEW).join(name)
    }

    /// Makes the place for it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> Result<(), Fault> {
        let new = self.path.join(NEW);
        fs::create_dir_all(&new).map_err(|error| failed("make", &new, &error))?;
        sync(&self.path)
    }

    /// Moves what was made into place.
    ///
    /// # Errors
    /// When it cannot be moved; then the rebuild has not happened.
    pub fn finish(&self) -> Result<(), Fault> {
        sync(&self.path.join(NEW))?;
        rename(&self.at(STATE), &self.path.join(STATE))?;
        sync(&self.path)?;
        fail::step("rebuild.state");
        // IMPORTANT: last; a journal without its state would have to be refused.
        rename(&self.at(JOURNAL), &self.path.join(JOURNAL))?;
        sync(&self.path)?;
        fail::step("rebuild.renamed");
        remove(&self.path, NEW)
    }
}

/// Where a store is made in the place of `path`'s; empty.
///
/// # Errors
/// When what an earlier attempt left cannot be removed.
pub fn begin_state(path: &Path) -> Result<PathBuf, Fault> {
    remove(path, STATE_NEW)?;
    Ok(path.join(STATE_NEW))
}

/// Puts the store that was made in the place of the one that was there, if any.
///
/// # Errors
/// When it cannot be moved.
pub fn finish_state(path: &Path) -> Result<(), Fault> {
    let (state, old) = (path.join(STATE), path.join(STATE_OLD));
    remove(path, STATE_OLD)?;
    if state.exists() {
        rename(&state, &old)?;
    } else {
        // What is there tells `settle` that the new one is whole.
        fs::create_dir_all(&old).map_err(|error| failed("make", &old, &error))?;
    }
    sync(path)?;
    fail::step("rebuild.state");
    rename(&path.join(STATE_NEW), &state)?;
    sync(path)?;
    fail::step("rebuild.renamed");
    remove(path, STATE_OLD)
}

/// Finishes or undoes what a crash interrupted; to be called with the lock held, before anything in the
/// directory is opened.
///
/// # Errors
/// When a directory is half made (exit 4), or it cannot be written.
pub fn settle(path: &Path) -> Result<(), Fault> {
    let there = |name: &str| path.join(name).exists();
    if there(NEW) && !there(JOURNAL) {
        return Err(Fault::directory(format!(
            "{} is half made: a `deltapoll rebuild` was interrupted; say it again",
            path.display()
        )));
    }
    remove(path, NEW)?;
    if !there(STATE) && there(STATE_NEW) && there(STATE_OLD) {
        rename(&path.join(STATE_NEW), &path.join(STATE))?;
        sync(path)?;
    }
    if there(STATE) {
        remove(path, STATE_NEW)?;
        remove(path, STATE_OLD)?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    fs::rename(from, to).map_err(|error| failed("rename", from, &error))
}

fn remove(path: &Path, name: &str) -> Result<(), Fault> {
    let gone = path.join(name);
    let removed = match fs::symlink_metadata(&gone) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if !found.is_dir() => fs::remove_file(&gone),
        _ => fs::remove_dir_all(&gone),
    };
    removed.map_err(|error| failed("remove", &gone, &error))?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), Fault> {
    let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed("sync", path, &error))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::directory(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Exit;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "LOCK").collect();
        names.sort();
        names
    }

    fn make(site: &Site) {
        site.begin().unwrap();
        for name in [JOURNAL, STATE, "spool"] {
            fs::create_dir_all(site.at(name)).unwrap();
        }
    }

    #[test]
    fn r35_crash_at_any_step_leaves_nothing_that_a_run_would_take_for_a_directory() {
        type Step = fn(&Site);
        let steps: [Step; 4] = [
            |site| site.begin().unwrap(),
            make,
            |site| rename(&site.at(STATE), &site.path.join(STATE)).unwrap(),
            |site| rename(&site.at(JOURNAL), &site.path.join(JOURNAL)).unwrap(),
        ];
        for crash in 1..=steps.len() {
            let dir = tempfile::tempdir().unwrap();
            let site = Site::claim(dir.path()).unwrap();
            steps[..crash].iter().for_each(|step| step(&site));
            drop(site);
            if crash == steps.len() {
                settle(dir.path()).unwrap();
                assert_eq!(names(dir.path()), [JOURNAL, STATE]);
                let refused = Site::claim(dir.path()).err().unwrap();
                assert!(refused.message.contains("move it away"), "{refused}");
                continue;
            }
            let half = settle(dir.path()).unwrap_err();
            assert_eq!(half.exit, Exit::Directory);
            assert!(half.message.contains("say it again"), "{half}");
            let site = Site::claim(dir.path()).unwrap();
            assert_eq!(names(dir.path()), [""; 0], "after {crash} steps");
            make(&site);
            site.finish().unwrap();
            assert_eq!(names(dir.path()), [JOURNAL, STATE]);
        }
    }

    #[test]
    fn r35_crash_while_a_store_takes_the_place_of_another_leaves_one_of_them() {
        for before in [true, false] {
            for crash in 0..4 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path();
                let put = |name: &str, mark: &str| {
                    fs::create_dir_all(path.join(name)).unwrap();
                    fs::write(path.join(name).join(mark), "").unwrap();
                };
                if before {
                    put(STATE, "old");
                }
                put(STATE_NEW, "new");
                if crash > 0 {
                    match before {
                        true => rename(&path.join(STATE), &path.join(STATE_OLD)).unwrap(),
                        false => fs::create_dir(path.join(STATE_OLD)).unwrap(),
                    }
                }
                if crash > 1 {
                    rename(&path.join(STATE_NEW), &path.join(STATE)).unwrap();
                }
                if crash > 2 {
                    fs::remove_dir_all(path.join(STATE_OLD)).unwrap();
                }
                settle(path).unwrap();
                let wanted = if crash > 0 { "new" } else { "old" };
                if crash > 0 || before {
                    assert_eq!(names(path), [STATE]);
                    assert_eq!(names(&path.join(STATE)), [wanted]);
                }
                let new = begin_state(path).unwrap();
                put(STATE_NEW, "third");
                assert!(new.exists());
                finish_state(path).unwrap();
                assert_eq!(names(&path.join(STATE)), ["third"]);
                assert_eq!(names(path), [STATE]);
            }
        }
    }

    #[test]
    fn r35_a_directory_with_anything_in_it_is_not_empty() {
        for name in ["journal", "state", "topics", "archive", "reserve"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("lost+found")).unwrap();
            fs::create_dir(dir.path().join(name)).unwrap();
            let refused = Site::claim(dir.path()).err().unwrap();
            assert_eq!(refused.exit, Exit::Directory);
            assert!(refused.message.contains(name), "{refused}");
            fs::remove_dir(dir.path().join(name)).unwrap();
            Site::claim(dir.path()).unwrap();
        }
    }
}

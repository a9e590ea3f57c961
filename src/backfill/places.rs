//! Where snapshots are stored, and what is there: files, directories, prefixes of buckets.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tokio::runtime::Handle;

use crate::config::{Config, secret};
use crate::io::object::{Listed, Objects};

use super::pattern::{Pattern, split};
use super::read::Form;

/// Where a snapshot is stored.
#[derive(Clone, Debug)]
pub enum Location {
    /// In a file.
    File(PathBuf),
    /// In a bucket, under a name.
    Object(Arc<Objects>, String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => write!(f, "{}", path.display()),
            Location::Object(objects, name) => {
                write!(f, "{}/{name}", secret::address(objects.url()))
            }
        }
    }
}

/// What is there.
pub struct Looked {
    /// Which names are meant.
    pub pattern: Option<Pattern>,
    /// In no order.
    pub files: Vec<(Listed, Location)>,
    /// Whether it is a single file, which is named.
    pub only: bool,
}

/// Opens what is stored there.
///
/// # Errors
/// When it is not there, or cannot be opened.
pub fn open(location: &Location) -> Result<Box<dyn Read + Send>, String> {
    match location {
        Location::File(path) => match std::fs::File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(format!("it cannot be opened: {error}")),
        },
        Location::Object(objects, name) => match objects.read(name) {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err("it is not there any more".into()),
            Err(trouble) => Err(trouble.message),
        },
    }
}

/// Looks through a path, a pattern of paths, or a prefix of a bucket.
///
/// # Errors
/// When it is none of these, or cannot be read.
pub fn look(config: &Config, path: &str, runtime: &Handle) -> Result<Looked, String> {
    match path.split_once("://") {
        None => in_directory(path),
        Some(("file", path)) => in_directory(path),
        Some((scheme @ ("gs" | "s3"), _)) => in_bucket(config, scheme, path, runtime),
        Some(_) => {
            Err("write a path, file:///path, gs://bucket/prefix or s3://bucket/prefix".into())
        }
    }
}

fn in_bucket(
    config: &Config,
    scheme: &str,
    path: &str,
    runtime: &Handle,
) -> Result<Looked, String> {
    let last = path.trim_end_matches('/').rsplit_once('/');
    let (under, pattern, only) = match (split(path), last) {
        (Some((under, pattern)), _) => (under, Some(Pattern::parse(pattern)?), None),
        (None, Some((under, name))) if Form::of(name).is_some() => (under, None, Some(name)),
        (None, _) => (path, None, None),
    };
    // The archive's credentials, where it is of the same kind; the environment's otherwise.
    let archive = config.archive.as_ref();
    let archive = archive.filter(|a| a.url.starts_with(&format!("{scheme}://")));
    let options = archive.map(|a| a.options.clone()).unwrap_or_default();
    let objects = Objects::open(under, &options, runtime.clone());
    let objects = objects.map_err(|fault| fault.message.replace("archive.url ", ""))?;
    let mut listed = Vec::new();
    match only {
        Some(name) => listed.extend(objects.stat(name).map_err(|trouble| trouble.message)?),
        None => {
            let each = |file| {
                listed.push(file);
                ControlFlow::Continue(())
            };
            objects.list("", each).map_err(|trouble| trouble.message)?;
        }
    }
    let objects = Arc::new(objects);
    let located = listed.into_iter().map(|file| {
        let location = Location::Object(objects.clone(), file.name.clone());
        (file, location)
    });
    Ok(Looked {
        pattern,
        files: located.collect(),
        only: only.is_some(),
    })
}

fn in_directory(path: &str) -> Result<Looked, String> {
    // What is there is meant as it is, whatever is in its name.
    let there = std::fs::metadata(path);
    let mut files = Vec::new();
    let (pattern, only) = match (there, split(path)) {
        (Ok(meta), _) if meta.is_dir() => {
            walk(Path::new(path), "", usize::MAX, &mut files)?;
            (None, false)
        }
        (Ok(meta), _) => {
            let path = Path::new(path);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push((
                listed(name.into_owned(), &meta),
                Location::File(path.to_owned()),
            ));
            (None, true)
        }
        (Err(_), Some((under, pattern))) => {
            // Only `**` goes on into directories below what the pattern names.
            let levels = match pattern.contains("**") {
                true => usize::MAX,
                false => pattern.matches('/').count(),
            };
            let pattern = Pattern::parse(pattern)?;
            let under = if under.is_empty() { "." } else { under };
            walk(Path::new(under), "", levels, &mut files)?;
            (Some(pattern), false)
        }
        (Err(error), None) => return Err(error.to_string()),
    };
    Ok(Looked {
        pattern,
        files,
        only,
    })
}

/// Finds the files in a directory and `levels` below it. Links to directories are not followed: they may
/// lead back.
fn walk(
    directory: &Path,
    prefix: &str,
    levels: usize,
    files: &mut Vec<(Listed, Location)>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", directory.display());
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(failed)?.is_dir() {
            if levels > 0 {
                walk(&path, &format!("{name}/"), levels - 1, files)?;
            }
            continue;
        }
        // A link that leads nowhere is a file that cannot be read: told when its turn comes.
        let meta = std::fs::metadata(&path)
            .or_else(|_| entry.metadata())
            .map_err(failed)?;
        if !meta.is_dir() {
            files.push((listed(name, &meta), Location::File(path)));
        }
    }
    Ok(())
}

fn listed(name: String, meta: &std::fs::Metadata) -> Listed {
    let modified = meta.modified().ok();
    let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Listed {
        name,
        size: meta.len(),
        modified: modified.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
    }
}

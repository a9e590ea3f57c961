//! Which stored snapshots there are, of which cells, and in which order.
//!
//! Files, directories and prefixes of buckets are looked through once, at the start; what is read is
//! decided then, and what is not is counted. Snapshots come in order of their time, then of their name.

use std::collections::{BTreeMap, BTreeSet};

use tokio::runtime::Handle;

use crate::config::cell::{Cell, expand};
use crate::config::{Config, secret};
use crate::fault::Fault;
use crate::io::json::pointer::Pointer;
use crate::snapshot::Place;

use super::archive::{self, Archive, Wanted};
use super::pattern::{Pattern, Said};
use super::places::{self, Location, Looked};
use super::read::Form;

/// One stored snapshot.
#[derive(Clone, Debug)]
pub struct Input {
    /// The cell's place among all cells.
    pub index: usize,
    /// When it was polled, and its name below what was looked through.
    pub place: Place,
    /// Bytes as it is stored.
    pub size: u64,
    /// How entries are written in it.
    pub form: Form,
    /// Where it is.
    pub location: Location,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Inputs {
    /// In order.
    pub files: Vec<Input>,
    /// An archive of changes; then there are no files.
    pub archive: Option<Archive>,
    /// Names that do not match, or are not of a kind that is read.
    pub unmatched: u64,
    /// Files of cells that are not configured, by cell.
    pub foreign: BTreeMap<String, u64>,
    /// Files that the state is past.
    pub past: u64,
    /// Whether the time is that of the file.
    pub by_file_time: bool,
}

/// A source and its cells.
struct Source<'a> {
    name: &'a str,
    /// With their place among all cells.
    cells: Vec<(usize, Cell)>,
    /// Vars with several values: a name has to say which.
    several: BTreeSet<&'a str>,
}

/// Finds the snapshots of `source` (the only one, where none is named) under every one of `paths`.
///
/// # Errors
/// When a path or pattern is wrong, is not there, or does not say which cell its files are of.
pub fn find(
    config: &Config,
    source: Option<&str>,
    paths: &[String],
    runtime: &Handle,
) -> Result<Inputs, Fault> {
    let source = chosen(config, source)?;
    let mut inputs = Inputs::default();
    for path in paths {
        let found = look(config, &source, path, runtime, &mut inputs);
        let shown = || match path.contains("://") {
            true => secret::address(path),
            false => path.clone(),
        };
        found.map_err(|reason| Fault::usage(format!("{}: {reason}", shown())))?;
        if inputs.archive.is_some() && paths.len() > 1 {
            return Err(Fault::usage(format!(
                "{}: it is an archive of changes: those are read alone, without other SOURCEs",
                shown()
            )));
        }
    }
    inputs.files.sort_by(|a, b| a.place.cmp(&b.place));
    let mut seen = BTreeSet::new();
    inputs
        .files
        .retain(|file| seen.insert(file.location.to_string()));
    Ok(inputs)
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<Source<'a>, Fault> {
    let known = || config.source.keys().map(String::as_str).collect::<Vec<_>>();
    let name = match name {
        Some(name) => match config.source.get_key_value(name) {
            Some((name, _)) => name,
            None => {
                return Err(Fault::usage(format!(
                    "--source {name}: there is no such source; the configuration has: {}",
                    known().join(", ")
                )));
            }
        },
        None if config.source.len() == 1 => config.source.keys().next().expect("there is one"),
        None => {
            return Err(Fault::usage(format!(
                "say which source the snapshots are of: --source, one of: {}",
                known().join(", ")
            )));
        }
    };
    let mut cells = Vec::new();
    let mut index = 0;
    for (other, source) in &config.source {
        for cell in expand(other, source) {
            if other == name {
                cells.push((index, cell));
            }
            index += 1;
        }
    }
    let vars = config.source[name].vars.iter();
    let several = vars.filter(|(_, values)| values.len() > 1);
    Ok(Source {
        name,
        cells,
        several: several.map(|(name, _)| name.as_str()).collect(),
    })
}

impl Source<'_> {
    /// The cell of `said`; what is not said has one value.
    fn cell(&self, said: &Said) -> Result<usize, String> {
        let is =
            |cell: &Cell| (said.vars.iter()).all(|(var, value)| cell.vars.get(var) == Some(value));
        match self.cells.iter().find(|(_, cell)| is(cell)) {
            Some((index, _)) => Ok(*index),
            None => {
                let said = said
                    .vars
                    .iter()
                    .map(|(var, value)| format!("{var} = {value}"));
                Err(said.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// What an archive is read for.
    fn wanted(&self, config: &Config) -> Result<Wanted, String> {
        let keys = config.source[self.name].key.iter();
        Ok(Wanted {
            source: self.name.to_owned(),
            topic: config.topic(self.name).to_owned(),
            cells: self.cells.clone(),
            keys: keys
                .map(|key| Pointer::parse(key))
                .collect::<Result<_, _>>()?,
            body_max: config.limits.body_max.0,
        })
    }

    /// Whether a pattern with these vars says enough, and nothing that is not there.
    fn check<'a>(&self, vars: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let vars: BTreeSet<&str> = vars.collect();
        let known = &self.cells[0].1.vars;
        if let Some(unknown) = vars.iter().find(|var| !known.contains_key(**var)) {
            return Err(format!(
                "source {} has no var '{unknown}'; it has: {}",
                self.name,
                known.keys().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        if let Some(missing) = self.several.iter().find(|var| !vars.contains(**var)) {
            let all: Vec<String> = self
                .several
                .iter()
                .map(|var| format!("{{{var}}}"))
                .collect();
            return Err(format!(
                "source {} has several values for '{missing}', and nothing says which one a file is of: write \
                 a pattern, for example {}/{{time:%Y-%m-%dT%H%M%S}}.json",
                self.name,
                all.join("/")
            ));
        }
        Ok(())
    }
}

fn look(
    config: &Config,
    source: &Source<'_>,
    path: &str,
    runtime: &Handle,
    inputs: &mut Inputs,
) -> Result<(), String> {
    let Looked {
        pattern,
        files,
        only,
    } = places::look(config, path, runtime)?;
    if pattern.is_none()
        && !only
        && let Some(lineage) = archive::lineage(&files)?
    {
        let all = files.len() as u64;
        let archive = Archive::of(files, lineage, source.wanted(config)?)?;
        inputs.unmatched += all - archive.objects();
        inputs.archive = Some(archive);
        return Ok(());
    }
    source.check(pattern.iter().flat_map(Pattern::vars))?;
    inputs.by_file_time |= !pattern.as_ref().is_some_and(Pattern::has_time);
    let (before, mut unmatched, mut foreign) = (inputs.files.len(), 0, 0);
    for (file, location) in files {
        let name = file.name.rsplit('/').next().unwrap_or_default();
        let said = match &pattern {
            Some(pattern) => {
                let read = pattern.read(&file.name);
                read.map_err(|reason| format!("{location}: {reason}"))?
            }
            None => {
                let read = only || (!name.starts_with('.') && Form::of(name).is_some());
                read.then(Said::default)
            }
        };
        let Some(said) = said else {
            unmatched += 1;
            continue;
        };
        let index = match source.cell(&said) {
            Ok(index) => index,
            Err(cell) => {
                foreign += 1;
                *inputs.foreign.entry(cell).or_default() += 1;
                continue;
            }
        };
        inputs.files.push(Input {
            index,
            place: Place {
                polled_at: said.polled_at.unwrap_or(file.modified),
                name: Some(file.name.clone()),
            },
            size: file.size,
            form: Form::of(name).unwrap_or(Form::Json),
            location,
        });
    }
    inputs.unmatched += unmatched;
    if inputs.files.len() == before && foreign == 0 {
        let hint = pattern.as_ref().map_or("", Pattern::hint);
        return Err(match unmatched {
            0 => "there is nothing".into(),
            1 => format!("the one file there does not match{hint}"),
            other => format!("none of the {other} files there matches{hint}"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVERAL: &str = "name = \"n\"\n[source.s]\nurl = \"http://h/{r}/{q}\"\nkey = [\"/id\"]\n\
        vars = { r = [\"kr\", \"na1\"], q = [\"SOLO\"] }\nrecord_key = \"{r}:{key}\"\n";
    const SINGLE: &str = "name = \"n\"\n[source.s]\nurl = \"http://h/\"\nkey = [\"/id\"]\n";

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "[]").unwrap();
        }
        dir
    }

    fn find_in(text: &str, dir: &tempfile::TempDir, paths: &[&str]) -> Result<Inputs, String> {
        let config = crate::config::parse(text, "test").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let under = |path: &&str| format!("{}/{path}", dir.path().display());
        let paths: Vec<String> = paths.iter().map(under).collect();
        find(&config, None, &paths, runtime.handle()).map_err(|fault| fault.message)
    }

    fn names(inputs: &Inputs) -> Vec<(usize, &str)> {
        let name = |file: &'_ Input| file.place.name.clone().unwrap();
        let named = inputs.files.iter().map(|file| (file.index, name(file)));
        named.map(|(index, name)| (index, &*name.leak())).collect()
    }

    #[test]
    fn snapshots_come_in_order_of_time_then_name_each_of_its_cell() {
        let dir = directory(&[
            "kr/2026-01-02T000000.json",
            "na1/2026-01-01T000000.json.gz",
            "na1/2026-01-02T000000.json",
            "euw1/2026-01-01T000000.json",
            "kr/notes.txt",
            "kr/deep/2026-01-02T000000.json",
        ]);
        let inputs = find_in(SEVERAL, &dir, &["{r}/{time:%Y-%m-%dT%H%M%S}.json*"]).unwrap();
        let found = names(&inputs);
        assert_eq!(
            found,
            [
                (1, "na1/2026-01-01T000000.json.gz"),
                (0, "kr/2026-01-02T000000.json"),
                (1, "na1/2026-01-02T000000.json"),
            ]
        );
        assert_eq!(inputs.unmatched, 1);
        assert_eq!(inputs.foreign["r = euw1"], 1);
        assert!(!inputs.by_file_time);
    }

    #[test]
    fn a_directory_is_looked_through_for_what_can_be_read() {
        let dir = directory(&["a.json", "b/c.ndjson.zst", ".hidden.json", "readme.md"]);
        let inputs = find_in(SINGLE, &dir, &["", "a.json"]).unwrap();
        let mut found = names(&inputs);
        found.sort_unstable();
        assert_eq!(found, [(0, "a.json"), (0, "b/c.ndjson.zst")], "a.json once");
        assert_eq!(inputs.unmatched, 2);
        assert!(inputs.by_file_time);
        let form = |name: &str| {
            inputs
                .files
                .iter()
                .find(|f| f.place.name.as_deref() == Some(name))
        };
        assert_eq!(form("b/c.ndjson.zst").unwrap().form, Form::Lines);
    }

    #[test]
    fn what_cannot_be_found_is_said_with_the_remedy() {
        let dir = directory(&["a.json", "{odd}.json", "x/2026.json"]);
        for (text, path, told) in [
            (SINGLE, "none.json", "No such file"),
            (SINGLE, "*.avro", "none of the 2 files there matches"),
            (SINGLE, "{r}.json", "has no var 'r'"),
            (SINGLE, "{time:%F}/{time:%F}", "once"),
            (SINGLE, "x/{time}.json", "say how else it is written"),
            (SEVERAL, "a.json", "nothing says which one a file is of"),
            (SEVERAL, "{q}.json", "several values for 'r'"),
        ] {
            let error = find_in(text, &dir, &[path]).unwrap_err();
            assert!(error.contains(told), "{path}: {error}");
            assert!(
                error.starts_with(&dir.path().display().to_string()),
                "{error}"
            );
        }
        let odd = find_in(SINGLE, &dir, &["{odd}.json"]).unwrap();
        assert_eq!(
            names(&odd),
            [(0, "{odd}.json")],
            "it is there under this very name"
        );
        let config = crate::config::parse(SINGLE, "test").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let paths = ["ftp://x/y".to_owned()];
        let error = find(&config, Some("t"), &paths, runtime.handle()).unwrap_err();
        assert!(
            error.message.contains("the configuration has: s"),
            "{error}"
        );
        let error = find(&config, None, &paths, runtime.handle()).unwrap_err();
        assert!(error.message.contains("gs://bucket/prefix"), "{error}");
    }
}

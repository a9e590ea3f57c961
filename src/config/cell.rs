//! What a source expands to: one cell per combination of its vars.

use std::collections::BTreeMap;

use super::Source;

/// One concrete URL of a source; the scope of completeness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The source's name.
    pub source: String,
    /// The var values in order of var name, joined by commas; empty without vars.
    pub label: String,
    /// The cell's var values.
    pub vars: BTreeMap<String, String>,
    /// The address with the vars filled in.
    pub url: String,
    /// What the record key has before the entry's key.
    pub key_prefix: String,
    /// What the record key has after the entry's key.
    pub key_suffix: String,
}

/// The cells of a source that was checked.
#[must_use]
pub fn expand(name: &str, source: &Source) -> Vec<Cell> {
    let mut combinations = vec![BTreeMap::new()];
    for (var, values) in &source.vars {
        combinations = combinations
            .into_iter()
            .flat_map(|chosen: BTreeMap<String, String>| {
                values.iter().map(move |value| {
                    let mut chosen = chosen.clone();
                    chosen.insert(var.clone(), value.clone());
                    chosen
                })
            })
            .collect();
    }
    combinations
        .into_iter()
        .map(|vars| cell(name, source, vars))
        .collect()
}

fn cell(name: &str, source: &Source, vars: BTreeMap<String, String>) -> Cell {
    let fill = |text: &str| {
        vars.iter().fold(text.to_owned(), |text, (var, value)| {
            text.replace(&format!("{{{var}}}"), value)
        })
    };
    let (prefix, suffix) = source
        .record_key
        .split_once("{key}")
        .unwrap_or((&source.record_key, ""));
    Cell {
        source: name.to_owned(),
        label: vars.values().cloned().collect::<Vec<_>>().join(","),
        url: fill(&source.url),
        key_prefix: fill(prefix),
        key_suffix: fill(suffix),
        vars,
    }
}

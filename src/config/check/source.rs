//! Checks of one source: address, vars, headers, pointers, times.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Url;
use reqwest::header::HeaderName;

use crate::config::Source;
use crate::config::cell::{Part, expand, parts};
use crate::config::secret::looks_secret;

use super::{Problems, name_fault, record_key};

/// More cells than this are a slip (a million requests a minute), and would take long to list.
const CELLS_MAX: usize = 100_000;
/// A label goes into a header of every record.
const LABEL_BYTES_MAX: usize = 1024;

pub(super) fn check(name: &str, source: &Source, problems: &mut Problems) {
    if let Some(told) = name_fault(name) {
        problems.add("", format!("the name {told}"));
    }
    let vars_sound = vars(source, problems);
    url(source, vars_sound, problems);
    headers(source, problems);
    pointers(source, problems);
    record_key::check(source, problems);
    if source.every.is_zero() {
        problems.add("every", "is 0: write how long to wait, for example \"60s\"");
    }
    problems.duration("every", source.every);
    if source.removed_after == 0 {
        let told = "is 0: write 1 to remove a key at once, 2 or more to wait for as many complete \
                    snapshots without it";
        problems.add("removed_after", told);
    }
}

/// Whether the vars can be expanded.
fn vars(source: &Source, problems: &mut Problems) -> bool {
    let before = problems.found.len();
    let mut cells: usize = 1;
    for (var, values) in &source.vars {
        let field = format!("vars.{var}");
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if var.is_empty() || !var.chars().all(legal) {
            problems.add(
                &field,
                "the name is not made of ASCII letters, digits, '_' and '-'",
            );
        }
        if var == "key" {
            problems.add(
                &field,
                "the name 'key' is taken: {key} stands for the entry's key",
            );
        }
        if values.is_empty() {
            problems.add(&field, "has no values: there would be nothing to poll");
        }
        let mut seen = BTreeSet::new();
        for value in values {
            if value.is_empty() {
                problems.add(&field, "has an empty value");
            }
            if value.chars().any(char::is_control) {
                problems.add(&field, "has a value with a control character");
            }
            if !seen.insert(value) {
                problems.add(&field, format!("has '{value}' twice"));
            }
        }
        cells = cells.saturating_mul(values.len());
    }
    if cells > CELLS_MAX {
        problems.add(
            "vars",
            format!("make {cells} cells: at most {CELLS_MAX} are allowed"),
        );
    }
    let longest = |values: &Vec<String>| values.iter().map(String::len).max().unwrap_or(0) + 1;
    if source.vars.values().map(longest).sum::<usize>() > LABEL_BYTES_MAX {
        problems.add(
            "vars",
            format!("the values of a cell are longer than {LABEL_BYTES_MAX} bytes"),
        );
    }
    problems.found.len() == before
}

fn url(source: &Source, vars_sound: bool, problems: &mut Problems) {
    let before = problems.found.len();
    let mut used = BTreeSet::new();
    for part in parts(&source.url) {
        match part {
            Part::Var(var) => {
                used.insert(var);
                if !source.vars.contains_key(var) {
                    let told =
                        format!("'{{{var}}}' is not defined: write vars = {{ {var} = [\"...\"] }}");
                    problems.add("url", told);
                }
            }
            Part::Text(text) if text.contains(['{', '}']) => {
                problems.add("url", "has a brace without its partner: write {name}");
            }
            Part::Text(_) => {}
        }
    }
    for var in source.vars.keys() {
        if !used.contains(var.as_str()) {
            let told = format!("is not used: write {{{var}}} in the url, or leave it out");
            problems.add(&format!("vars.{var}"), told);
        }
    }
    if problems.found.len() > before || !vars_sound {
        return;
    }
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for cell in expand("", source) {
        if let Some(told) = address_fault(&cell.url) {
            problems.add("url", told);
            return;
        }
        if labels.insert(cell.label.clone(), cell.url).is_some() {
            let told = format!(
                "two cells are called '{}': values with commas meet",
                cell.label
            );
            problems.add("vars", told);
            return;
        }
    }
}

fn address_fault(url: &str) -> Option<String> {
    let example = "write https://host/path";
    match Url::parse(url) {
        Err(error) => Some(format!("is no address ({error}): {example}")),
        Ok(url) if !["http", "https"].contains(&url.scheme()) => {
            Some(format!("'{}://' cannot be polled: {example}", url.scheme()))
        }
        // http and https addresses always have a host.
        Ok(_) => None,
    }
}

/// What in `url` looks like a secret.
pub(super) fn secret_in_url(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("what stands before the '@'".to_owned());
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, value)| looks_secret(name) && !value.starts_with('{'))
        .map(|(name, _)| format!("'{name}'"))
}

fn headers(source: &Source, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for name in source.headers.keys() {
        let field = format!("headers.{name}");
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            problems.add(&field, "is no name of an HTTP header");
            continue;
        };
        let reason = match header.as_str() {
            "if-none-match"
            | "if-modified-since"
            | "if-match"
            | "if-unmodified-since"
            | "if-range"
            | "range" => "an answer to it is not the whole cell",
            "connection" | "content-length" | "transfer-encoding" | "te" | "upgrade" => {
                "it belongs to the connection"
            }
            "accept-encoding" => "it asks for what it can decompress",
            _ => "",
        };
        if !reason.is_empty() {
            problems.add(
                &field,
                format!("deltapoll sets this header itself: {reason}"),
            );
        }
        if !seen.insert(header.as_str().to_owned()) {
            problems.add(
                &field,
                "is there twice: upper and lower case are the same to HTTP",
            );
        }
    }
}

fn pointers(source: &Source, problems: &mut Problems) {
    if let Some(told) = pointer_fault(&source.records) {
        problems.add("records", told);
    }
    if source.key.is_empty() {
        let told = "is empty: write where an entry's key is, for example [\"/id\"]";
        problems.add("key", told);
    }
    for pointer in &source.key {
        if let Some(told) = pointer_fault(pointer) {
            problems.add("key", told);
        }
    }
    for pointer in &source.ignore {
        if pointer.is_empty() {
            problems.add(
                "ignore",
                "'' is the whole entry: no change would ever count",
            );
        } else if let Some(told) = pointer_fault(pointer) {
            problems.add("ignore", told);
        }
    }
}

/// Why `pointer` is no JSON pointer (RFC 6901).
fn pointer_fault(pointer: &str) -> Option<String> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Some(format!(
            "'{pointer}' is no JSON pointer: write '/{}'",
            pointer.trim_start_matches("$.").replace('.', "/")
        ));
    }
    let mut escapes = pointer.split('~').skip(1);
    escapes.any(|rest| !rest.starts_with(['0', '1'])).then(|| {
        format!("'{pointer}' is no JSON pointer: write '~' as '~0', and '/' within a name as '~1'")
    })
}

//! From the text of `deltapoll.toml` to a [`Config`], with errors that say where: file, line, section,
//! field, and what to write instead. Values are not repeated where they may be secrets.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::fault::Fault;

use super::Config;
use super::secret;

/// Sections that are tables of their own.
const SECTIONS: [&str; 5] = ["kafka", "local", "archive", "checkpoint", "limits"];

/// Fields that stand before the first section.
const TOP_FIELDS: [&str; 3] = ["name", "data_dir", "on_cell_removed"];

/// Reads the file at `path`; see [`parse`].
///
/// # Errors
/// When it cannot be read, or is no configuration (exit 2).
pub fn read(path: &Path) -> Result<Config, Fault> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fault::usage(format!(
            "cannot read the configuration {origin}: {error}; the directory examples/ has some to \
             start from"
        ))
    })?;
    parse(&text, &origin)
}

/// Reads `text`, whose errors are said to be in `origin`. What looks like a secret in it is not
/// printed from then on.
///
/// # Errors
/// When it is not TOML, or a field is unknown, missing or of a wrong type (exit 2).
pub fn parse(text: &str, origin: &str) -> Result<Config, Fault> {
    let config: Config =
        toml::from_str(text).map_err(|error| Fault::usage(explain(&error, text, origin)))?;
    keep_literals(&config);
    Ok(config)
}

/// Secrets that somebody wrote into the file are not printed either (G5).
pub(super) fn keep_literals(config: &Config) {
    let headers = config.source.values().flat_map(|source| &source.headers);
    let properties = config.kafka.iter().flat_map(|kafka| &kafka.properties);
    let options = config.archive.iter().flat_map(|archive| &archive.options);
    for (name, text) in headers.chain(properties).chain(options) {
        let value = text.written();
        if text.is_literal() && secret::looks_secret(name) && !["true", "false"].contains(&value) {
            secret::keep(value);
            // "Bearer abc": the token may turn up alone.
            value
                .split_once(' ')
                .into_iter()
                .for_each(|(_, token)| secret::keep(token));
        }
    }
    let brokers = config
        .kafka
        .iter()
        .flat_map(|kafka| kafka.bootstrap.split(','));
    let archives = config.archive.iter().map(|archive| archive.url.as_str());
    for address in brokers.chain(archives) {
        keep_user(address);
    }
    for source in config.source.values() {
        let rest = keep_user(&source.url);
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            if secret::looks_secret(name) && !value.starts_with('{') {
                secret::keep(value);
            }
        }
    }
}

/// Keeps what stands before the '@' of an address, and returns what follows its scheme. Where no user
/// belongs, too: somebody may have tried.
fn keep_user(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    if let Some((user, _)) = authority.rsplit_once('@') {
        secret::keep_user(user.trim());
    }
    rest
}

fn explain(error: &toml::de::Error, text: &str, origin: &str) -> String {
    let span = error.span().unwrap_or(0..0);
    let before = text.bytes().take(span.start);
    let line = before.filter(|byte| *byte == b'\n').count() + 1;
    let place = Place::of(text, &span);
    format!(
        "{origin}:{line}: {}",
        plain(&reword(error.message(), text, &span, &place))
    )
}

/// `text` without control characters, which names in a configuration may hold: one line of a message.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// A place in the configuration, as a person would name it.
struct Place {
    /// `[source.challenger]`; empty at the top level.
    section: String,
    /// `headers.Accept`; empty for the section itself.
    field: String,
}

impl Place {
    fn of(text: &str, span: &Range<usize>) -> Place {
        let (table, _) = DeTable::parse_recoverable(text);
        let mut path = Vec::new();
        innermost(table.get_ref(), span.start, &mut Vec::new(), &mut path);
        let names = match path.first().map(String::as_str) {
            Some("source") => path.len().min(2),
            Some(section) if SECTIONS.contains(&section) => 1,
            _ => 0,
        };
        let (section, field) = path.split_at(names);
        let section = match section {
            [] => String::new(),
            names => format!("[{}]", names.join(".")),
        };
        Place {
            section,
            field: field.join("."),
        }
    }

    /// `[source.challenger] every: `
    fn prefix(&self) -> String {
        match (self.section.is_empty(), self.field.is_empty()) {
            (true, true) => String::new(),
            (true, false) => format!("{}: ", self.field),
            (false, true) => format!("{}: ", self.section),
            (false, false) => format!("{} {}: ", self.section, self.field),
        }
    }

    /// The table that holds the field.
    fn holder(&self) -> Place {
        let field = self.field.rsplit_once('.').map_or("", |(holder, _)| holder);
        Place {
            section: self.section.clone(),
            field: field.to_owned(),
        }
    }
}

/// The longest path to a key or value that spans `at`. Spans of tables do not hold those of their
/// fields, so every table is looked into.
fn innermost(table: &DeTable<'_>, at: usize, path: &mut Vec<String>, found: &mut Vec<String>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let spans = |span: Range<usize>| span.start <= at && at < span.end.max(span.start + 1);
        if (spans(key.span()) || spans(value.span())) && path.len() > found.len() {
            found.clone_from(path);
        }
        if let DeValue::Table(inner) = value.get_ref() {
            innermost(inner, at, path, found);
        }
        path.pop();
    }
}

/// serde's and toml's messages in words that name the field and the remedy.
fn reword(message: &str, text: &str, span: &Range<usize>, place: &Place) -> String {
    let prefix = place.prefix();
    if let Some((name, known)) = named(message, "unknown field ") {
        return unknown_field(name, &known, &place.holder());
    }
    if let Some((name, known)) = named(message, "unknown variant ") {
        if let [only] = known[..] {
            return format!("{prefix}'{name}' is unknown; there is only '{only}'");
        }
        let known_list = list(&known);
        let meant = nearest(name, &known)
            .map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
        return format!("{prefix}'{name}' is none of {known_list}{meant}");
    }
    if let Some((name, _)) = named(message, "missing field ") {
        let example = match name {
            "name" => "name = \"league\"",
            "url" if place.section == "[archive]" => "url = \"file:///var/lib/deltapoll/archive\"",
            "url" => "url = \"https://api.example.com/items\"",
            "key" => "key = [\"/id\"]",
            "bootstrap" => "bootstrap = \"localhost:9092\"",
            _ => "",
        };
        let example = if example.is_empty() {
            String::new()
        } else {
            format!(": write {example}")
        };
        return format!("{prefix}the field '{name}' is missing{example}");
    }
    let written = text.get(span.clone()).unwrap_or_default();
    if written.starts_with("[[") {
        return format!("{prefix}'{written}' makes a list: write single brackets");
    }
    if let Some(mismatch) = message.strip_prefix("invalid type: ") {
        return format!("{prefix}{}", wrong_type(mismatch));
    }
    if let Some(mismatch) = message.strip_prefix("invalid value: ") {
        let (found, expected) = mismatch
            .rsplit_once(", expected ")
            .unwrap_or((mismatch, ""));
        let number = found.split('`').nth(1).unwrap_or(found);
        return format!(
            "{prefix}{number} is out of place: it must be {}",
            kind(expected)
        );
    }
    if message == "duplicate key" {
        return format!(
            "{}'{written}' is there twice: keep one",
            place.holder().prefix()
        );
    }
    format!("{prefix}{message}")
}

fn unknown_field(name: &str, known: &[&str], holder: &Place) -> String {
    let at = match holder.prefix() {
        prefix if prefix.is_empty() => "at the top level".to_owned(),
        prefix => format!("in {}", prefix.trim_end_matches(": ")),
    };
    if TOP_FIELDS.contains(&name) {
        return format!(
            "unknown field '{name}' {at}; it belongs at the top of the file, before the first [section]"
        );
    }
    match nearest(name, known) {
        Some(near) => format!("unknown field '{name}' {at}; did you mean '{near}'?"),
        None => format!("unknown field '{name}' {at}; there are {}", list(known)),
    }
}

/// The name after `start`, and the other names in backquotes.
fn named<'a>(message: &'a str, start: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let mut names = message.strip_prefix(start)?.split('`').skip(1).step_by(2);
    Some((names.next()?, names.collect()))
}

/// The known name that `name` was most likely meant to be.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    let best = known.iter().copied().min_by_key(|other| distance(other))?;
    let allowed = (name.chars().count() / 3).max(1);
    (distance(best) <= allowed).then_some(best)
}

fn list(names: &[&str]) -> String {
    let quoted = names.iter().map(|name| format!("'{name}'"));
    quoted.collect::<Vec<_>>().join(", ")
}

fn wrong_type(mismatch: &str) -> String {
    let (found, expected) = mismatch
        .rsplit_once(", expected ")
        .unwrap_or((mismatch, ""));
    // The value itself follows, and may be a secret.
    let found = match found.split(' ').next().unwrap_or_default() {
        "string" => "a string",
        "integer" => "a number",
        "floating" => "a fraction",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    };
    let remedy = match (expected, found) {
        ("a sequence", "a string") => ": put it in brackets",
        ("a string", _) => ": put it in quotes",
        _ => "",
    };
    format!("this is {found} where {} is wanted{remedy}", kind(expected))
}

fn kind(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

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
    let template = &source.record_key;
    let (prefix, suffix) = template.split_once("{key}").unwrap_or((template, ""));
    Cell {
        source: name.to_owned(),
        label: vars.values().cloned().collect::<Vec<_>>().join(","),
        url: fill(&source.url, &vars),
        key_prefix: fill(prefix, &vars),
        key_suffix: fill(suffix, &vars),
        vars,
    }
}

/// `template` with each `{var}` replaced by its value; values are not looked into again.
fn fill(template: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Var(name) => match vars.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("{{{name}}}")),
            },
        }
    }
    out
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Stands for itself.
    Text(&'a str),
    /// `{name}`.
    Var(&'a str),
}

/// The parts of `template`, in order. A brace without its partner is text.
#[must_use]
pub fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let Some(length) = rest[start..].find('}') else {
            break;
        };
        if start > 0 {
            parts.push(Part::Text(&rest[..start]));
        }
        parts.push(Part::Var(&rest[start + 1..start + length]));
        rest = &rest[start + length + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn a_source_expands_to_the_matrix_of_its_vars() {
        let text = "name = \"n\"\n[source.s]\nurl = \"http://{b}.x/{a}?q={b}\"\n\
                    vars = { a = [\"1\", \"2\"], b = [\"{a}\", \"y\"] }\n\
                    key = [\"/id\"]\nrecord_key = \"{a}/{b}:{key}!\"\n";
        let config = parse(text, "test").unwrap();
        let cells = expand("s", &config.source["s"]);
        let labels: Vec<_> = cells.iter().map(|cell| cell.label.as_str()).collect();
        assert_eq!(labels, ["1,{a}", "1,y", "2,{a}", "2,y"]);
        assert_eq!(
            cells[0].url, "http://{a}.x/1?q={a}",
            "a value is not a template"
        );
        assert_eq!(cells[3].key_prefix, "2/y:");
        assert_eq!(cells[3].key_suffix, "!");
    }

    #[test]
    fn braces_without_a_partner_are_text() {
        use Part::{Text, Var};
        assert_eq!(parts("a{b}{c"), [Text("a"), Var("b"), Text("{c")]);
        assert_eq!(parts("}{}"), [Text("}"), Var("")]);
        assert_eq!(parts(""), []);
    }
}

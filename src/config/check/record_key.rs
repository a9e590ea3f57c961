//! Record keys of different cells must never meet (R33): two entries with one record key would
//! overwrite each other in the topic.
//!
//! Safety: let several cells share a template. Read a record key from the left up to `{key}`: where a
//! var with several values stands, the text after it, up to the next var with several values or
//! `{key}`, has a character that is in none of the var's values, so the first such character shows
//! where the value ends. Behind `{key}` the same holds from the right. So a record key gives back
//! every value, and with each of these vars in the template, the cell.

use deltapoll_state::fail;

use crate::config::Source;
use crate::config::cell::{Part, parts};

use super::Problems;

const SEPARATORS: [&str; 6] = [":", "/", "|", ";", "~", " "];

pub(super) fn check(source: &Source, problems: &mut Problems) {
    let template = parts(&source.record_key);
    let keys = template
        .iter()
        .filter(|part| **part == Part::Var("key"))
        .count();
    if keys != 1 {
        let told = format!("'{}' must have {{key}} in it once", source.record_key);
        problems.add("record_key", told);
        return;
    }
    for part in &template {
        let unknown = match part {
            Part::Var(var) => *var != "key" && !source.vars.contains_key(*var),
            Part::Text(text) => text.contains(['{', '}']),
        };
        if unknown {
            let text = match part {
                Part::Var(var) => format!("{{{var}}}"),
                Part::Text(text) => (*text).to_owned(),
            };
            let told = format!("'{text}' is not {{key}} and none of the vars");
            problems.add("record_key", told);
            return;
        }
    }
    if let Some(told) = collision(source, &template).filter(|_| !fail::broken("r33")) {
        problems.add("record_key", told);
    }
}

/// Why the record keys of two cells could meet, and what to write instead.
fn collision(source: &Source, template: &[Part<'_>]) -> Option<String> {
    let several: Vec<&str> = source
        .vars
        .iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|(var, _)| var.as_str())
        .collect();
    let why = several
        .iter()
        .find(|var| !template.contains(&Part::Var(var)))
        .map(|var| format!("'{}' lacks {{{var}}}", source.record_key))
        .or_else(|| {
            unseparated(source, template).map(|var| {
                format!(
                    "in '{}' nothing tells where {{{var}}} ends",
                    source.record_key
                )
            })
        })?;
    let remedy = match suggestion(source, &several) {
        Some(better) => format!("write record_key = \"{better}\""),
        None => "put a character that is in no value between the vars and {key}".to_owned(),
    };
    Some(format!(
        "{why}, so that keys of different cells could meet: {remedy}"
    ))
}

/// A var with several values whose end cannot be told.
fn unseparated<'a>(source: &'a Source, template: &[Part<'a>]) -> Option<&'a str> {
    let key = template.iter().position(|part| *part == Part::Var("key"))?;
    let before = one_side(source, template[..key].iter());
    before.or_else(|| one_side(source, template[key + 1..].iter().rev()))
}

/// Goes from the outside towards `{key}`.
fn one_side<'a, 'b>(source: &'a Source, side: impl Iterator<Item = &'b Part<'a>>) -> Option<&'a str>
where
    'a: 'b,
{
    let mut open: Option<&str> = None;
    for part in side {
        match (open, constant(source, *part)) {
            (Some(var), Some(text)) if tells_end(&source.vars[var], text) => open = None,
            (_, Some(_)) => {}
            (Some(var), None) => return Some(var),
            (None, None) => match part {
                Part::Var(var) => open = Some(var),
                Part::Text(_) => {}
            },
        }
    }
    open
}

/// The text that `part` is in every cell.
fn constant<'a>(source: &'a Source, part: Part<'a>) -> Option<&'a str> {
    match part {
        Part::Text(text) => Some(text),
        Part::Var(var) => match source.vars.get(var).map(Vec::as_slice) {
            Some([only]) => Some(only),
            _ => None,
        },
    }
}

fn tells_end(values: &[String], text: &str) -> bool {
    text.chars()
        .any(|c| values.iter().all(|value| !value.contains(c)))
}

fn suggestion(source: &Source, several: &[&str]) -> Option<String> {
    let separator = SEPARATORS.into_iter().find(|separator| {
        several.iter().all(|var| {
            source.vars[*var]
                .iter()
                .all(|value| !value.contains(separator))
        })
    })?;
    let mut out = String::new();
    for var in several {
        out.push_str(&format!("{{{var}}}{separator}"));
    }
    out.push_str("{key}");
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::config::cell::expand;
    use crate::config::parse;

    fn source(vars: &str, record_key: &str) -> Source {
        let text = format!(
            "name = \"n\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\nvars = {vars}\n\
             record_key = \"{record_key}\"\n"
        );
        parse(&text, "test").unwrap().source.remove("s").unwrap()
    }

    fn told(vars: &str, record_key: &str) -> String {
        let mut problems = Problems::default();
        check(&source(vars, record_key), &mut problems);
        problems.found.join("\n")
    }

    #[test]
    fn r33_keys_that_cannot_meet_are_accepted() {
        let vars = "{ r = [\"kr\", \"euw1\"], q = [\"A_B\", \"A\"], one = [\"x\"] }";
        for record_key in [
            "{r}:{q}:{key}",
            "{r}:{key}:{q}",
            "{key}/{q}/{r}",
            "p{r}-{one}{q}{one}{key}",
            "{r}:{r}:{q}:{key}",
        ] {
            assert_eq!(told(vars, record_key), "", "{record_key}");
        }
        assert_eq!(told("{ one = [\"x\"] }", "{key}"), "");
    }

    #[test]
    fn r33_keys_that_could_meet_are_refused_with_the_key_to_write() {
        let vars = "{ r = [\"kr\", \"e:w\"], q = [\"A\", \"B\"], one = [\"x\"] }";
        for (record_key, why) in [
            ("{key}", "'{key}' lacks {q}"),
            ("{r}/{key}", "'{r}/{key}' lacks {q}"),
            (
                "{r}{q}/{key}",
                "in '{r}{q}/{key}' nothing tells where {r} ends",
            ),
            (
                "{r}/{q}{key}",
                "in '{r}/{q}{key}' nothing tells where {q} ends",
            ),
            (
                "{r}:{q}:{key}",
                "in '{r}:{q}:{key}' nothing tells where {r} ends",
            ),
            (
                "{q}/{key}{r}",
                "in '{q}/{key}{r}' nothing tells where {r} ends",
            ),
        ] {
            assert_eq!(
                told(vars, record_key),
                format!(
                    "record_key: {why}, so that keys of different cells could meet: write record_key \
                     = \"{{q}}/{{r}}/{{key}}\""
                )
            );
        }
    }

    /// Two cells can have a record key in common exactly if one's prefix begins the other's and one's
    /// suffix ends the other's.
    fn meet(source: &Source) -> bool {
        let cells = expand("s", source);
        cells.iter().enumerate().any(|(i, a)| {
            cells[..i].iter().any(|b| {
                let (p, q) = (&a.key_prefix, &b.key_prefix);
                let (s, t) = (&a.key_suffix, &b.key_suffix);
                (p.starts_with(q.as_str()) || q.starts_with(p.as_str()))
                    && (s.ends_with(t.as_str()) || t.ends_with(s.as_str()))
            })
        })
    }

    #[test]
    fn model_r33_no_accepted_record_key_lets_two_cells_meet() {
        let mut random = StdRng::seed_from_u64(33);
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut base = source("{}", "{key}");
            for var in ["a", "b", "c"] {
                let mut values = BTreeSet::new();
                for _ in 0..random.random_range(1..4) {
                    let length = random.random_range(1..3);
                    let value = (0..length).map(|_| *b"xyx:".choose(&mut random).unwrap() as char);
                    values.insert(value.collect::<String>());
                }
                base.vars.insert(var.into(), values.into_iter().collect());
            }
            let mut pieces: Vec<&str> = ["{a}", "{b}", "{c}", ":", "/", "x", "{a}", "::", "/"]
                .into_iter()
                .filter(|_| random.random_bool(0.7))
                .collect();
            pieces.sort_by_key(|_| random.random::<u32>());
            pieces.insert(random.random_range(0..=pieces.len()), "{key}");
            base.record_key = pieces.concat();
            let mut problems = Problems::default();
            check(&base, &mut problems);
            if problems.found.is_empty() {
                accepted += 1;
                let vars = &base.vars;
                assert!(!meet(&base), "round {round}: {} {vars:?}", base.record_key);
            } else {
                refused += 1;
            }
        }
        assert!(
            accepted > 500 && refused > 500,
            "{accepted} accepted, {refused} refused"
        );
    }
}

//! Which cell of the source a change belongs to: the one whose `record_key` makes its key. What belongs
//! to none is counted, and told at the end.

use crate::change::Kind;
use crate::io::avro::schema::Record;
use crate::io::json::extract;
use crate::io::json::pointer::Pointer;

use super::Wanted;

/// The cells of a source.
pub struct Cells {
    made: Vec<Made>,
    keys: Vec<Pointer>,
    /// The cell of the last change: the next one is often of the same.
    last: usize,
    /// Changes of no cell.
    pub strangers: Strangers,
}

/// How a cell's record keys are made.
struct Made {
    prefix: String,
    suffix: String,
}

/// Changes that belong to no cell.
#[derive(Debug, Default)]
pub struct Strangers {
    pub count: u64,
    /// The first of their keys, and what does not fit.
    pub first: Option<(String, &'static str)>,
}

impl Cells {
    pub fn new(wanted: &Wanted) -> Cells {
        let made = wanted.cells.iter().map(|(_, cell)| Made {
            prefix: cell.key_prefix.clone(),
            suffix: cell.key_suffix.clone(),
        });
        Cells {
            made: made.collect(),
            keys: wanted.keys.clone(),
            last: 0,
            strangers: Strangers::default(),
        }
    }

    /// The cell's place among those of the source.
    pub fn find(&mut self, record: &Record<'_>) -> Option<usize> {
        let found = self.fitting(record.key).ok_or("no cell makes such a key");
        let found = found.and_then(|(at, key)| match record.kind {
            Kind::Removed => Ok(at),
            Kind::Added | Kind::Changed if self.has_key(record, key) => Ok(at),
            Kind::Added | Kind::Changed => Err("its value has another key under this `key`"),
        });
        match found {
            Ok(at) => {
                self.last = at;
                Some(at)
            }
            Err(why) => {
                self.strangers.count += 1;
                let first = &mut self.strangers.first;
                first.get_or_insert_with(|| (record.key.to_owned(), why));
                None
            }
        }
    }

    /// The cell that makes `key` of an entry's key, and that one. Keys of two cells never meet (R33).
    fn fitting<'a>(&self, key: &'a str) -> Option<(usize, &'a str)> {
        let fits = |at: usize| Some((at, self.made.get(at)?.inner(key)?));
        fits(self.last).or_else(|| (0..self.made.len()).find_map(fits))
    }

    /// Whether the value is an entry with this key: otherwise a removal would never find it again.
    fn has_key(&self, record: &Record<'_>, key: &str) -> bool {
        let mut same = false;
        let value = record.value.unwrap_or_default().as_bytes();
        let scanned = extract::scan(value, &self.keys, |entry| {
            same = entry.key == Some(key.as_bytes());
        });
        same && scanned.is_ok_and(|counts| counts.entries == 1)
    }
}

impl Made {
    fn inner<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let inner = rest.strip_suffix(self.suffix.as_str())?;
        (!inner.is_empty()).then_some(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Epoch, Seq};
    use crate::config::cell::expand;

    #[test]
    fn a_change_belongs_to_the_cell_that_would_have_published_it_or_to_none() {
        let text = "name = \"n\"\n[source.s]\nurl = \"http://h/{r}\"\nkey = [\"/id\"]\n\
                    vars = { r = [\"kr\", \"na1\"] }\nrecord_key = \"{r}:{key}\"\n";
        let config = crate::config::parse(text, "test").unwrap();
        let cells = expand("s", &config.source["s"]);
        let mut cells = Cells::new(&Wanted {
            source: "s".into(),
            topic: "s".into(),
            cells: cells.into_iter().enumerate().collect(),
            keys: vec![Pointer::parse("/id").unwrap()],
            body_max: 0,
        });
        let mut find = |kind, key, value| {
            cells.find(&Record {
                key,
                kind,
                epoch: Epoch(1),
                seq: Seq(1),
                polled_at: 1,
                print: 0,
                value,
            })
        };
        assert_eq!(find(Kind::Added, "na1:a", Some(r#"{"id":"a"}"#)), Some(1));
        assert_eq!(find(Kind::Changed, "kr:a", Some(r#"{"id":"a"}"#)), Some(0));
        assert_eq!(find(Kind::Removed, "na1:a", None), Some(1));
        for (key, value) in [
            ("euw1:a", r#"{"id":"a"}"#),
            ("a", r#"{"id":"a"}"#),
            ("kr:", r#"{"id":""}"#),
            ("kr:a", r#"{"id":"b"}"#),
            ("kr:a", r#"{"name":"a"}"#),
            ("kr:a", r#"{"id":"a"},{"id":"a"}"#),
            ("kr:a", r#"{"id":"a""#),
        ] {
            assert_eq!(find(Kind::Added, key, Some(value)), None, "{key} {value}");
        }
        assert_eq!(find(Kind::Removed, "euw1:a", None), None);
        let told = (cells.strangers.count, cells.strangers.first);
        assert_eq!(
            told,
            (8, Some(("euw1:a".into(), "no cell makes such a key")))
        );
    }
}

//! Hashes of settings, kept in the directory: when they differ, what was stored no longer fits.
//!
//! The text that is hashed is fixed for ever (a golden test holds it): every field by name, every
//! value with its length, so that no two settings give the same text. Unseeded XXH3-64.

use xxhash_rust::xxh3::xxh3_64;

use super::cell::Cell;
use super::{Format, Removed, Source};

/// Of what decides which records a cell's entries become (R32): records, key, record_key (as it is for
/// this cell), removed, format, topic.
#[must_use]
pub fn cell_identity(source: &Source, cell: &Cell, topic: &str) -> u64 {
    let mut text = Encoding::default();
    text.identity(source, cell, topic);
    xxh3_64(text.0.as_bytes())
}

/// Of everything that decides what an answer means (R9): validators stored under another one are of no
/// use. Headers count as they are written, so that a rotated secret changes nothing.
#[must_use]
pub fn validator_identity(source: &Source, cell: &Cell, topic: &str) -> u64 {
    let mut text = Encoding::default();
    text.identity(source, cell, topic);
    text.field("url", [cell.url.as_str()]);
    for (name, value) in &source.headers {
        text.field(
            "header",
            [name.to_ascii_lowercase().as_str(), value.written()],
        );
    }
    text.field("ignore", source.ignore.iter().map(String::as_str));
    text.field("complete", [if source.complete { "true" } else { "false" }]);
    text.field("removed_after", [source.removed_after.to_string().as_str()]);
    xxh3_64(text.0.as_bytes())
}

#[derive(Default)]
struct Encoding(String);

impl Encoding {
    fn field<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        self.0.push_str(name);
        for value in values {
            self.0.push_str(&format!(" {}:{value}", value.len()));
        }
        self.0.push('\n');
    }

    fn identity(&mut self, source: &Source, cell: &Cell, topic: &str) {
        self.field("records", [source.records.as_str()]);
        self.field("key", source.key.iter().map(String::as_str));
        self.field(
            "record_key",
            [cell.key_prefix.as_str(), cell.key_suffix.as_str()],
        );
        let removed = match source.removed {
            Removed::Tombstone => "tombstone",
            Removed::Event => "event",
            Removed::Ignore => "ignore",
        };
        self.field("removed", [removed]);
        let format = match source.format {
            Format::Json => "json",
        };
        self.field("format", [format]);
        self.field("topic", [topic]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::expand;
    use super::super::parse;
    use super::*;

    const BASE: &str = "name = \"n\"\n[source.s]\nurl = \"http://h/{a}\"\nvars = { a = [\"1\", \"2\"] }\n\
                        key = [\"/id\"]\nrecord_key = \"{a}:{key}\"\nheaders = { T = \"${env:X}\" }\n";

    fn identities(text: &str) -> (u64, u64) {
        let config = parse(text, "test").unwrap();
        let source = &config.source["s"];
        let cell = &expand("s", source)[0];
        let topic = config.topic("s");
        (
            cell_identity(source, cell, topic),
            validator_identity(source, cell, topic),
        )
    }

    #[test]
    fn r32_the_identities_are_the_same_in_every_build() {
        assert_eq!(
            identities(BASE),
            (169_780_341_391_539_365, 4_632_363_751_159_826_727)
        );
    }

    #[test]
    fn r32_each_setting_that_decides_a_record_changes_the_identity() {
        let (cell, _) = identities(BASE);
        for more in [
            "records = \"/list\"",
            "removed = \"event\"",
            "topic = \"other\"",
        ] {
            assert_ne!(identities(&format!("{BASE}{more}\n")).0, cell, "{more}");
        }
        for (from, to) in [
            ("\"/id\"", "\"/id\", \"/name\""),
            ("{a}:{key}", "{a}/{key}"),
        ] {
            assert_ne!(identities(&BASE.replace(from, to)).0, cell, "{to}");
        }
        for more in ["every = \"5s\"", "ignore = [\"/at\"]", "removed_after = 3"] {
            assert_eq!(identities(&format!("{BASE}{more}\n")).0, cell, "{more}");
        }
    }

    #[test]
    fn r09_each_setting_that_decides_what_an_answer_means_changes_the_validator_identity() {
        let (_, validator) = identities(BASE);
        for more in [
            "ignore = [\"/at\"]",
            "complete = false",
            "records = \"/list\"",
        ] {
            assert_ne!(
                identities(&format!("{BASE}{more}\n")).1,
                validator,
                "{more}"
            );
        }
        for (from, to) in [("env:X", "env:Y"), ("http://h/", "http://i/")] {
            assert_ne!(identities(&BASE.replace(from, to)).1, validator, "{to}");
        }
        assert_eq!(identities(&format!("{BASE}every = \"5s\"\n")).1, validator);
    }
}

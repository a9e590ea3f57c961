//! Records of every kind, compared with a source of two cells.

use super::*;
use crate::change::{Epoch, Seq};
use crate::config;
use crate::fault::Exit;
use crate::identity;
use crate::io::published::Told;
use crate::rebuild::draft::Draft;
use crate::rebuild::facts;

const SEED: u64 = 7;

fn cells(more: &str, keeps: &str) -> Cells {
    let text = format!(
        "name = \"n\"\n{keeps}\n[source.s]\nurl = \"http://h/{{a}}\"\n\
         vars = {{ a = [\"x\", \"y\"] }}\nkey = [\"/id\"]\nrecord_key = \"{{a}}:{{key}}\"\n\
         topic = \"t\"\n{more}"
    );
    let config = config::parse(&text, "test").unwrap();
    let draft = Draft::default();
    identity::assign(&config, &draft).unwrap();
    let partitions = BTreeMap::from([("t".to_owned(), 1)]);
    facts::cells(&config, &draft, SEED, partitions, false).unwrap()
}

fn record<'a>(key: &'a str, value: Option<&'a str>, cell: Option<&'a str>) -> Published<'a> {
    let kind = match value {
        Some(_) => Kind::Added,
        None => Kind::Removed,
    };
    Published {
        topic: "t",
        partition: 0,
        offset: 3,
        timestamp: 0,
        key: key.as_bytes(),
        value: value.map(str::as_bytes),
        told: cell.map(|cell| Told {
            kind,
            epoch: Epoch(1),
            seq: Seq(1),
            polled_at: 0,
            cell: Some(("s", cell)),
        }),
    }
}

#[test]
fn r35_headers_or_the_record_key_say_whose_a_record_is() {
    let mut cells = cells("", "");
    for cell in [Some("y"), None] {
        let entry = cells
            .entry(&record("y:1", Some("{\"id\":1}"), cell))
            .unwrap();
        assert_eq!((entry.cell, entry.keeps_key), (CellId(2), true));
        let print = entry.print.unwrap();
        assert_eq!(entry.hash, hash::key(SEED, b"y:1"));
        assert_eq!(print.raw, hash::raw(SEED, b"{\"id\":1}"));
        assert_eq!((print.rule, print.canon != 0), (1, true));
        let gone = cells.entry(&record("y:1", None, cell)).unwrap();
        assert_eq!(gone.print, None);
    }
    let elsewhere = Published {
        partition: 1,
        ..record("y:1", Some("{\"id\":1}"), None)
    };
    assert!(cells.entry(&elsewhere).is_none(), "an earlier mapping");
    cells.judge().unwrap();
}

#[test]
fn r35_a_removal_that_is_an_event_is_one_without_headers_too() {
    let mut cells = cells("removed = \"event\"", "");
    let event = removal_event("x:1");
    let entry = cells.entry(&record("x:1", Some(&event), None)).unwrap();
    assert_eq!(entry.print, None);
    cells.judge().unwrap();
}

#[test]
fn r35_strangers_count_where_they_are_the_last_of_their_key() {
    for (key, value, cell, word) in [
        ("z:1", "{\"id\":1}", Some("z"), "cell s (z)"),
        ("z:1", "{\"id\":1}", None, "no cell's `record_key`"),
        ("y:1", "{\"id\":1}", Some("x"), "does not make"),
        ("x:1", "{\"id\":2}", Some("x"), "under this `key`"),
        ("x:1", "{\"id\":", Some("x"), "not JSON"),
    ] {
        let mut cells = cells("", "");
        cells.entry(&record("x:1", Some("{\"id\":1}"), Some("x")));
        let entry = cells.entry(&record(key, Some(value), cell));
        assert!(entry.is_none_or(|entry| entry.print.is_none()), "{value}");
        let fault = cells.judge().unwrap_err();
        assert_eq!(fault.exit, Exit::Directory);
        assert!(fault.message.contains(word), "{fault}");
        assert!(fault.message.contains("(1 keys)"), "{fault}");
        cells.entry(&record(key, None, cell));
        cells.judge().unwrap();
    }
}

#[test]
fn r35_cells_that_are_not_configured_may_stay_as_they_are() {
    let mut cells = cells("", "on_cell_removed = \"keep\"");
    let unknown = record("z:1", Some("{\"id\":1}"), Some("z"));
    assert!(cells.entry(&unknown).is_none());
    cells.judge().unwrap();
    cells.entry(&record("y:1", Some("{\"id\":1}"), Some("x")));
    cells.judge().unwrap_err();
}

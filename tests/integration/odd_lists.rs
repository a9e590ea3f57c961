//! Lists that are odd, against the whole program: each is taken at its word, and no further.

use std::collections::BTreeMap;

use crate::support::fault_table::row;
use crate::support::hostile::{Answer, ok};
use crate::support::polling::Polling;

fn list(entries: &[&str]) -> Answer {
    ok(format!("[{}]", entries.join(",")))
}

/// Answers in turn, and kind and key of each change that they make after the first.
type Odd = (Vec<Answer>, Vec<(&'static str, &'static str)>);

fn odd_lists() -> BTreeMap<&'static str, Odd> {
    let (a, b, z) = (
        "{\"id\":\"a\",\"v\":1}",
        "{\"id\":\"b\",\"v\":1}",
        "{\"id\":\"z\",\"v\":1}",
    );
    let number = |text: &str| list(&[&format!("{{\"id\":\"a\",\"v\":{text}}}"), b]);
    let digits = "7".repeat(10_000);
    let many: Vec<String> = (0..50).map(|i| format!("{{\"id\":\"k{i}\"}}")).collect();
    let few = list(&many[..5].iter().map(String::as_str).collect::<Vec<_>>());
    let many = list(&many.iter().map(String::as_str).collect::<Vec<_>>());
    BTreeMap::from([
        (
            "digits-10000",
            (
                vec![
                    number(&digits),
                    number(&format!("0.{digits}e10000")),
                    number(&format!("{}8", &digits[1..])),
                    number(&format!("{}80e-1", &digits[1..])),
                ],
                vec![("changed", "a")],
            ),
        ),
        (
            "fields-twice",
            (
                vec![
                    list(&[a]),
                    list(&["{\"id\":\"x\",\"v\":2,\"id\":\"a\",\"v\":1}"]),
                    list(&["{\"id\":\"a\",\"v\":1,\"v\":3}"]),
                ],
                vec![("changed", "a")],
            ),
        ),
        (
            "keys-twice",
            (
                vec![
                    list(&[a, b]),
                    list(&["{\"id\":\"a\",\"v\":9}", b, a]),
                    list(&[a, b]),
                ],
                vec![],
            ),
        ),
        (
            "nul-in-an-entry",
            (
                vec![
                    list(&[a, b]),
                    list(&["{\"id\":\"a\",\"v\":\"\0\"}", b]),
                    list(&[a, b]),
                ],
                vec![],
            ),
        ),
        (
            "nul-escaped",
            (
                vec![list(&[a]), list(&["{\"id\":\"a\",\"v\":\"\\u0000\"}"])],
                vec![("changed", "a")],
            ),
        ),
        (
            "empty-once",
            (vec![list(&[a, b]), list(&[]), list(&[a, b])], vec![]),
        ),
        (
            "empty-twice",
            (
                vec![list(&[a, b]), list(&[]), ok(" [ ] "), list(&[])],
                vec![("removed", "a"), ("removed", "b")],
            ),
        ),
        ("less-90-once", (vec![many.clone(), few, many], vec![])),
        (
            "other-same-size",
            (
                vec![list(&[a]), list(&[z]), list(&["{\"id\":\"z\",\"v\": 1}"])],
                vec![("added", "z"), ("removed", "a")],
            ),
        ),
        (
            "no-key",
            (
                vec![
                    list(&[a, b]),
                    list(&["{\"v\":1}", a]),
                    list(&["{\"v\":1}", a]),
                    list(&["{}", a]),
                ],
                vec![],
            ),
        ),
    ])
}

#[test]
fn a_list_that_is_odd_is_taken_at_its_word_and_no_further() {
    let lists = odd_lists();
    let scripts = lists
        .iter()
        .map(|(name, (script, _))| ((*name).to_owned(), script.clone()));
    let polling = Polling::of(scripts.collect(), "", "removed_after = 2");
    let changes = polling.rounds(5);
    for (name, (_, wanted)) in &lists {
        let found = changes.after_first(name);
        let found: Vec<_> = found
            .iter()
            .map(|(kind, key)| (kind.as_str(), key.as_str()))
            .collect();
        assert_eq!(found, *wanted, "{name}");
        row(
            &format!("http list {name}"),
            &format!("{} changes, as meant", wanted.len()),
        );
    }
    let twice = changes.text("fields-twice");
    assert!(
        twice.contains("\"value\":{\"id\":\"a\",\"v\":1,\"v\":3}"),
        "{twice}"
    );
    let number = format!("\"v\":{}8}}", "7".repeat(9_999));
    let digits = changes.text("digits-10000");
    assert!(
        digits.contains(&number),
        "digits are published as they came"
    );
}

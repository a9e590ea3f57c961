//! What is kept between entries: it changes no fingerprint, and is little.

use super::*;

#[test]
fn what_is_remembered_of_the_entry_before_changes_no_fingerprint() {
    let mut entries: Vec<String> = [
        r#"{"a":1,"b":2,"c":{"a":1,"b":3}}"#,
        r#"{"a":1,"b":2,"c":{"b":1,"a":3}}"#,
        r#"{"a":1,"a":2,"c":{"a":1,"a":3}}"#,
        r#"{"a":1,"b":2,"a":{"a":1,"b":3}}"#,
        r#"{"ab":1,"b":2,"c":3}"#,
        r#"{"a\"b":1,"b":2,"c":3}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"b":1,"a":2}"#,
        r#"{"\u0061":1,"b":2}"#,
        r#"{"":1,"b":2}"#,
        r#"[{"a":1,"b":2},{"b":1,"a":2}]"#,
        "{}",
        // Faults, after some names.
        r#"{"a":1,"b":2,"#,
        r#"{"a":1,"b" 2}"#,
        r#"{"d":1,"b":x}"#,
    ]
    .map(String::from)
    .to_vec();
    // Names that are just kept and just not, first and later, and more names than are kept.
    for long in [NAME_MAX - 3, NAME_MAX - 2, NAME_MAX - 1, 200] {
        let name = "n".repeat(long);
        entries.push(format!(r#"{{"{name}":1,"b":2}}"#));
        entries.push(format!(r#"{{"a":1,"{name}":2,"b":{{"{name}":3}}}}"#));
    }
    let many = |last: &str| {
        let members = (0..2 * NAMES_MAX).map(|at| format!(r#""m{at}":{at},"#));
        format!(r#"{{{}"{last}":0}}"#, members.collect::<String>())
    };
    entries.extend([many("z"), many("m1"), many("b")]);
    let ignore = Pointer::parse("/b").expect("a pointer");
    for ignore in [&[][..], &[ignore]] {
        let of = |canonical: &mut Canonical, entry: &str| {
            let print = canonical.fingerprint(entry.as_bytes());
            print.map_err(|fault| fault.to_string())
        };
        let mut one = Canonical::new(ignore, 7);
        for before in &entries {
            for entry in &entries {
                // In one, too, that remembers the one before alone.
                let mut two = Canonical::new(ignore, 7);
                let expected = of(&mut Canonical::new(ignore, 7), entry);
                for canonical in [&mut one, &mut two] {
                    let _ = of(canonical, before);
                    assert_eq!(of(canonical, entry), expected, "{entry} after {before}");
                }
            }
        }
    }
}

#[test]
fn one_odd_entry_does_not_hold_its_memory_for_ever() {
    let mut canonical = Canonical::new(&[], 1);
    let sound = canonical.fingerprint(b"{\"a\":[1]}");
    let odd = format!("{{\"{}\":[{}", "\\n".repeat(200_000), "{\"b\":".repeat(100));
    assert!(canonical.fingerprint(odd.as_bytes()).is_err());
    let many = "\"a\":1,".repeat(200_000);
    assert!(
        canonical
            .fingerprint(format!("{{{many}").as_bytes())
            .is_err()
    );
    // Whole ones, of many names.
    for last in ["b", "a"] {
        let whole = format!("{{{many}\"{last}\":1}}");
        assert!(canonical.fingerprint(whole.as_bytes()).is_ok());
        assert_eq!(canonical.fingerprint(b"{\"a\":[1]}"), sound);
    }
    let names = (0..200_000).map(|at| format!("\"m{at}\":1,"));
    let names: String = names.collect();
    assert!(
        canonical
            .fingerprint(format!("{{{names}\"z\":1}}").as_bytes())
            .is_ok()
    );
    assert!(
        canonical
            .fingerprint(format!("{{{names}\"m7\":1}}").as_bytes())
            .is_ok()
    );
    assert_eq!(canonical.fingerprint(b"{\"a\":[1]}"), sound);
    let scratch = &canonical.scratch;
    assert!(scratch.distinct.capacity() <= NAMES_MAX);
    assert_eq!(
        scratch.members.len(),
        0,
        "a refused entry leaves nothing behind"
    );
    assert!(
        scratch.members.capacity() <= KEPT_MAX,
        "{}",
        scratch.members.capacity()
    );
    assert!(
        scratch.text.capacity() <= KEPT_MAX,
        "{}",
        scratch.text.capacity()
    );
}

//! R33: which key an entry has.

use super::*;

fn key_of(entry: &str, keys: &[&str]) -> Option<String> {
    let keys: Vec<_> = keys.iter().map(|key| pointer(key)).collect();
    let mut found = Vec::new();
    // Between two others, so that nothing of a neighbour may be taken for this one's.
    let piece = format!(r#"{{"id":"before","a":{{"b":"x"}}}}, {entry} ,{{"id":"after"}}"#);
    let counts = extract::scan(piece.as_bytes(), &keys, |entry| {
        found.push(
            entry
                .key
                .map(|key| String::from_utf8(key.to_vec()).expect("UTF-8")),
        );
    });
    let keyless = found.iter().filter(|key| key.is_none()).count() as u64;
    assert_eq!(
        counts,
        Ok(Counts {
            entries: 3,
            keyless
        }),
        "{entry}"
    );
    found[1].clone()
}

#[test]
fn r33_a_key_is_a_non_empty_string_or_an_integer() {
    let is =
        |entry, key: &str| assert_eq!(key_of(entry, &["/id"]).as_deref(), Some(key), "{entry}");
    is(r#"{"id":"abc"}"#, "abc");
    is(
        r#"{ "x" : [ "id" ] , "id" : "abc" , "y" : { "id" : 1 } }"#,
        "abc",
    );
    is(r#"{"id":17}"#, "17");
    is(r#"{"id":-17 }"#, "-17");
    is(
        r#"{"id":123456789012345678901234567890}"#,
        "123456789012345678901234567890",
    );
    is(r#"{"id":"a\u00e9\"\ud83d\ude00"}"#, "a\u{e9}\"\u{1f600}");
    is(r#"{"\u0069d":"escaped name"}"#, "escaped name");
    is(r#"{"id":"first","id":"last"}"#, "last");
    is(r#"{"x":"id","id":"y"}"#, "y");
    is(r#"{"x":"\"id\":\"no\"","id":"yes"}"#, "yes");
    is(r#"{"x\"id":"no","id":"yes"}"#, "yes");
    is("{\"id\" \n\t : \r\n \"spaced\"}", "spaced");
    is(r#"{"a_Y":y_,"id":"lenient"}"#, "lenient");
    for absent in [
        "{}",
        r#"{"id":""}"#,
        r#"{"id":null}"#,
        r#"{"id":true}"#,
        r#"{"id":1.5}"#,
        r#"{"id":1e3}"#,
        r#"{"id":1.0}"#,
        r#"{"id":01}"#,
        r#"{"id":1x}"#,
        r#"{"id":-}"#,
        r#"{"id":{}}"#,
        r#"{"id":["a"]}"#,
        r#"{"id":"\ud800"}"#,
        r#"{"id":"\x"}"#,
        r#"{"id":"a","id":null}"#,
        r#"{"Id":"a"}"#,
        r#"{"x":{"id":"a"}}"#,
        r#"{"x":"id"}"#,
        r#"{"x\"id":"a"}"#,
        r#"{"xid":"a"}"#,
        r#"{"d":"a"}"#,
        r#"["id","a"]"#,
        r#""id""#,
        "17",
        "null",
    ] {
        assert_eq!(key_of(absent, &["/id"]), None, "{absent}");
    }
}

#[test]
fn r33_a_name_counts_as_a_whole_however_long_it_is() {
    for name in ["puuid", "league", "matchId", "playerId", "summonerId"] {
        let key = format!("/{name}");
        let of = |member: &str, colon: &str| {
            key_of(&format!(r#"{{"{member}"{colon}"k"}}"#), &[key.as_str()])
        };
        for colon in [":", " \n: "] {
            assert_eq!(of(name, colon).as_deref(), Some("k"), "{name}");
            for other in [
                format!("x{name}"),
                format!("x{}", &name[1..]),
                name[1..].to_owned(),
            ] {
                assert_eq!(of(&other, colon), None, "{other} is not {name}");
            }
        }
    }
    // The same last eight bytes.
    let entry = r#"{"otherSummonerId" : "b","firstSummonerId":"a"}"#;
    let keys = ["/firstSummonerId", "/otherSummonerId"];
    assert_eq!(key_of(entry, &keys).as_deref(), Some("a"));
    assert_eq!(key_of(entry, &keys[1..]).as_deref(), Some("b"));
    assert_eq!(key_of(entry, &["/thirdSummonerId"]), None);
}

#[test]
fn what_finds_keys_keeps_nothing_of_the_entry_before() {
    let keys = [pointer("/id")];
    let mut finds = extract::Keys::new(&keys);
    let long = format!(
        r#"{{"x":["{}",{{"y":":"}}],"id":"a"}}"#,
        ": [".repeat(2_000)
    );
    for (entry, key) in [
        (long.as_str(), Some("a")),
        (r#"{"id":"b"}"#, Some("b")),
        (&long[..3_000], None),
        ("{}", None),
        (r#"{"id":"c","#, None),
        (r#"{"x":1}"#, None),
        (r#"{"id":"d"}"#, Some("d")),
    ] {
        assert_eq!(
            finds.of(entry.as_bytes()),
            key.map(str::as_bytes),
            "{key:?}"
        );
    }
}

#[test]
fn r33_the_first_pointer_that_is_there_is_the_key() {
    let keys = ["/puuid", "/summonerId", "/deep/1/id"];
    let is = |entry, key: Option<&str>| assert_eq!(key_of(entry, &keys).as_deref(), key, "{entry}");
    is(r#"{"summonerId":"s","puuid":"p"}"#, Some("p"));
    is(r#"{"puuid":"","summonerId":"s"}"#, Some("s"));
    is(r#"{"puuid":"\udc00","summonerId":"s"}"#, Some("s"));
    is(r#"{"puuid":"p","puuid":[],"summonerId":7}"#, Some("7"));
    is(r#"{"deep":["id",{"id":"d"}]}"#, Some("d"));
    is(
        r#"{"deep":[{"id":"no"},{"x":{},"\u0069d":"d","y":1}],"puuid":1.0}"#,
        Some("d"),
    );
    is(
        r#"{"deep":[0,{"id":"no"}],"deep":[1,{"id":"a","id":"last"}]}"#,
        Some("last"),
    );
    is(r#"{"deep":[0,{"id":"no"}],"deep":[]}"#, None);
    is(r#"{"deep":[[",",{"a":","}],{"id":"d"}]}"#, Some("d"));
    is(r#"{"deep":{"1":{"id":"by name"}}}"#, Some("by name"));
    is(r#"{"deep":[{"id":"only one"}]}"#, None);
    is(r#"{"deep":"x"}"#, None);
    assert_eq!(key_of(r#"{"id":"a"}"#, &[""]), None, "an object is no key");
    assert_eq!(key_of(r#"{"id":"a"}"#, &[]), None);
}

//! Bodies that are not what they should be: each is refused, in words that name the fault.

use super::*;
use crate::io::json::DEPTH_MAX;
use crate::io::json::canonical::Canonical;

#[test]
fn a_list_is_found_where_the_pointer_says() {
    let found = |records, body| all(records, body).expect(body);
    assert_eq!(found("", "[1, 2]"), ["1", "2"]);
    assert_eq!(
        found("/entries", r#" {"entries" : [ ] , "a":1} "#),
        Vec::<String>::new()
    );
    assert_eq!(
        found("/e", r#"{"a":[{"e":[0]}],"e":[{},[],"x",null]}"#),
        ["{}", "[]", "\"x\"", "null"]
    );
    assert_eq!(
        found("/a/1/b", r#"{"a":[{"b":[1]},{"b":[2]},{"b":[3]}]}"#),
        ["2"]
    );
    assert_eq!(found("/1/0", "[[[7],[8]],[[9],[10]],[[11]]]"), ["9"]);
    assert_eq!(found("/0/x", r#"[{"x":[5]},[[{"x":[6]}]]]"#), ["5"]);
    assert_eq!(found("/\u{e9}~1", "{\"\\u00E9\\/\":[1]}"), ["1"]);
    assert_eq!(found("/", r#"{"":[true]}"#), ["true"]);
    assert_eq!(
        found("", "\u{feff}[1]"),
        ["1"],
        "a byte order mark is tolerated"
    );
}

#[test]
fn an_answer_without_the_list_says_what_was_there_instead() {
    let says = |records, body, expected: &str| {
        let fault = fault(records, body);
        assert!(fault.contains(expected), "{body}: {fault}");
    };
    says(
        "/entries",
        r#"{"status":403}"#,
        "no '/entries' in the answer: it is an object without 'entries'",
    );
    says(
        "/a/b",
        r#"{"a":{"c":[]}}"#,
        "no '/a/b' in the answer: '/a' is an object without 'b'",
    );
    says(
        "/a/2",
        r#"{"a":[1,2]}"#,
        "'/a' is a list without element '2'",
    );
    says(
        "/a/b",
        r#"{"a":"b"}"#,
        "no '/a/b' in the answer: '/a' is a string",
    );
    says("/a/b", "[]", "it is a list without element 'a'");
    says("/0/x", r#"[{},{"x":[1]}]"#, "'/0' is an object without 'x'");
    says(
        "/0/5",
        "[[],[0,0,0,0,0,[1]]]",
        "'/0' is a list without element '5'",
    );
    says("/a", "null", "no '/a' in the answer: it is null");
    says("/a", "12", "no '/a' in the answer: it is a number");
    says(
        "/entries",
        r#"{"entries":{}}"#,
        "'/entries' is not a list but an object, at byte 11",
    );
    says(
        "/entries",
        r#"{"entries":null}"#,
        "'/entries' is not a list but null",
    );
    says("", "{}", "the answer is not a list: starts with '{}'");
    says("/e", r#"{"e":[],"e":[]}"#, "'/e' is there twice");
    says("/e", r#"{"e":[],"\u0065":1}"#, "'/e' is there twice");
    says("/d/e", r#"{"d":{"e":[]},"d":{}}"#, "'/d' is there twice");
}

#[test]
fn what_is_no_json_is_shown() {
    for records in ["", "/entries"] {
        for (body, shown) in [
            (
                "<html><body>Bad\nGateway</body></html>",
                "'<html><body>Bad Gateway</body></html>'",
            ),
            ("nginx", "nginx"),
            ("404 page not found", "404 page not found"),
            ("\u{feff}oops", "oops"),
            ("-", "cut short"),
        ] {
            let fault = fault(records, body);
            assert!(
                fault.contains(shown) || fault.contains("not a list"),
                "{fault}"
            );
        }
    }
    let long = fault("/e", &"<".repeat(100));
    assert_eq!(
        long,
        format!(
            "the answer is not JSON: starts with '{}...', at byte 0",
            "<".repeat(40)
        )
    );
    assert_eq!(fault("/e", ""), "empty answer, at byte 0");
    assert_eq!(fault("", " \n"), "empty answer, at byte 2");
}

#[test]
fn a_body_cut_short_anywhere_is_a_fault() {
    let body =
        r#"{"n":-1.5e3,"t":[true,null,"\u00e9\n"],"e":[{"a":"]}\\"},"x\"",12,[[]]],"z":false}"#;
    assert_eq!(all("/e", body).expect("whole").len(), 4);
    for end in 0..body.len() {
        let fault = fault("/e", &body[..end]);
        assert!(fault.contains("cut short") || end == 0, "{end}: {fault}");
    }
    assert!(fault("", "[1,\"ab").contains("within a string of the list"));
    assert!(fault("/e", "{\"ab").contains("within a string"));
}

#[test]
fn faults_of_the_envelope_are_refused() {
    for (body, expected) in [
        (r#"{"e":[]} x"#, "bytes after the document"),
        (r#"{"e":[]}{"#, "bytes after the document"),
        (r#"{"e":[]]"#, "a bracket closes one of the other kind"),
        (r#"{"a":[}"#, "'}' where a value should be"),
        (r#"{"a":[1}"#, "a bracket closes one of the other kind"),
        (r#"{"a":1,}"#, "'}' where a name should be"),
        (r#"{"a":[1,],"e":[]}"#, "']' where a value should be"),
        (r#"{"a" 1}"#, "'1' where ':' should be"),
        (
            r#"{"a":1 "b":2}"#,
            "'\"' where ',' or a closing bracket should be",
        ),
        (
            r#"{"a":01}"#,
            "'1' where ',' or a closing bracket should be",
        ),
        (r#"{"a":1.}"#, "'}' where a digit should be"),
        (r#"{"a":tru}"#, "'}' where true, false or null should be"),
        (r#"{"a":"\x"}"#, "an escape that does not exist"),
        (r#"{"a":"\u12g4"}"#, "an escape that does not exist"),
        ("{\"a\":\"\n\"}", "a control character in a string"),
        ("{\0}", "byte 0x00 where a name should be"),
        (r#"{"e":[],"a":NaN}"#, "'N' where a value should be"),
    ] {
        let fault = fault("/e", body);
        assert!(fault.contains(expected), "{body}: {fault}");
    }
    for bad in [
        b"\x80".as_slice(),
        b"\xc0\xaf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\xc3",
        b"\xe2\x82",
    ] {
        let body = [b"{\"a\":\"", bad, b"\",\"e\":[]}"].concat();
        let fault = cut("/e", 16, [&body[..]]).expect_err("no UTF-8");
        assert!(fault.what.contains("not UTF-8"), "{bad:?}: {fault}");
        assert!(fault.offset < 9, "{bad:?}: {fault}");
    }
}

#[test]
fn r04_faults_between_entries_and_of_brackets_are_refused() {
    for (list, expected) in [
        ("[1 2]", "'2' where ',' or ']' should be"),
        ("[1,,2]", "a comma without an entry"),
        ("[,1]", "a comma without an entry"),
        ("[1,]", "a comma without an entry"),
        ("[{}{}]", "'{' where ',' or ']' should be"),
        ("[\"a\"\"b\"]", "where ',' or ']' should be"),
        ("[\"a\":1]", "':' where ',' or ']' should be"),
        ("[<html>]", "'<' where an entry should be"),
        ("[1<]", "'<' where ',' or ']' should be"),
        ("[\0]", "byte 0x00 where an entry should be"),
        ("[{]}]", "a bracket closes one of the other kind"),
        ("[[}]]", "a bracket closes one of the other kind"),
        ("[{\"a\":[1}]}]", "a bracket closes one of the other kind"),
        ("[1}", "a bracket closes one of the other kind"),
        ("[{\"a\":\\\"}]", "a backslash outside of a string"),
        ("[[\"\\\"\",\\]]", "a backslash outside of a string"),
        ("[1\\]", "'\\' where ',' or ']' should be"),
        ("[\"a]", "within a string of the list"),
        ("[1] 2", "bytes after the document"),
        ("[1]]", "bytes after the document"),
    ] {
        let fault = fault("", list);
        assert!(fault.contains(expected), "{list}: {fault}");
    }
}

#[test]
fn r04_a_piece_that_was_cut_in_another_way_is_checked_by_extract() {
    for (piece, expected) in [
        ("{} {}", "'{' where ',' should be, at byte 3"),
        ("{},", "a comma without an entry, at byte 2"),
        (",{}", "',' where an entry should be, at byte 0"),
        (
            "{\"a\":[}",
            "a bracket closes one of the other kind, at byte 6",
        ),
        (
            "{\"a\":1]",
            "a bracket closes one of the other kind, at byte 6",
        ),
        ("{\"a\":\"b", "the piece ends within an entry, at byte 7"),
        ("{\"a\":\"b\\", "the piece ends within an entry"),
        ("{\"a\\\"", "the piece ends within an entry"),
        ("[[]", "the piece ends within an entry"),
        ("]", "']' where an entry should be"),
    ] {
        let fault = entries(piece.as_bytes(), &[]).expect_err(piece).to_string();
        assert!(fault.contains(expected), "{piece}: {fault}");
    }
    let fault = entries(b"{\"a\":\"\xff\"}", &[]).expect_err("no UTF-8");
    assert_eq!(fault.to_string(), "not UTF-8, at byte 6");
}

#[test]
fn nesting_ends_at_the_limit_and_not_with_the_memory() {
    let chunk = vec![b'['; 64 * 1024];
    for (records, first) in [("", 128), ("/entries", 128)] {
        let mut cutter = Cutter::new(&pointer(records), 256 * 1024, &[]);
        let mut taken = Taken {
            keys: &[],
            entries: Vec::new(),
            pieces: Vec::new(),
        };
        let results: Vec<_> = (0..1600).map(|_| cutter.push(&chunk, &mut taken)).collect();
        for result in results {
            let fault = result.expect_err("too deep");
            assert_eq!(
                (fault.offset, &*fault.what),
                (first, "nesting above 128"),
                "{records}"
            );
        }
        assert!(taken.pieces.is_empty() && taken.entries.is_empty());
        assert!(cutter.finish().is_err(), "a fault stays");
    }
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let depth = DEPTH_MAX as usize;
    assert!(all("", &nested(depth)).is_ok());
    assert!(fault("", &nested(depth + 1)).contains("nesting above 128"));
    let inside = |depth| format!("{{\"e\":[{}]}}", nested(depth));
    assert!(all("/e", &inside(depth - 2)).is_ok());
    assert!(fault("/e", &inside(depth - 1)).contains("nesting above 128"));
    let objects = |depth| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    for text in [nested(depth), objects(depth)] {
        assert!(entries(text.as_bytes(), &[]).is_ok());
        assert!(Canonical::new(&[], 1).fingerprint(text.as_bytes()).is_ok());
    }
    for text in [nested(depth + 1), objects(depth + 1)] {
        assert!(
            entries(text.as_bytes(), &[])
                .expect_err("deep")
                .what
                .contains("above 128")
        );
        let fault = Canonical::new(&[], 1).fingerprint(text.as_bytes());
        assert!(fault.expect_err("deep").what.contains("above 128"));
    }
}

#[test]
fn pieces_are_cut_at_the_first_boundary_past_their_size() {
    let entry = r#"{"id":"0123456789"}"#;
    let body = format!("[{}]", vec![entry; 1000].join(" , "));
    let pieces = cut("", 100, body.as_bytes().chunks(7)).expect("sound");
    let (last, full) = pieces.split_last().expect("pieces");
    for piece in full {
        assert!(
            (100..100 + entry.len() + 3).contains(&piece.len()),
            "{}",
            piece.len()
        );
        assert!(piece.starts_with(b"{") && piece.ends_with(b"}"));
    }
    assert!(last.len() < 100 + entry.len());
    let whole = cut("", 1 << 20, [body.as_bytes()]).expect("sound");
    assert_eq!(whole.len(), 1);
    assert!(cut("", 100, [&b"[ \n ]"[..]]).expect("sound").is_empty());
}

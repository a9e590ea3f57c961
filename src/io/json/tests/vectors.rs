//! R10: the vectors of the canonical form, in `tests/vectors/canonical.json`, and those too long for
//! a file.

use serde::Deserialize;

use super::pointer;
use crate::io::json::canonical::{Canonical, VERSION};

#[derive(Deserialize)]
struct Vectors {
    same: Vec<Group>,
    different: Vec<Group>,
    refused: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    why: String,
    #[serde(default)]
    ignore: Vec<String>,
    texts: Vec<String>,
}

fn vectors() -> Vectors {
    let text = include_str!("../../../../tests/vectors/canonical.json");
    serde_json::from_str(text).expect("the vectors are JSON")
}

impl Group {
    fn canonical(&self) -> Canonical {
        let ignore: Vec<_> = self.ignore.iter().map(|text| pointer(text)).collect();
        Canonical::new(&ignore, 42)
    }

    fn prints(&self) -> Vec<u64> {
        let mut canonical = self.canonical();
        let print = |text: &String| canonical.fingerprint(text.as_bytes()).expect(text);
        self.texts.iter().map(print).collect()
    }
}

#[test]
fn r10_texts_of_the_same_content_have_one_fingerprint() {
    for group in vectors().same {
        let prints = group.prints();
        assert!(prints.len() > 1, "{}: a group has several texts", group.why);
        for (text, print) in group.texts.iter().zip(&prints) {
            assert_eq!(*print, prints[0], "{}: {text}", group.why);
        }
    }
}

#[test]
fn r10_texts_of_different_content_have_different_fingerprints() {
    for group in vectors().different {
        let prints = group.prints();
        for (i, text) in group.texts.iter().enumerate() {
            for (other, print) in group.texts.iter().zip(&prints).skip(i + 1) {
                assert_ne!(*print, prints[i], "{}: {text} and {other}", group.why);
            }
        }
    }
}

#[test]
fn r10_texts_that_are_no_json_have_no_fingerprint() {
    for group in vectors().refused {
        let mut canonical = group.canonical();
        for text in &group.texts {
            let fault = canonical.fingerprint(text.as_bytes());
            assert!(fault.is_err(), "{}: {text}", group.why);
        }
    }
}

#[test]
fn r10_numbers_and_objects_of_any_length_are_read_whole() {
    let mut canonical = Canonical::new(&[], 42);
    let mut print = |text: String| canonical.fingerprint(text.as_bytes()).expect("sound");
    let digits = "7".repeat(10_000);
    assert_eq!(print(digits.clone()), print(format!("0.{digits}e10000")));
    assert_eq!(print(digits.clone()), print(format!("{digits}000e-3")));
    assert_ne!(print(digits.clone()), print(format!("{}8", &digits[1..])));
    assert_ne!(print(digits.clone()), print(format!("8{}", &digits[1..])));
    assert_ne!(
        print(digits.clone()),
        print(format!("{digits}.{}1", "0".repeat(10_000)))
    );
    let member = |i: usize| format!("\"{}\":{i}", i % 5_000);
    let members = |all: &mut dyn Iterator<Item = usize>| {
        format!("{{{}}}", all.map(member).collect::<Vec<_>>().join(","))
    };
    let twice = print(members(&mut (0..10_000)));
    assert_eq!(
        twice,
        print(members(&mut (5_000..10_000).rev())),
        "the last of 5,000 names wins"
    );
    assert_ne!(twice, print(members(&mut (0..5_000))));
}

#[test]
fn r10_the_seed_decides_and_the_form_is_pinned() {
    let text = br#"{"id":"a","n":[1.50,null,true],"o":{"x":"\u00e9"}}"#;
    let print = |seed| Canonical::new(&[], seed).fingerprint(text);
    assert_ne!(print(1), print(2));
    // Directories hold these: another value means another VERSION.
    assert_eq!((VERSION, print(1)), (1, Ok(16_740_795_608_076_830_077)));
}

//! JSON pointers (RFC 6901), parsed once: a path of names and indexes into a document.

use std::fmt;

use super::DEPTH_MAX;

/// A path into a document; `""` names the document itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    steps: Vec<Step>,
}

/// One step: a member's name in an object, an element's index in an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    /// The name read as an index; `None` when it is none (leading zeros, `-`, beyond 64 bits).
    pub(super) index: Option<u64>,
}

impl Pointer {
    /// Reads the text of a pointer, such as `/entries` or `/a~1b/0`.
    ///
    /// # Errors
    /// When it neither is empty nor starts with `/`, has a `~` that is not `~0` or `~1`, or has more
    /// steps than nesting is read.
    pub fn parse(text: &str) -> Result<Pointer, String> {
        let mut steps = Vec::new();
        if !text.is_empty() {
            let Some(path) = text.strip_prefix('/') else {
                return Err(format!("pointer '{text}' must start with '/': '/{text}'"));
            };
            for raw in path.split('/') {
                steps.push(step(raw).ok_or_else(|| {
                    format!("pointer '{text}' has a '~' that is neither '~0' ('~') nor '~1' ('/')")
                })?);
            }
        }
        if steps.len() >= DEPTH_MAX as usize {
            return Err(format!("pointer '{text}' has {DEPTH_MAX} steps or more"));
        }
        Ok(Pointer {
            text: text.to_owned(),
            steps,
        })
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The text of the first `count` steps.
    pub(super) fn prefix(&self, count: usize) -> &str {
        let end = self.text.match_indices('/').nth(count);
        &self.text[..end.map_or(self.text.len(), |(at, _)| at)]
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn step(raw: &str) -> Option<Step> {
    let mut name = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('~') {
        name.push_str(before);
        name.push(match after.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => return None,
        });
        rest = &after[1..];
    }
    name.push_str(rest);
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (name == "0" || !name.starts_with('0'));
    let index = plain.then(|| name.parse().ok()).flatten();
    Some(Step { name, index })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let pointer = Pointer::parse(text).expect("a pointer");
        assert_eq!(pointer.to_string(), text);
        pointer.steps.into_iter().map(|s| s.name).collect()
    }

    #[test]
    fn the_pointers_of_rfc_6901_are_read_as_it_says() {
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names("/"), [""]);
        assert_eq!(names("/foo/0"), ["foo", "0"]);
        assert_eq!(names("/a~1b"), ["a/b"]);
        assert_eq!(names("/m~0n"), ["m~n"]);
        assert_eq!(names("/~01"), ["~1"], "not a slash");
        assert_eq!(names("//x/"), ["", "x", ""]);
    }

    #[test]
    fn only_plain_decimals_are_indexes() {
        let index = |text| Pointer::parse(text).expect("a pointer").steps[0].index;
        assert_eq!(index("/0"), Some(0));
        assert_eq!(index("/10"), Some(10));
        for none in [
            "/",
            "/01",
            "/-",
            "/-1",
            "/+1",
            "/1e0",
            "/99999999999999999999",
        ] {
            assert_eq!(index(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused_with_the_remedy() {
        let refused = |text: &str| Pointer::parse(text).expect_err("no pointer");
        assert!(refused("entries").contains("'/entries'"));
        assert!(refused("/a~").contains("'~0'"));
        assert!(refused("/a~2").contains("'~1'"));
        assert!(refused(&"/a".repeat(128)).contains("128 steps"));
    }

    #[test]
    fn a_prefix_is_the_text_of_the_first_steps() {
        let pointer = Pointer::parse("/a~1b/c").expect("a pointer");
        assert_eq!(pointer.prefix(0), "");
        assert_eq!(pointer.prefix(1), "/a~1b");
        assert_eq!(pointer.prefix(2), "/a~1b/c");
    }
}

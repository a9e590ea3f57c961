//! String escapes: from the bytes between two quotes to the text that they stand for.
//!
//! Surrogate pairs are joined. A lone surrogate has no UTF-8; it becomes the three bytes that its
//! number would have (as in WTF-8), which no valid text holds, so that it equals only itself.

/// What a string turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Valid UTF-8, if the raw bytes were.
    Whole,
    /// It has a lone surrogate.
    Lone,
}

/// Appends the text of `raw` (the bytes between the quotes) to `out`.
///
/// # Errors
/// The offset of an escape that does not exist.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<Text, usize> {
    let mut text = Text::Whole;
    let mut at = 0;
    while let Some(run) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + run]);
        at += run;
        let (code, bytes) = code_point(&raw[at..]).ok_or(at)?;
        match char::from_u32(code) {
            Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => {
                text = Text::Lone;
                let tail = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
                out.extend_from_slice(&[0xe0 | (code >> 12) as u8, tail(6), tail(0)]);
            }
        }
        at += bytes;
    }
    out.extend_from_slice(&raw[at..]);
    Ok(text)
}

/// The code point of the escape (or the pair of escapes) at the start of `raw`, and its length.
fn code_point(raw: &[u8]) -> Option<(u32, usize)> {
    let plain = match raw.get(1)? {
        b'"' => b'"',
        b'\\' => b'\\',
        b'/' => b'/',
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let high = code_unit(raw)?;
            if (0xd800..0xdc00).contains(&high)
                && let Some(low @ 0xdc00..0xe000) = raw.get(6..).and_then(code_unit)
            {
                return Some((0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12));
            }
            return Some((high, 6));
        }
        _ => return None,
    };
    Some((u32::from(plain), 2))
}

/// The number of a `\uXXXX` at the start of `raw`.
fn code_unit(raw: &[u8]) -> Option<u32> {
    let [b'\\', b'u', hex @ ..] = raw else {
        return None;
    };
    hex.first_chunk::<4>()?.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | (*digit as char).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Result<(Vec<u8>, Text), usize> {
        let mut out = Vec::new();
        unescape(raw.as_bytes(), &mut out).map(|text| (out, text))
    }

    #[test]
    fn escapes_become_the_text_that_they_stand_for() {
        let whole = |raw: &str, text: &str| {
            assert_eq!(read(raw), Ok((text.as_bytes().to_vec(), Text::Whole)));
        };
        whole("", "");
        whole(r#"a\"\\\/\b\f\n\r\tz"#, "a\"\\/\u{8}\u{c}\n\r\tz");
        whole(r"\u0041\u00e9\u20AC\u0000", "A\u{e9}\u{20ac}\0");
        whole(r"x\ud83d\uDE00y", "x\u{1f600}y");
    }

    #[test]
    fn a_lone_surrogate_is_kept_and_told() {
        for raw in [
            r"\ud800",
            r"\udc00",
            r"\ud800x",
            r"\ud800\n",
            r"\udc00\ud800",
        ] {
            assert_eq!(read(raw).map(|(_, text)| text), Ok(Text::Lone), "{raw}");
        }
        assert_eq!(read(r"\ud800\ud83d\ude00").map(|r| r.0.len()), Ok(3 + 4));
        assert_ne!(read(r"\ud800"), read(r"\ud801"));
        assert_eq!(read(r"\udbff"), read(r"\uDBFF"));
    }

    #[test]
    fn escapes_that_do_not_exist_are_refused_where_they_are() {
        for raw in [
            r"ab\x",
            r"ab\",
            r"ab\u",
            r"ab\u12g4",
            r"ab\u123",
            r"ab\U0041",
            r"ab\u+123",
        ] {
            assert_eq!(read(raw), Err(2), "{raw}");
        }
    }
}

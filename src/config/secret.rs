//! Texts that may refer to secrets: `${env:NAME}` and `${file:/path}`.
//!
//! What is kept is the reference; the secret itself is read when it is used (a file is read again, so
//! that a rotated token takes effect) and is never printed: `Debug` shows the references only, and
//! whatever was read is known to [`redact()`] from then on (G5).

mod redact;

use std::fmt;

use serde::{Deserialize, Deserializer, de};

pub use redact::{Secrets, address, keep, keep_user, looks_secret, redact, redact_cut};

/// A text with references in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// A text without a reference, or with some.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Text {
        Text(text.into())
    }

    /// The text as it is written in the configuration.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.0
    }

    /// Whether no part of it is a reference.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains("${")
    }

    /// The text with its references replaced by what they refer to, which is not printed from then on.
    ///
    /// # Errors
    /// Names the reference that cannot be read; never its content.
    pub fn reveal(&self) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = self.0.as_str();
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let end = after
                .find('}')
                .ok_or("a '${' lacks its '}': write ${env:NAME} or ${file:/path}")?;
            let value = read_reference(&after[..end])?;
            keep(&value);
            out.push_str(&value);
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn read_reference(reference: &str) -> Result<String, String> {
    let value = if let Some(name) = reference.strip_prefix("env:") {
        std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("the environment variable {name} is not set"),
            std::env::VarError::NotUnicode(_) => {
                format!("the environment variable {name} is not UTF-8")
            }
        })?
    } else if let Some(path) = reference.strip_prefix("file:") {
        std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| format!("cannot read the file {path}: {error}"))?
    } else {
        return Err(format!(
            "'${{{reference}}}' is no reference: write ${{env:NAME}} or ${{file:/path}}"
        ));
    };
    if value.is_empty() {
        return Err(format!("'${{{reference}}}' is empty"));
    }
    Ok(value)
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A literal, or a literal part, may itself be a secret that somebody wrote into the file.
        let mut rest = self.0.as_str();
        let mut literal = false;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((reference, remaining)) = after.split_once('}') else {
                break;
            };
            literal |= !before.is_empty();
            write!(f, "${{{reference}}}")?;
            rest = remaining;
        }
        if literal || !rest.is_empty() {
            f.write_str("(literal)")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::new(text))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text::new(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Text, E> {
                Ok(Text::new(truth.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reference_revealed_is_redacted_from_then_on() {
        let home = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(home.path(), "hunter-two\r\n").unwrap();
        let text = Text::new(format!("Bearer ${{file:{}}}!", home.path().display()));
        assert_eq!(text.reveal().unwrap(), "Bearer hunter-two!");
        assert_eq!(redact("it said hunter-two"), "it said [redacted]");
        std::fs::write(home.path(), "rotated-three").unwrap();
        assert_eq!(text.reveal().unwrap(), "Bearer rotated-three!");
        assert_eq!(redact("hunter-two rotated-three"), "[redacted] [redacted]");
    }

    #[test]
    fn debug_shows_references_and_no_literal() {
        let shown = |text: &str| format!("{:?}", Text::new(text));
        assert_eq!(shown("${env:A}"), "${env:A}");
        assert_eq!(shown("Bearer abc${env:A}"), "${env:A}(literal)");
        assert_eq!(shown("abc"), "(literal)");
        assert_eq!(shown("abc${env:A"), "(literal)");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn a_reference_that_cannot_be_read_is_named() {
        let told = |text: &str| Text::new(text).reveal().unwrap_err();
        assert_eq!(
            told("${env:DELTAPOLL_NO_SUCH_VARIABLE}"),
            "the environment variable DELTAPOLL_NO_SUCH_VARIABLE is not set"
        );
        assert_eq!(
            told("${vault:x}"),
            "'${vault:x}' is no reference: write ${env:NAME} or ${file:/path}"
        );
        assert!(told("${file:/no/such/file}").starts_with("cannot read the file /no/such/file: "));
        assert!(told("secret${env:A").starts_with("a '${' lacks its '}'"));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let reference = format!("${{file:{}}}", empty.path().display());
        assert_eq!(told(&reference), format!("'{reference}' is empty"));
    }
}

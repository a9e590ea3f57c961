//! Texts that may refer to secrets: `${env:NAME}` and `${file:/path}`.
//!
//! What is kept is the reference; the secret itself is read when it is used (a file is read again, so
//! that a rotated token takes effect) and is never printed: `Debug` shows the reference only.

use std::fmt;

use serde::Deserialize;

/// A text with references in it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
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

    /// The text with its references replaced by what they refer to.
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
                .ok_or_else(|| format!("'{}' lacks a '}}'", self.0))?;
            out.push_str(&read_reference(&after[..end])?);
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn read_reference(reference: &str) -> Result<String, String> {
    if let Some(name) = reference.strip_prefix("env:") {
        return std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set"));
    }
    if let Some(path) = reference.strip_prefix("file:") {
        return std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| format!("cannot read the file {path}: {error}"));
    }
    Err(format!(
        "'${{{reference}}}' is no reference: write ${{env:NAME}} or ${{file:/path}}"
    ))
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A literal may itself be a secret that somebody wrote into the file.
        if self.0.contains("${") {
            f.write_str(&self.0)
        } else {
            f.write_str("(literal)")
        }
    }
}

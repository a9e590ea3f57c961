//! What an object store's error means, and its text without credentials.

use std::error::Error as _;

use object_store::Error;

/// The longest text of an error: bodies of answers can be pages of HTML.
const TEXT_CHARS_MAX: usize = 500;

/// What can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Try again: network, overload, a full disk.
    Transient,
    /// Trying again helps once somebody has changed something: credentials, rights, the bucket.
    Refused,
    /// Trying again never helps.
    Permanent,
}

/// An error of an object store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What can be done about it.
    pub kind: Kind,
    /// One line, free of `secrets`.
    pub message: String,
}

impl Trouble {
    /// Reads an error; `secrets` must not be seen in it.
    #[must_use]
    pub fn of(error: &Error, secrets: &[String]) -> Trouble {
        Trouble {
            kind: kind(error),
            message: clean(&chain(error), secrets),
        }
    }
}

fn kind(error: &Error) -> Kind {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Kind::Refused,
        // Of an object that is to be written: the bucket is not there.
        Error::NotFound { .. } => Kind::Refused,
        Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => Kind::Permanent,
        _ => Kind::Transient,
    }
}

/// The error with those of its causes that it does not tell itself.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

/// `text` in one line, without secrets and without the body of an XML answer, of which only code and
/// message stay: S3 repeats signed headers in it, session tokens included.
#[must_use]
pub fn clean(text: &str, secrets: &[String]) -> String {
    let mut out = match text.find("<?xml").or_else(|| text.find("<Error")) {
        None => text.to_owned(),
        Some(at) => {
            let (before, xml) = text.split_at(at);
            let told = ["Code", "Message"].map(|name| element(xml, name));
            let told: Vec<_> = told.into_iter().flatten().collect();
            format!("{before}{}", told.join(": "))
        }
    };
    for secret in secrets {
        out = out.replace(secret.as_str(), "***");
    }
    let line = out.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(TEXT_CHARS_MAX).collect()
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_secret_and_no_page_of_xml() {
        let source = "status 403: <?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code>\
                      <Message>check hunter22222</Message>\n<CanonicalRequest>x-amz-security-token:\
                      TOKEN</CanonicalRequest></Error>";
        let error = Error::PermissionDenied {
            path: "p".into(),
            source: source.into(),
        };
        let trouble = Trouble::of(&error, &["hunter22222".into()]);
        assert_eq!(trouble.kind, Kind::Refused);
        let text = trouble.message;
        assert!(
            text.ends_with("status 403: SignatureDoesNotMatch: check ***"),
            "{text}"
        );
        assert!(!text.contains("TOKEN"), "{text}");
    }

    #[test]
    fn a_long_answer_is_cut() {
        assert_eq!(clean(&"x".repeat(5000), &[]).len(), TEXT_CHARS_MAX);
    }
}

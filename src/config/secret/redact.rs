//! What must never be printed, and how it is taken out of a text that is about to be (G5).
//!
//! One registry for the process: whoever reveals a secret adds it, whoever writes a log line or an
//! error passes the text through [`redact`]. A secret is found as it is and as JSON, Rust's `Debug`
//! and a URL would write it; of a text of several lines also each line, of a JSON object (a service
//! account) also its secret fields. Secrets of fewer than four bytes are not looked for: taking them
//! out would garble every line.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use memchr::memmem;

const REDACTED: &str = "[redacted]";
const BYTES_MIN: usize = 4;
/// Shorter lines of a longer secret are no secret by themselves ("}", "key: 1").
const LINE_BYTES_MIN: usize = 12;

/// Secrets, and the forms in which they may turn up.
#[derive(Default)]
pub struct Secrets {
    kept: BTreeSet<String>,
    forms: BTreeSet<String>,
}

impl Secrets {
    /// None yet.
    #[must_use]
    pub const fn new() -> Secrets {
        Secrets {
            kept: BTreeSet::new(),
            forms: BTreeSet::new(),
        }
    }

    /// Adds a secret.
    pub fn keep(&mut self, secret: &str) {
        if !self.kept.insert(secret.to_owned()) {
            return;
        }
        self.add_forms(secret, BYTES_MIN);
        for line in secret.lines() {
            self.add_forms(line.trim(), LINE_BYTES_MIN);
        }
        let fields: Option<serde_json::Map<_, _>> = serde_json::from_str(secret).ok();
        for (name, value) in fields.unwrap_or_default() {
            if let Some(text) = value.as_str().filter(|_| looks_secret(&name)) {
                self.add_forms(text, BYTES_MIN);
                for line in text.lines() {
                    self.add_forms(line.trim(), LINE_BYTES_MIN);
                }
            }
        }
    }

    fn add_forms(&mut self, secret: &str, bytes_min: usize) {
        if secret.len() < bytes_min {
            return;
        }
        let json = serde_json::Value::from(secret).to_string();
        let debug = format!("{secret:?}");
        self.forms.insert(json[1..json.len() - 1].to_owned());
        self.forms.insert(debug[1..debug.len() - 1].to_owned());
        self.forms.insert(percent_encoded(secret));
        self.forms.insert(secret.to_owned());
    }

    /// `text` without any of the secrets.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text.as_bytes());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for range in found {
            out.push_str(&text[at..range.start]);
            out.push_str(REDACTED);
            at = range.end;
        }
        out.push_str(&text[at..]);
        Cow::Owned(out)
    }

    /// The same of a text that was cut off: what its end has of a secret is taken out, too.
    #[must_use]
    pub fn redact_cut(&self, text: &str) -> String {
        let begun = |form: &String| {
            let starts = (BYTES_MIN..form.len()).rev();
            { starts }.find(|length| text.as_bytes().ends_with(&form.as_bytes()[..*length]))
        };
        let begun = self.forms.iter().filter_map(begun).max();
        match begun {
            None => self.redact(text).into_owned(),
            Some(begun) => {
                let whole = self.redact(&text[..text.len() - begun]);
                format!("{whole}{REDACTED}")
            }
        }
    }

    /// Where the secrets are: in order, those that overlap or touch made one.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for form in &self.forms {
            let mut from = 0;
            while let Some(at) = memmem::find(&text[from..], form.as_bytes()) {
                found.push(from + at..from + at + form.len());
                from += at + 1;
            }
        }
        found.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

static KNOWN: RwLock<Secrets> = RwLock::new(Secrets::new());

/// Adds a secret to those of the process.
pub fn keep(secret: &str) {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    if known.kept.contains(secret) {
        return;
    }
    drop(known);
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.keep(secret);
}

/// `text` without any secret of the process.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.redact(text)
}

/// `text`, cut off from a longer one, without any secret of the process, the last in part or not.
#[must_use]
pub fn redact_cut(text: &str) -> String {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.redact_cut(text)
}

/// Adds what stands before the '@' of an address, and what is sent for it (RFC 7617).
pub fn keep_user(user_and_password: &str) {
    keep(user_and_password);
    user_and_password.split(':').for_each(keep);
    let sent = percent_decoded(user_and_password);
    keep(&base64(&sent));
    // A name alone is sent with an empty password.
    if !user_and_password.contains(':') {
        keep(&base64(&[&sent[..], b":"].concat()));
    }
    keep(&String::from_utf8_lossy(&sent));
    let password = sent
        .splitn(2, |byte| *byte == b':')
        .nth(1)
        .unwrap_or_default();
    keep(&String::from_utf8_lossy(password));
}

/// Whether a header, property, option or query field of this name usually holds a secret.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "token",
        "secret",
        "password",
        "passwd",
        "credential",
        "cookie",
        "authorization",
        "x-auth",
        "key",
        "jaas",
    ];
    const PLAIN: [&str; 8] = [
        "url", "uri", "path", "location", "endpoint", "method", "provider", "enabled",
    ];
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word)) && !PLAIN.iter().any(|end| name.ends_with(end))
}

/// A URL as it may be shown: without user and password, its query values left out.
#[must_use]
pub fn address(url: &str) -> String {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let mut shown = match place.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => place.to_owned(),
    };
    if !query.is_empty() {
        let names = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}=*"),
            None => "*".to_owned(),
        });
        shown.push('?');
        shown.push_str(&names.collect::<Vec<_>>().join("&"));
    }
    if !fragment.is_empty() {
        shown.push_str("#*");
    }
    shown
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                &after[2..]
            }
            None => {
                out.push(*first);
                after
            }
        };
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=three.len() {
            let digit = bits >> (18 - 6 * digit) & 63;
            out.push(char::from(DIGITS[digit as usize]));
        }
        out.push_str(&"=="[three.len() - 1..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_its_password_are_known_as_they_are_sent() {
        for (text, encoded) in [("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(percent_decoded("p%3Aw%zz%"), b"p:w%zz%");
        keep_user("Aladdin:open%20sesame");
        assert_eq!(
            redact("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            "Basic [redacted]"
        );
        assert_eq!(redact("for open sesame"), "for [redacted]");
    }

    #[test]
    fn of_a_secret_that_was_cut_in_two_nothing_is_left() {
        let secrets = secrets(&["hunter-two", "two-times"]);
        assert_eq!(secrets.redact_cut("it was hunter-tw"), "it was [redacted]");
        assert_eq!(
            secrets.redact_cut("hunter-two hunt"),
            "[redacted] [redacted]"
        );
        assert_eq!(secrets.redact_cut("hunter-two-ti"), "hunter-[redacted]");
        assert_eq!(secrets.redact_cut("to hun"), "to hun");
    }

    fn secrets(all: &[&str]) -> Secrets {
        let mut secrets = Secrets::new();
        for one in all {
            secrets.keep(one);
        }
        secrets
    }

    #[test]
    fn a_secret_is_taken_out_in_every_form_it_is_written_in() {
        let secrets = secrets(&["pa\"ss word\\1"]);
        for text in [
            "login pa\"ss word\\1 failed".to_owned(),
            serde_json::json!({"login": "pa\"ss word\\1 failed"}).to_string(),
            format!("{:?}", "login pa\"ss word\\1 failed"),
            "GET /?p=pa%22ss%20word%5C1".to_owned(),
        ] {
            let shown = secrets.redact(&text);
            assert!(shown.contains(REDACTED), "{shown}");
            assert!(!shown.contains("word"), "{shown}");
        }
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_behind() {
        let secrets = secrets(&["abcdef", "defghi", "abcd", "zzzz"]);
        assert_eq!(secrets.redact("<abcdefghi>"), "<[redacted]>");
        assert_eq!(secrets.redact("<zzzzzz>"), "<[redacted]>");
        assert_eq!(secrets.redact("abc def"), "abc def");
    }

    #[test]
    fn the_secret_lines_and_fields_of_a_service_account_are_taken_out() {
        let account = serde_json::json!({
            "type": "service_account",
            "private_key": "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n",
            "token_uri": "https://oauth2.example/token",
        });
        let secrets = secrets(&[&account.to_string()]);
        assert_eq!(
            secrets.redact("bad line MIIEvQIBADANBg"),
            "bad line [redacted]"
        );
        let plain = "cannot reach https://oauth2.example/token";
        assert_eq!(secrets.redact(plain), plain);
    }

    #[test]
    fn a_url_is_shown_without_user_and_query_values() {
        for (url, shown) in [
            ("https://a.b/c", "https://a.b/c"),
            ("https://me:pw@a.b/c?key=1&b", "https://a.b/c?key=*&*"),
            ("https://me@pw@a.b?x=@#frag", "https://a.b?x=*#*"),
            ("https://{region}.b/@c", "https://{region}.b/@c"),
            ("no url", "no url"),
        ] {
            assert_eq!(address(url), shown);
        }
    }

    #[test]
    fn names_of_secrets_are_told_from_names_of_places() {
        for name in [
            "X-Riot-Token",
            "Authorization",
            "sasl.password",
            "X-Api-Key",
            "Cookie",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "Accept",
            "ssl.key.location",
            "google_service_account_path",
            "region",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}

//! One HTTP client for all cells.
//!
//! Redirects are not followed: a redirect to elsewhere would carry the API's token there. Errors never
//! hold the URL's query or a header's value (G5).

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tokio::time::timeout;

use crate::config::secret::Text;

use super::validators::Validators;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the head of an answer, and between two pieces of its body: a slow one is fine, a silent one is not.
///
/// Not the client's own `read_timeout`: that goes on while a body waits for memory (R29).
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// From the head of an answer to its end: 256 MiB at half a megabyte a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// What may be on its way to us on one HTTP/2 connection: as much as there can be, since each answer on it
/// has a bound of its own (2 MiB, hyper's).
const CONNECTION_BYTES: u32 = (1 << 31) - 1;

/// A client with the timeouts that polling needs.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client() -> Result<Client, String> {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // Answers that wait for memory must not use up what all answers on their connection may have on
        // the way: the one that they wait for may be on it too (R29).
        .http2_initial_connection_window_size(CONNECTION_BYTES)
        .redirect(Policy::none())
        .user_agent(concat!("deltapoll/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the HTTP client cannot be made: {}", describe(&error)))
}

/// Sends one GET with the cell's headers; secrets are read now, so that a rotated one takes effect.
///
/// # Errors
/// Says what went wrong, without secrets.
pub async fn get(
    client: &Client,
    url: &str,
    headers: &[(String, Text)],
    known: Option<&Validators>,
) -> Result<Response, String> {
    let mut map = HeaderMap::new();
    for (name, text) in headers {
        let value = text
            .reveal()
            .map_err(|error| format!("header {name}: {error}"))?;
        let header: HeaderName = name
            .parse()
            .map_err(|_| format!("header {name} is no name"))?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("header {name} has a value that HTTP does not allow"))?;
        value.set_sensitive(true);
        map.insert(header, value);
    }
    if let Some(known) = known {
        let pairs = [
            (IF_NONE_MATCH, &known.etag),
            (IF_MODIFIED_SINCE, &known.modified),
        ];
        for (name, text) in pairs {
            // What the server sent comes back as it was; anything else is not worth sending.
            let value = text
                .as_deref()
                .and_then(|text| HeaderValue::from_str(text).ok());
            if let Some(value) = value {
                map.insert(name, value);
            }
        }
    }
    match timeout(SILENCE_TIMEOUT, client.get(url).headers(map).send()).await {
        Ok(answer) => answer.map_err(|error| describe(&error)),
        Err(_) => Err(format!(
            "timed out: no answer came within {}",
            humantime::format_duration(SILENCE_TIMEOUT)
        )),
    }
}

/// What went wrong, from the outermost to the innermost cause, without the URL.
#[must_use]
pub fn describe(error: &reqwest::Error) -> String {
    use std::error::Error;
    let kind = match () {
        () if error.is_timeout() => "timed out",
        () if error.is_connect() => "cannot connect",
        () if error.is_body() || error.is_decode() => "the answer broke off",
        () => "the request failed",
    };
    let mut innermost: Option<&dyn Error> = error.source();
    while let Some(cause) = innermost.and_then(|cause| cause.source()) {
        innermost = Some(cause);
    }
    innermost.map_or_else(|| kind.to_owned(), |cause| format!("{kind}: {cause}"))
}

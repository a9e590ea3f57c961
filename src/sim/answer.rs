//! Answers: whole, slow, cut, broken, and the refusals of the real API.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;

/// What a fault of the back end asks clients to wait.
pub(super) const BUSY: Duration = Duration::from_secs(1);
const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");

/// The whole body, without a copy.
pub(super) fn whole(body: Bytes) -> Response {
    with_length(body.len(), Body::from(body))
}

/// The body in two parts, `pause` between them.
pub(super) fn slow(body: &Bytes, at: usize, pause: Duration) -> Response {
    let (first, second) = (body.slice(..at), body.slice(at..));
    let parts = stream::iter([first]).chain(stream::once(async move {
        tokio::time::sleep(pause).await;
        second
    }));
    with_length(
        body.len(),
        Body::from_stream(parts.map(Ok::<_, Infallible>)),
    )
}

/// The body up to `at`, then the end of the connection, although the length promises all of it.
pub(super) fn cut(body: &Bytes, at: usize) -> Response {
    let parts = stream::iter([Ok(body.slice(..at))]).chain(stream::once(async {
        // Pending once, so that the first part is flushed before the connection ends.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }));
    with_length(body.len(), Body::from_stream(parts))
}

/// A complete answer that is no JSON: it ends early, or has a control character inside, which no
/// place in a JSON document allows.
pub(super) fn malformed(body: &Bytes, at: usize, ends_early: bool) -> Response {
    if ends_early {
        return whole(body.slice(..at));
    }
    let control = Bytes::from_static(b"\x01");
    let parts = [body.slice(..at), control, body.slice(at..)];
    let parts = stream::iter(parts.map(Ok::<_, Infallible>));
    with_length(body.len() + 1, Body::from_stream(parts))
}

/// 200 with a page for people, as proxies like to send.
pub(super) fn html() -> Response {
    let page = "<!DOCTYPE html><html><head><title>One moment</title></head>\
                <body><h1>One moment, please</h1></body></html>\n";
    ([(header::CONTENT_TYPE, "text/html")], page).into_response()
}

/// 429, with its reason and the time to wait if they are to be told.
pub(super) fn too_many(reason: Option<(&'static str, Duration)>) -> Response {
    let mut answer = refusal(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded");
    if let Some((kind, wait)) = reason {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let headers = answer.headers_mut();
        headers.insert("x-rate-limit-type", HeaderValue::from_static(kind));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// A status without a ladder. What stands before the API answers in HTML, the API in JSON.
pub(super) fn status(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    if matches!(status.as_u16(), 502..=504) {
        let page = format!(
            "<html><body><h1>{} {reason}</h1></body></html>\n",
            status.as_u16()
        );
        return (status, [(header::CONTENT_TYPE, "text/html")], page).into_response();
    }
    refusal(status, reason)
}

/// The API's own words for no.
pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    let body = json!({"status": {"message": message, "status_code": status.as_u16()}});
    (status, [(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

fn with_length(length: usize, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, JSON),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (headers, body).into_response()
}

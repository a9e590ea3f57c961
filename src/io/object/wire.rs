//! The same verbs over HTTP, against a few lines of server that answer as Google's XML API does.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use object_store::PutPayload;
use tokio::runtime::Runtime;

use super::{Kind, Listed, Objects, Put};
use crate::config::secret::Text;

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Bytes>,
    content_types: Vec<String>,
    /// Statuses of the next answers, before anything is written.
    failures: VecDeque<u16>,
    requests: usize,
}

type Shared = Arc<Mutex<Bucket>>;

fn answer(status: StatusCode, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header(header::ETAG, "\"1\"")
        .header(header::LAST_MODIFIED, "Tue, 15 Nov 1994 12:45:26 GMT")
        .body(body.into())
        .unwrap()
}

fn listing(bucket: &Bucket, prefix: &str) -> String {
    let mut xml = "<?xml version='1.0'?><ListBucketResult>".to_owned();
    for (name, bytes) in bucket.objects.iter().filter(|(n, _)| n.starts_with(prefix)) {
        let size = bytes.len();
        xml += &format!(
            "<Contents><Key>{name}</Key><Size>{size}</Size><ETag>\"1\"</ETag>\
             <LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
        );
    }
    xml + "</ListBucketResult>"
}

fn decoded(text: &str) -> String {
    let codes = [("%2F", "/"), ("%2B", "+"), ("%3D", "="), ("%2E", ".")];
    codes.iter().fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

async fn serve(State(bucket): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let mut bucket = bucket.lock().unwrap();
    bucket.requests += 1;
    if let Some(status) = bucket.failures.pop_front() {
        return answer(
            StatusCode::from_u16(status).unwrap(),
            "<Error><Code>No</Code></Error>",
        );
    }
    let path = head.uri.path().trim_start_matches('/');
    let Some((_, name)) = path.split_once('/').filter(|(_, name)| !name.is_empty()) else {
        let prefix = head.uri.query().unwrap_or_default().split('&');
        let prefix = prefix
            .filter_map(|q| q.strip_prefix("prefix="))
            .next()
            .unwrap_or_default();
        return answer(StatusCode::OK, listing(&bucket, &decoded(prefix)));
    };
    let name = decoded(name);
    if head.method == Method::PUT {
        assert_eq!(head.headers["x-goog-if-generation-match"], "0");
        if bucket.objects.contains_key(&name) {
            return answer(StatusCode::PRECONDITION_FAILED, "");
        }
        let content_type = head.headers[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        bucket.content_types.push(content_type);
        bucket.objects.insert(name, body);
        return answer(StatusCode::OK, "");
    }
    let Some(whole) = bucket.objects.get(&name) else {
        return answer(StatusCode::NOT_FOUND, "");
    };
    let Some(range) = head.headers.get(header::RANGE) else {
        return answer(StatusCode::OK, whole.clone());
    };
    let range = range.to_str().unwrap().strip_prefix("bytes=0-").unwrap();
    let end = (range.parse::<usize>().unwrap() + 1).min(whole.len());
    let mut part = answer(StatusCode::PARTIAL_CONTENT, whole.slice(..end));
    let content_range = format!("bytes 0-{}/{}", end - 1, whole.len());
    part.headers_mut()
        .insert(header::CONTENT_RANGE, content_range.parse().unwrap());
    part
}

fn google() -> (Runtime, Shared, Objects) {
    let runtime = Runtime::new().unwrap();
    let bucket = Shared::default();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new()
        .fallback(serve)
        .with_state(Arc::clone(&bucket));
    runtime.spawn(async move { axum::serve(listener, router).await });
    let account = format!(
        r#"{{"gcs_base_url":"http://127.0.0.1:{port}","disable_oauth":true,
            "client_email":"","private_key":"","private_key_id":""}}"#
    );
    let options = [("google_service_account_key".to_owned(), Text::new(account))];
    let handle = runtime.handle().clone();
    let objects = Objects::open("gs://bucket/some/prefix", &options.into(), handle).unwrap();
    (runtime, bucket, objects)
}

const NAME: &str = "topics/t/partition=0/t+0+0000000000.avro";

#[test]
fn a_bucket_creates_once_and_reads_back() {
    let (_runtime, bucket, objects) = google();
    assert_eq!(objects.head_header(NAME, 4).unwrap(), None);
    let payload = PutPayload::from_iter([Bytes::from("one "), Bytes::from("two")]);
    let first = objects.create(NAME, payload, "avro/binary");
    assert!(matches!(first, Put::Created), "{first:?}");
    let again = objects.create(NAME, "other".into(), "avro/binary");
    assert!(matches!(again, Put::Exists), "{again:?}");
    assert_eq!(objects.get(NAME).unwrap().unwrap(), "one two");
    assert_eq!(objects.head_header(NAME, 3).unwrap().unwrap(), "one");
    let mut names = Vec::new();
    let each = |listed: Listed| {
        names.push(listed.name);
        ControlFlow::Continue(())
    };
    objects.list("topics", each).unwrap();
    assert_eq!(names, [NAME]);
    let bucket = bucket.lock().unwrap();
    assert_eq!(bucket.content_types, ["avro/binary"]);
    assert!(bucket.objects.contains_key(&format!("some/prefix/{NAME}")));
}

#[test]
fn an_answer_that_is_no_answer_leaves_it_open_and_is_not_retried_here() {
    for (status, kind) in [
        (503, Kind::Transient),
        (429, Kind::Transient),
        (401, Kind::Refused),
        (403, Kind::Refused),
        (404, Kind::Refused),
    ] {
        let (_runtime, bucket, objects) = google();
        bucket.lock().unwrap().failures.push_back(status);
        match objects.create(NAME, "x".into(), "avro/binary") {
            Put::Ambiguous(trouble) => {
                assert_eq!(trouble.kind, kind, "{status}");
                let message = trouble.message;
                assert!(message.contains(&status.to_string()), "{message}");
                assert!(
                    message.contains("No") && !message.contains('<'),
                    "{message}"
                );
            }
            other => panic!("{status}: {other:?}"),
        }
        assert_eq!(bucket.lock().unwrap().requests, 1);
        assert!(bucket.lock().unwrap().objects.is_empty());
    }
}

//! An object server: the part of GCS's XML interface that object_store speaks, in memory, with
//! conditions, generations, attributes, and faults that hit one request each.

mod fault;
mod list;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::runtime::Runtime;

use fault::Socket;

pub use fault::Fault;

/// A running server; it ends when it is dropped.
pub struct ObjectServer {
    pub port: u16,
    store: Shared,
    _runtime: Runtime,
}

type Shared = Arc<Mutex<Store>>;

#[derive(Default)]
struct Store {
    /// By bucket and name.
    objects: BTreeMap<(String, String), Object>,
    /// By bucket, name and generation.
    generations: BTreeMap<(String, String, u64), Object>,
    uploads: BTreeMap<String, Upload>,
    last: u64,
    faults: Vec<Fault>,
    /// Statuses of the next answers to questions.
    read_faults: Vec<u16>,
}

/// Attributes, and parts by number.
type Upload = (Vec<(String, HeaderValue)>, BTreeMap<u32, Bytes>);

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    generation: u64,
    modified: String,
    listed: String,
    attributes: Vec<(String, HeaderValue)>,
}

impl ObjectServer {
    pub fn start() -> ObjectServer {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let store = Shared::default();
        let app = Router::new().fallback(handle).with_state(store.clone());
        let app = app.into_make_service_with_connect_info::<Socket>();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move { axum::serve(listener, app).await });
        ObjectServer {
            port,
            store,
            _runtime: runtime,
        }
    }

    /// The service account that points object_store here.
    pub fn service_account(&self) -> String {
        format!(
            "{{\"gcs_base_url\":\"http://127.0.0.1:{}\",\"disable_oauth\":true,\"client_email\":\"\",\
             \"private_key\":\"\",\"private_key_id\":\"\"}}",
            self.port
        )
    }

    /// These happen to the next PUTs, in order.
    pub fn fail(&self, faults: &[Fault]) {
        lock(&self.store).faults.extend(faults);
    }

    /// The next questions (GET, HEAD, a listing) are answered with these.
    pub fn fail_reads(&self, statuses: &[u16]) {
        lock(&self.store).read_faults.extend(statuses);
    }

    /// Faults that no request met.
    pub fn faults_left(&self) -> usize {
        let store = lock(&self.store);
        store.faults.len() + store.read_faults.len()
    }

    /// Names and bytes of the objects whose name has `part` in it.
    pub fn with(&self, part: &str) -> Vec<(String, Bytes)> {
        let store = lock(&self.store);
        let found = store
            .objects
            .iter()
            .filter(|((_, name), _)| name.contains(part));
        found
            .map(|((_, name), object)| (name.clone(), object.bytes.clone()))
            .collect()
    }

    /// Somebody else puts an object.
    pub fn plant(&self, name: &str, bytes: Bytes) {
        lock(&self.store).put(("bucket".to_owned(), name.to_owned()), bytes, Vec::new());
    }

    /// Somebody else takes an object away.
    pub fn remove(&self, name: &str) {
        let key = ("bucket".to_owned(), name.to_owned());
        lock(&self.store).objects.remove(&key).unwrap();
    }

    /// Every object, by bucket and name.
    pub fn all(&self) -> BTreeMap<(String, String), Bytes> {
        let store = lock(&self.store);
        let objects = store.objects.iter();
        objects
            .map(|(key, object)| (key.clone(), object.bytes.clone()))
            .collect()
    }

    /// Puts an object there whatever is there, or takes it away.
    pub fn replace(&self, key: &(String, String), bytes: Option<Bytes>) {
        let mut store = lock(&self.store);
        match bytes {
            Some(bytes) => drop(store.put(key.clone(), bytes, Vec::new())),
            None => drop(store.objects.remove(key)),
        }
    }

    /// Writes every object as a file.
    pub fn dump(&self, dir: &Path) {
        for ((bucket, name), object) in &lock(&self.store).objects {
            let path = dir.join(bucket).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &object.bytes).unwrap();
        }
    }
}

fn lock(store: &Shared) -> MutexGuard<'_, Store> {
    store
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Store {
    fn put(
        &mut self,
        key: (String, String),
        bytes: Bytes,
        attributes: Vec<(String, HeaderValue)>,
    ) -> u64 {
        self.last += 1;
        let now = std::time::SystemTime::now();
        let listed = humantime::format_rfc3339_millis(now).to_string();
        let object = Object {
            bytes,
            generation: self.last,
            modified: http_date(&listed),
            listed,
            attributes,
        };
        self.generations
            .insert((key.0.clone(), key.1.clone(), self.last), object.clone());
        self.objects.insert(key, object);
        self.last
    }
}

/// `2026-11-24T08:12:31.123Z` as `Tue, 24 Nov 2026 08:12:31 GMT`; the day's name is not looked at.
fn http_date(rfc3339: &str) -> String {
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month: usize = rfc3339[5..7].parse().unwrap();
    format!(
        "{} {} {} {} GMT",
        &rfc3339[8..10],
        months[month - 1],
        &rfc3339[..4],
        &rfc3339[11..19]
    )
}

async fn handle(
    State(store): State<Shared>,
    ConnectInfo(socket): ConnectInfo<Socket>,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 30).await.unwrap();
    let key = key(&parts.uri);
    let query: BTreeMap<String, String> = query(&parts.uri);
    if [Method::GET, Method::HEAD].contains(&parts.method) {
        let mut store = lock(&store);
        if !store.read_faults.is_empty() {
            let status = store.read_faults.remove(0);
            return StatusCode::from_u16(status).unwrap().into_response();
        }
    }
    match parts.method {
        Method::PUT if query.contains_key("uploadId") => part(&store, &query, bytes),
        Method::POST => upload(&store, key, &query, &parts.headers),
        Method::PUT => put(&store, &socket, key, &parts.headers, bytes).await,
        Method::GET if key.1.is_empty() => list::list(&store, &key.0, &query),
        Method::GET | Method::HEAD => get(
            &store,
            key,
            &query,
            &parts.headers,
            parts.method == Method::HEAD,
        ),
        Method::DELETE if query.contains_key("uploadId") => {
            match lock(&store).uploads.remove(&query["uploadId"]) {
                Some(_) => StatusCode::NO_CONTENT.into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        Method::DELETE => match lock(&store).objects.remove(&key) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn key(uri: &Uri) -> (String, String) {
    let path = decode(uri.path().trim_start_matches('/'));
    let (bucket, name) = path.split_once('/').unwrap_or((&path, ""));
    (bucket.to_owned(), name.to_owned())
}

fn decode(text: &str) -> String {
    let url = reqwest::Url::parse(&format!("http://h/?x={}", text.replace('+', "%2B"))).unwrap();
    let (_, value) = url.query_pairs().next().unwrap();
    value.into_owned()
}

fn query(uri: &Uri) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://h/?{}", uri.query().unwrap_or(""))).unwrap();
    url.query_pairs().into_owned().collect()
}

/// The connection ends without an answer: hyper drops it with the task that serves it.
fn close() -> ! {
    std::panic::resume_unwind(Box::new("closed on purpose"))
}

async fn put(
    store: &Shared,
    socket: &Socket,
    key: (String, String),
    headers: &HeaderMap,
    bytes: Bytes,
) -> Response {
    let fault = {
        let mut store = lock(store);
        if store.faults.is_empty() {
            None
        } else {
            Some(store.faults.remove(0))
        }
    };
    match fault {
        Some(Fault::Refuse(status)) => {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
        Some(Fault::CloseBefore) => close(),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Slow) => tokio::time::sleep(Duration::from_millis(500)).await,
        _ => {}
    }
    let written = write(store, key, headers, bytes);
    match fault {
        Some(Fault::WriteThen(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Fault::WriteThenClose) => close(),
        Some(Fault::WriteThenReset) => {
            socket.reset();
            close()
        }
        Some(Fault::WriteThenHang) => std::future::pending().await,
        _ => written,
    }
}

fn write(store: &Shared, key: (String, String), headers: &HeaderMap, bytes: Bytes) -> Response {
    let mut store = lock(store);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (bytes, attributes) = match text("x-goog-copy-source") {
        Some(source) => {
            let path = decode(source.trim_start_matches('/'));
            let (bucket, name) = path.split_once('/').unwrap();
            match store.objects.get(&(bucket.to_owned(), name.to_owned())) {
                Some(object) => (object.bytes.clone(), object.attributes.clone()),
                None => return StatusCode::NOT_FOUND.into_response(),
            }
        }
        None => (bytes, attributes(headers)),
    };
    if let Some(wanted) = text("x-goog-if-generation-match") {
        let there = store
            .objects
            .get(&key)
            .map_or(0, |object| object.generation);
        if wanted.parse() != Ok(there) {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
    }
    let generation = store.put(key, bytes, attributes);
    tagged(generation).into_response()
}

fn attributes(headers: &HeaderMap) -> Vec<(String, HeaderValue)> {
    let kept = [
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
    ];
    let kept = |name: &str| {
        kept.contains(&name)
            || name == "content-language"
            || name == "x-goog-storage-class"
            || name.starts_with("x-goog-meta-")
    };
    let named = headers.iter().filter(|(name, _)| kept(name.as_str()));
    named
        .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
        .collect()
}

fn tagged(generation: u64) -> [(&'static str, String); 2] {
    [
        ("etag", format!("\"{generation}\"")),
        ("x-goog-generation", generation.to_string()),
    ]
}

fn get(
    store: &Shared,
    key: (String, String),
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
    head: bool,
) -> Response {
    let store = lock(store);
    let found = match query.get("generation").and_then(|text| text.parse().ok()) {
        Some(generation) => store.generations.get(&(key.0, key.1, generation)),
        None => store.objects.get(&key),
    };
    let Some(object) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(status) = refused(object, headers) {
        return status.into_response();
    }
    let length = object.bytes.len();
    let range = headers
        .get("range")
        .and_then(|value| range(value.to_str().ok()?, length));
    let (status, bytes) = match &range {
        Some(range) if range.start >= length || range.is_empty() => {
            return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        }
        Some(range) => (
            StatusCode::PARTIAL_CONTENT,
            object.bytes.slice(range.clone()),
        ),
        None => (StatusCode::OK, object.bytes.clone()),
    };
    let mut response = (
        status,
        tagged(object.generation),
        if head { Bytes::new() } else { bytes.clone() },
    )
        .into_response();
    let answer = response.headers_mut();
    answer.insert("content-length", HeaderValue::from(bytes.len()));
    answer.insert("last-modified", object.modified.parse().unwrap());
    if let Some(range) = range {
        let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        answer.insert("content-range", text.parse().unwrap());
    }
    for (name, value) in &object.attributes {
        answer.insert(
            axum::http::HeaderName::try_from(name).unwrap(),
            value.clone(),
        );
    }
    response
}

fn refused(object: &Object, headers: &HeaderMap) -> Option<StatusCode> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let tag = format!("\"{}\"", object.generation);
    let at = |text: &str| humantime::parse_rfc3339_weak(&rfc3339(text)).unwrap();
    let modified = at(&object.modified);
    match () {
        () if text("if-match").is_some_and(|wanted| wanted != tag) => {}
        () if text("if-none-match").is_some_and(|known| known == tag) => {
            return Some(StatusCode::NOT_MODIFIED);
        }
        () if text("if-unmodified-since").is_some_and(|since| modified > at(since)) => {}
        () if text("if-modified-since").is_some_and(|since| modified <= at(since)) => {
            return Some(StatusCode::NOT_MODIFIED);
        }
        () => return None,
    }
    Some(StatusCode::PRECONDITION_FAILED)
}

/// `24 Nov 2026 08:12:31 GMT`, or RFC 2822 with a day's name or an offset of zero.
fn rfc3339(text: &str) -> String {
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let text = text.split_once(", ").map_or(text, |(_, rest)| rest);
    let words: Vec<&str> = text.split_whitespace().collect();
    let month = months.find(words[1]).unwrap() / 3 + 1;
    format!("{}-{month:02}-{:0>2}T{}Z", words[2], words[0], words[3])
}

fn range(text: &str, length: usize) -> Option<std::ops::Range<usize>> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (start.parse::<usize>().ok(), end.parse::<usize>().ok()) {
        (Some(start), Some(end)) => Some(start..(end + 1).min(length)),
        (Some(start), None) => Some(start..length),
        (None, Some(last)) => Some(length.saturating_sub(last)..length),
        (None, None) => None,
    }
}

fn part(store: &Shared, query: &BTreeMap<String, String>, bytes: Bytes) -> Response {
    let mut store = lock(store);
    let number: u32 = query["partNumber"].parse().unwrap();
    match store.uploads.get_mut(&query["uploadId"]) {
        Some((_, parts)) => {
            parts.insert(number, bytes);
            tagged(u64::from(number)).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn upload(
    store: &Shared,
    key: (String, String),
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
) -> Response {
    let mut store = lock(store);
    let Some(id) = query.get("uploadId") else {
        store.last += 1;
        let id = format!("upload-{}", store.last);
        let upload = (attributes(headers), BTreeMap::new());
        store.uploads.insert(id.clone(), upload);
        return format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        )
        .into_response();
    };
    let Some((attributes, parts)) = store.uploads.remove(id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let bytes: Vec<u8> = parts.into_values().flatten().collect();
    let generation = store.put(key, bytes.into(), attributes);
    let body = format!(
        "<CompleteMultipartUploadResult><ETag>\"{generation}\"</ETag></CompleteMultipartUploadResult>"
    );
    (tagged(generation), body).into_response()
}

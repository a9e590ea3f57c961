//! The HTTP side of the simulated league API.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinHandle;

use super::Options;
use super::cell::{Cell, Versions};
use super::faults::{Fault, Spec};
use super::rate::Window;

/// How late a slow answer is.
const SLOW: Duration = Duration::from_millis(300);

/// A simulated API that listens until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Serves until the process ends.
    pub async fn wait(mut self) {
        // Nobody aborts it while it is borrowed here.
        let _ = (&mut self.task).await;
    }
}

struct Api {
    options: Options,
    versions: Option<Versions>,
    state: Mutex<Moods>,
    cells: Mutex<Cells>,
}

/// By platform, tier and queue.
type Cells = HashMap<(String, String, String), Arc<Mutex<Cell>>>;

struct Moods {
    random: StdRng,
    faults: Spec,
    /// For the next request, of a cell or of any.
    next: Vec<(Option<String>, Fault)>,
    window: Window,
    requests: u64,
}

type Shared = State<Arc<Api>>;

/// Starts to listen.
///
/// # Errors
/// When the address is taken, or the file of versions cannot be opened.
pub async fn serve(options: Options) -> std::io::Result<Running> {
    let versions = match &options.versions {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            Some(Arc::new(Mutex::new(file)))
        }
        None => None,
    };
    let listener = tokio::net::TcpListener::bind(options.address).await?;
    let address = listener.local_addr()?;
    let moods = Moods {
        random: StdRng::seed_from_u64(!options.seed),
        faults: options.faults.clone(),
        next: Vec::new(),
        window: Window::new(options.rate.clone()),
        requests: 0,
    };
    let api = Arc::new(Api {
        options,
        versions,
        state: Mutex::new(moods),
        cells: Mutex::default(),
    });
    let app = Router::new()
        .route(
            "/{platform}/lol/league/v4/{league}/by-queue/{queue}",
            get(league),
        )
        .route(
            "/lol/league/v4/{league}/by-queue/{queue}",
            get(league_of_kr),
        )
        .route("/sim/faults", post(set_faults))
        .route("/sim/ladder", post(set_ladder))
        .route("/sim/stats", get(stats))
        .with_state(api);
    let task = tokio::spawn(async move {
        // It ends with the task.
        let _ = axum::serve(listener, app).await;
    });
    Ok(Running { address, task })
}

async fn league_of_kr(
    api: Shared,
    Path((league, queue)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    answer(api, ("kr".into(), league, queue), headers).await
}

async fn league(
    api: Shared,
    Path(path): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    answer(api, path, headers).await
}

async fn answer(
    State(api): Shared,
    (platform, league, queue): (String, String, String),
    headers: HeaderMap,
) -> Response {
    let tier = match league.as_str() {
        "challengerleagues" => "challenger",
        "grandmasterleagues" => "grandmaster",
        "masterleagues" => "master",
        _ => return refuse(StatusCode::NOT_FOUND, "Data not found"),
    };
    match headers.get("X-Riot-Token").map(HeaderValue::as_bytes) {
        None => return refuse(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Some(token) if token != api.options.token.as_bytes() => {
            return refuse(StatusCode::FORBIDDEN, "Forbidden");
        }
        Some(_) => {}
    }
    let name = format!("{platform},{queue}");
    let (fault, limits) = match api.admit(&name) {
        Ok(admitted) => admitted,
        Err(wait) => return too_many(Some(wait)),
    };
    let cell = api.cell(platform, tier, queue);
    let mut response = with_fault(cell, fault).await;
    let (limit, count) = limits;
    for (name, value) in [
        ("X-App-Rate-Limit", &limit),
        ("X-App-Rate-Limit-Count", &count),
        ("X-Method-Rate-Limit", &limit),
        ("X-Method-Rate-Limit-Count", &count),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn with_fault(cell: Arc<Mutex<Cell>>, fault: Option<Fault>) -> Response {
    match fault {
        Some(Fault::TooMany) => return too_many(Some(1)),
        Some(Fault::TooManyBare) => return too_many(None),
        Some(Fault::Error) => {
            return (
                StatusCode::INTERNAL_SERVER_ERROR,
                "something broke, not in JSON",
            )
                .into_response();
        }
        Some(Fault::Unavailable) => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable");
        }
        Some(Fault::Html) => return whole("text/html", Bytes::from_static(b"<html>Sorry</html>")),
        Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
        Some(Fault::Reset) => return broken(0, &Bytes::new()),
        _ => {}
    }
    let next = tokio::task::spawn_blocking(move || {
        let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if fault == Some(Fault::Empty) {
            cell.serve_empty()
        } else {
            cell.take()
        }
    });
    let Ok(Ok(version)) = next.await else {
        return refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the versions file cannot be written",
        );
    };
    let body = version.body;
    match fault {
        Some(Fault::Cut) => broken(body.len(), &body.slice(..body.len() / 2)),
        Some(Fault::Malformed) => whole("application/json", body.slice(..body.len() - 2)),
        _ => whole("application/json;charset=utf-8", body),
    }
}

fn whole(kind: &'static str, body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A body that breaks off after `part` of `promised` bytes.
fn broken(promised: usize, part: &Bytes) -> Response {
    let parts = [
        Ok(part.clone()),
        Err(std::io::Error::other("broken off on purpose")),
    ];
    let body = Body::from_stream(stream::iter(parts));
    let mut response = body.into_response();
    let promised = HeaderValue::from(promised.max(1));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, promised);
    response
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let body = json!({ "status": { "message": message, "status_code": status.as_u16() } });
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

fn too_many(wait: Option<u64>) -> Response {
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded");
    if let Some(wait) = wait {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait));
        let kind = HeaderValue::from_static("application");
        response.headers_mut().insert("X-Rate-Limit-Type", kind);
    }
    response
}

impl Api {
    fn moods(&self) -> std::sync::MutexGuard<'_, Moods> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; the fault that it meets, limits and counts.
    fn admit(&self, cell: &str) -> Result<(Option<Fault>, (String, String)), u64> {
        let mut moods = self.moods();
        moods.requests += 1;
        moods.window.request()?;
        let once = moods
            .next
            .iter()
            .position(|(of, _)| of.as_deref().is_none_or(|of| of == cell));
        let fault = match once {
            Some(at) => Some(moods.next.remove(at).1),
            None => {
                let at = moods.random.random::<f64>();
                moods.faults.pick(at)
            }
        };
        Ok((fault, (moods.window.limits(), moods.window.counts())))
    }

    fn cell(&self, platform: String, tier: &str, queue: String) -> Arc<Mutex<Cell>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (platform, tier.to_owned(), queue);
        if let Some(cell) = cells.get(&name) {
            return cell.clone();
        }
        let of = (name.0.as_str(), tier, name.2.as_str());
        let cell = Arc::new(Mutex::new(Cell::new(
            &self.options,
            of,
            self.versions.clone(),
        )));
        cells.insert(name, cell.clone());
        cell
    }
}

/// `?spec=429:0.1` from now on, or `?next=cut[&cell=kr,RANKED_SOLO_5x5]` once.
async fn set_faults(
    State(api): Shared,
    Query(query): Query<HashMap<String, String>>,
) -> Result<String, (StatusCode, String)> {
    let wrong = |what| (StatusCode::BAD_REQUEST, what);
    let mut moods = api.moods();
    if let Some(spec) = query.get("spec") {
        moods.faults = spec.parse().map_err(wrong)?;
    }
    if let Some(next) = query.get("next") {
        moods
            .next
            .push((query.get("cell").cloned(), next.parse().map_err(wrong)?));
    }
    Ok("ok\n".into())
}

/// `?cell=kr,RANKED_SOLO_5x5` (all without it) with `empty=N`, `frozen=true|false` or `advance=N`.
async fn set_ladder(
    State(api): Shared,
    Query(query): Query<HashMap<String, String>>,
) -> Result<String, Infallible> {
    let cells = api.cells.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    for ((platform, _, queue), cell) in cells.iter() {
        let name = format!("{platform},{queue}");
        if query.get("cell").is_some_and(|only| *only != name) {
            continue;
        }
        let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(empty) = number("empty") {
            cell.empty = empty;
        }
        if let Some(frozen) = query.get("frozen") {
            cell.frozen = frozen == "true";
        }
        cell.skip += number("advance").unwrap_or(0);
    }
    Ok("ok\n".into())
}

async fn stats(State(api): Shared) -> axum::Json<serde_json::Value> {
    let cells = api.cells.lock().unwrap_or_else(PoisonError::into_inner);
    let served = cells.iter().map(|((platform, tier, queue), cell)| {
        let cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
        (format!("{platform},{queue},{tier}"), json!(cell.served()))
    });
    let served: serde_json::Map<_, _> = served.collect();
    axum::Json(json!({ "requests": api.moods().requests, "served": served }))
}

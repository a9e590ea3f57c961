//! The knobs of a running simulation, for tests.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::fault::{Faults, Trouble};
use super::league::{League, Place};

/// More versions than this are not skipped at once: every one of them has to be played.
const SKIP_MAX: u64 = 1_000_000;

/// `next` once, or `spec` from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultsQuery {
    next: Option<String>,
    cell: Option<String>,
    spec: Option<String>,
}

/// `n` versions on for a cell, 1 by default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdvanceQuery {
    cell: String,
    tier: Option<String>,
    n: Option<u64>,
}

/// The next `empty` answers of a cell are empty ladders; a `frozen` one stands still.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetQuery {
    cell: String,
    tier: Option<String>,
    empty: Option<u64>,
    frozen: Option<bool>,
}

/// Requests that come after so many are not answered, until `after` grows or is left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldQuery {
    after: Option<u64>,
}

type Answer = Result<Response, (StatusCode, String)>;

pub(super) async fn faults(
    State(league): State<Arc<League>>,
    Query(query): Query<FaultsQuery>,
) -> Answer {
    let spec: Option<Faults> = query
        .spec
        .map(|spec| spec.parse())
        .transpose()
        .map_err(bad)?;
    let mut next: Vec<Trouble> = Vec::new();
    for name in query.next.iter().flat_map(|next| next.split(',')) {
        next.push(name.parse().map_err(bad)?);
    }
    if let Some(cell) = &query.cell {
        place(cell, None)?;
    }
    let mut dice = league.dice();
    if let Some(spec) = spec {
        dice.set(spec);
    }
    for trouble in next {
        dice.once(query.cell.clone(), trouble);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn advance(
    State(league): State<Arc<League>>,
    Query(query): Query<AdvanceQuery>,
) -> Answer {
    let count = query.n.unwrap_or(1);
    if count > SKIP_MAX {
        return Err(bad(format!("n is {count}: use at most {SKIP_MAX}")));
    }
    let cell = league
        .cell(place(&query.cell, query.tier.as_deref())?)
        .map_err(failed)?;
    cell.lock().await.skip(count);
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn set(
    State(league): State<Arc<League>>,
    Query(query): Query<SetQuery>,
) -> Answer {
    let cell = league
        .cell(place(&query.cell, query.tier.as_deref())?)
        .map_err(failed)?;
    if query.empty.is_none() && query.frozen.is_none() {
        return Err(bad("nothing to set: use empty=N or frozen=true".to_owned()));
    }
    let mut cell = cell.lock().await;
    if let Some(empty) = query.empty {
        cell.set_empty(empty);
    }
    if let Some(frozen) = query.frozen {
        cell.set_frozen(frozen);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn hold(
    State(league): State<Arc<League>>,
    Query(query): Query<HoldQuery>,
) -> StatusCode {
    league.hold(query.after);
    StatusCode::NO_CONTENT
}

pub(super) async fn stats(State(league): State<Arc<League>>) -> Response {
    let counts = league.counts();
    let mut cells = Vec::new();
    for cell in league.cells().into_values() {
        cells.push(cell.lock().await.stats());
    }
    let versions: u64 = cells.iter().map(|cell| cell.versions).sum();
    let body = json!({
        "arrived": counts.arrived,
        "requests": counts.requests,
        "faults": counts.faults,
        "statuses": counts.statuses,
        "versions": versions,
        "cells": cells,
    });
    (
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

fn place(cell: &str, tier: Option<&str>) -> Result<Place, (StatusCode, String)> {
    cell.split_once(',')
        .and_then(|(platform, queue)| Place::find(platform, queue, tier.unwrap_or("challenger")))
        .ok_or_else(|| {
            bad(format!(
                "unknown cell {cell:?}: use one like kr,RANKED_SOLO_5x5"
            ))
        })
}

fn bad(message: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message + "\n")
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn failed(error: std::io::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

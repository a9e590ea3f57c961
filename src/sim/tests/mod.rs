//! The simulation as a plain client sees it.

mod faults;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::sim::{Advance, FieldOrder, Options, Order, Running, serve};

const SOLO: &str = "/kr/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5";
const FLEX: &str = "/kr/lol/league/v4/challengerleagues/by-queue/RANKED_FLEX_SR";
const CELL: &str = "kr,RANKED_SOLO_5x5";

type Entries = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Ladder {
    entries: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Puuid {
    puuid: String,
}

#[derive(Deserialize)]
struct Line {
    cell: String,
    tier: String,
    version: u64,
    entries: Entries,
}

async fn start(options: Options) -> Running {
    serve(options).await.unwrap()
}

async fn get(running: &Running, path: &str) -> Response {
    let url = format!("{}{path}", running.url());
    Client::new().get(url).send().await.unwrap()
}

async fn body(running: &Running, path: &str) -> String {
    let answer = get(running, path).await;
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

async fn post(running: &Running, path: &str) -> u16 {
    let url = format!("{}{path}", running.url());
    Client::new()
        .post(url)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

async fn stats(running: &Running) -> Value {
    serde_json::from_str(&body(running, "/sim/stats").await).unwrap()
}

fn entries(body: &str) -> Entries {
    let ladder: Ladder = serde_json::from_str(body).unwrap();
    let entry = |raw: Box<RawValue>| {
        let puuid: Puuid = serde_json::from_str(raw.get()).unwrap();
        (puuid.puuid, raw.get().to_owned())
    };
    ladder.entries.into_iter().map(entry).collect()
}

fn lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a line is whole");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let (one, two) = (
        start(Options::default()).await,
        start(Options::default()).await,
    );
    let other = start(Options {
        seed: 8,
        ..Options::default()
    })
    .await;
    for _ in 0..5 {
        let expected = body(&one, SOLO).await;
        assert_eq!(expected, body(&two, SOLO).await);
        assert_ne!(expected, body(&other, SOLO).await);
    }
    let later = start(Options {
        first_version: 4,
        ..Options::default()
    })
    .await;
    let again = start(Options::default()).await;
    assert_eq!(
        post(&again, &format!("/sim/advance?cell={CELL}&n=4")).await,
        204
    );
    assert_eq!(body(&later, SOLO).await, body(&again, SOLO).await);
}

#[tokio::test]
async fn unchanged_players_keep_their_bytes_and_the_order_changes() {
    let running = start(Options {
        entries: 2_000,
        ..Options::default()
    })
    .await;
    let first = body(&running, SOLO).await;
    let second = body(&running, SOLO).await;
    let (before, after) = (entries(&first), entries(&second));
    let changed = before
        .iter()
        .filter(|(who, entry)| after.get(*who) != Some(*entry))
        .count();
    assert!(
        (20..=25).contains(&changed),
        "{changed} of 2,000 changed or left"
    );
    assert!(
        before
            .values()
            .all(|entry| (190..=230).contains(&entry.len()))
    );
    assert!(before.keys().all(|puuid| puuid.len() == 78));
    let order = |body: &str| {
        let ladder: Ladder = serde_json::from_str(body).unwrap();
        let texts = ladder.entries.into_iter().map(|raw| raw.get().to_owned());
        texts
            .filter(|text| after.values().any(|entry| entry == text))
            .take(50)
            .collect::<Vec<_>>()
    };
    assert_ne!(order(&first), order(&second));
}

#[tokio::test]
async fn varied_fields_change_the_bytes_and_not_the_values() {
    let running = start(Options {
        churn: 0.0,
        leave: 0.0,
        field_order: FieldOrder::Varied,
        ..Options::default()
    })
    .await;
    let before = entries(&body(&running, SOLO).await);
    let after = entries(&body(&running, SOLO).await);
    assert!(before.keys().eq(after.keys()));
    let value = |text: &String| serde_json::from_str::<Value>(text).unwrap();
    assert!(before.values().map(value).eq(after.values().map(value)));
    let same = before
        .values()
        .zip(after.values())
        .filter(|(a, b)| a == b)
        .count();
    assert!(same < 10, "{same} of 300 entries have the same bytes");
}

#[tokio::test]
async fn a_still_ladder_in_fixed_order_is_the_same_bytes() {
    let options = Options {
        churn: 0.0,
        leave: 0.0,
        order: Order::Fixed,
        ..Options::default()
    };
    let running = start(options.clone()).await;
    let first = body(&running, SOLO).await;
    assert_eq!(first, body(&running, SOLO).await);
    assert_eq!(stats(&running).await["cells"][0]["version"], 1);
    let shuffled = start(Options {
        order: Order::Shuffled,
        ..options
    })
    .await;
    let (one, two) = (body(&shuffled, SOLO).await, body(&shuffled, SOLO).await);
    assert_ne!(one, two);
    assert_eq!(entries(&one), entries(&two));
}

#[tokio::test]
async fn queues_share_players_and_the_plain_path_is_kr() {
    let running = start(Options::default()).await;
    let solo = entries(&body(&running, SOLO).await);
    let flex = entries(&body(&running, FLEX).await);
    assert!(solo.keys().eq(flex.keys()));
    assert_ne!(solo, flex);
    let plain = entries(&body(&running, SOLO.strip_prefix("/kr").unwrap()).await);
    let known = plain.keys().filter(|who| solo.contains_key(*who)).count();
    assert!(known > 290, "{known} of 300 are the same players");
    let cells = stats(&running).await["cells"].clone();
    assert_eq!(cells.as_array().unwrap().len(), 2);
    for wrong in [
        SOLO.replace("kr", "xx"),
        SOLO.replace("5x5", "3x3"),
        "/lol".to_owned(),
    ] {
        assert_eq!(get(&running, &wrong).await.status(), 404);
    }
}

#[tokio::test]
async fn the_versions_file_has_what_was_served_before_it_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("versions.ndjson");
    let running = start(Options {
        field_order: FieldOrder::Varied,
        versions: Some(path.clone()),
        ..Options::default()
    })
    .await;
    for version in 0..20 {
        let served = entries(&body(&running, SOLO).await);
        let lines = lines(&path);
        assert_eq!(lines.len(), version + 1, "only served versions have a line");
        let line = lines.last().unwrap();
        assert_eq!(
            (line.cell.as_str(), line.tier.as_str()),
            (CELL, "challenger")
        );
        assert_eq!(line.version, version as u64);
        assert_eq!(line.entries, served);
    }
}

#[tokio::test]
async fn empty_ladders_are_versions_too() {
    let directory = tempfile::tempdir().unwrap();
    for advance in [
        Advance::PerRequest,
        Advance::Every(Duration::from_secs(3_600)),
    ] {
        let path = directory.path().join(format!("{advance:?}.ndjson"));
        let running = start(Options {
            advance,
            versions: Some(path.clone()),
            ..Options::default()
        })
        .await;
        body(&running, SOLO).await;
        post(&running, &format!("/sim/set?cell={CELL}&empty=2")).await;
        let mut sizes = Vec::new();
        for _ in 0..2 {
            sizes.push(entries(&body(&running, SOLO).await).len());
        }
        post(&running, "/sim/faults?next=empty").await;
        sizes.push(entries(&body(&running, SOLO).await).len());
        assert_eq!(sizes, [0, 0, 0]);
        assert!(entries(&body(&running, SOLO).await).len() > 290);
        let lines: Vec<_> = lines(&path)
            .into_iter()
            .map(|line| line.entries.len() > 290)
            .collect();
        assert_eq!(lines, [true, false, false, false, true]);
    }
}

#[tokio::test]
async fn by_interval_a_version_stays_until_its_time() {
    let running = start(Options {
        advance: Advance::Every(Duration::from_secs(3_600)),
        ..Options::default()
    })
    .await;
    let first = body(&running, SOLO).await;
    assert_eq!(first, body(&running, SOLO).await);
    post(&running, &format!("/sim/advance?cell={CELL}&n=5")).await;
    assert_ne!(first, body(&running, SOLO).await);
    assert_eq!(stats(&running).await["cells"][0]["version"], 5);

    let quick = start(Options {
        advance: Advance::Every(Duration::from_millis(1)),
        ..Options::default()
    })
    .await;
    let first = body(&quick, SOLO).await;
    while first == body(&quick, SOLO).await {}
}

#[tokio::test]
async fn a_stopped_simulation_frees_its_port() {
    let running = start(Options::default()).await;
    let address = running.address;
    let client = Client::new();
    client
        .get(format!("{}{SOLO}", running.url()))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    running.stop().await;
    let again = start(Options {
        address,
        ..Options::default()
    })
    .await;
    assert_eq!(get(&again, SOLO).await.status(), 200);
}

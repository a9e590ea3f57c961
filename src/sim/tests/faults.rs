//! What goes wrong, as a plain client sees it.

use super::*;
use crate::sim::Rate;

#[tokio::test]
async fn the_token_is_checked_before_anything_else() {
    let running = start(Options {
        token: Some("right".to_owned()),
        faults: "500:1".parse().unwrap(),
        ..Options::default()
    })
    .await;
    let ask = |token: Option<&'static str>| {
        let request = Client::new().get(format!("{}{SOLO}", running.url()));
        match token {
            Some(token) => request.header("X-Riot-Token", token),
            None => request,
        }
        .send()
    };
    assert_eq!(ask(None).await.unwrap().status(), 401);
    assert_eq!(ask(Some("wrong")).await.unwrap().status(), 403);
    assert_eq!(ask(Some("right")).await.unwrap().status(), 500);
}

#[tokio::test]
async fn refusals_use_up_no_version() {
    let running = start(Options::default()).await;
    let first = body(&running, SOLO).await;
    assert_eq!(entries(&first).len(), 300);
    let next = "/sim/faults?next=429,429-bare,500,503,html,reset";
    assert_eq!(post(&running, next).await, 204);

    let answer = get(&running, SOLO).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["x-rate-limit-type"], "service");
    let answer = get(&running, SOLO).await;
    assert_eq!(answer.status(), 429);
    assert!(!answer.headers().contains_key("retry-after"));
    assert!(!answer.headers().contains_key("x-rate-limit-type"));
    assert_eq!(get(&running, SOLO).await.status(), 500);
    let answer = get(&running, SOLO).await;
    assert_eq!(answer.status(), 503);
    assert!(serde_json::from_str::<Value>(&answer.text().await.unwrap()).is_err());
    assert!(body(&running, SOLO).await.starts_with("<!DOCTYPE html>"));
    let reset = Client::new()
        .get(format!("{}{SOLO}", running.url()))
        .send()
        .await;
    assert!(reset.is_err(), "a reset connection answers nothing");

    assert_eq!(stats(&running).await["cells"][0]["version"], 0);
    body(&running, SOLO).await;
    assert_eq!(stats(&running).await["cells"][0]["version"], 1);
}

#[tokio::test]
async fn a_cut_answer_is_an_error_and_its_version_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("versions.ndjson");
    let running = start(Options {
        entries: 5_000,
        versions: Some(path.clone()),
        ..Options::default()
    })
    .await;
    for round in 0..10 {
        post(&running, &format!("/sim/faults?next=cut&cell={CELL}")).await;
        let mut answer = get(&running, SOLO).await;
        assert_eq!(answer.status(), 200);
        let length = answer.content_length().unwrap();
        let mut read = 0;
        let ended = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => read += chunk.len() as u64,
                Ok(None) => break "at its length",
                Err(_) => break "early",
            }
        };
        assert_eq!(ended, "early", "after {read} of {length} bytes");
        assert!(read < length);
        assert_eq!(lines(&path).last().unwrap().version, round);
    }
}

#[tokio::test]
async fn a_malformed_answer_is_complete_and_no_json() {
    let running = start(Options {
        faults: "malformed:1".parse().unwrap(),
        ..Options::default()
    })
    .await;
    for _ in 0..20 {
        let body = body(&running, SOLO).await;
        assert!(serde_json::from_str::<Value>(&body).is_err());
    }
}

#[tokio::test]
async fn a_slow_answer_pauses_inside() {
    let running = start(Options {
        slow: Duration::from_secs(3_600),
        ..Options::default()
    })
    .await;
    post(&running, "/sim/faults?next=slow").await;
    let client = Client::builder()
        .timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let answer = client
        .get(format!("{}{SOLO}", running.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap_err().is_timeout());
    let brief = start(Options {
        slow: Duration::from_millis(10),
        faults: "slow:1".parse().unwrap(),
        ..Options::default()
    })
    .await;
    assert_eq!(entries(&body(&brief, SOLO).await).len(), 300);
}

#[tokio::test]
async fn a_rate_is_enforced_only_when_given() {
    let limited = start(Options {
        rate: Some("2:3600".parse().unwrap()),
        ..Options::default()
    })
    .await;
    let first = get(&limited, SOLO).await;
    assert_eq!(first.headers()["x-app-rate-limit"], "2:3600");
    assert_eq!(first.headers()["x-app-rate-limit-count"], "1:3600");
    assert_eq!(first.headers()["x-method-rate-limit"], "2:3600");
    assert_eq!(get(&limited, FLEX).await.status(), 200);
    let third = get(&limited, SOLO).await;
    assert_eq!(third.status(), 429);
    assert_eq!(third.headers()["x-rate-limit-type"], "application");
    let wait: u64 = third.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait} s");
    assert_eq!(
        get(&limited, &SOLO.replace("kr", "euw1")).await.status(),
        200
    );

    let free = start(Options::default()).await;
    for _ in 0..30 {
        assert_eq!(get(&free, SOLO).await.status(), 200);
    }
    let shown = Rate::default();
    assert_eq!("30000:10,1800000:600".parse(), Ok(shown));
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_the_versions_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("versions.ndjson");
    let running = start(Options {
        entries: 20_000,
        versions: Some(path.clone()),
        ..Options::default()
    })
    .await;
    let impatient = Client::builder()
        .timeout(Duration::from_millis(1))
        .build()
        .unwrap();
    for _ in 0..10 {
        let _ = impatient
            .get(format!("{}{SOLO}", running.url()))
            .send()
            .await;
    }
    let served = entries(&body(&running, SOLO).await);
    let lines = lines(&path);
    assert!(
        (0..)
            .zip(&lines)
            .all(|(number, line)| line.version == number)
    );
    assert_eq!(lines.last().unwrap().entries, served);
}

#[tokio::test]
async fn a_frozen_ladder_stands_still_until_it_is_let_go() {
    let running = start(Options::default()).await;
    let body = async || get(&running, SOLO).await.bytes().await.unwrap();
    let first = body().await;
    assert_eq!(
        post(&running, "/sim/set?cell=kr,RANKED_SOLO_5x5&frozen=true").await,
        204
    );
    assert_eq!((body().await, body().await), (first.clone(), first.clone()));
    assert_eq!(
        post(&running, "/sim/set?cell=kr,RANKED_SOLO_5x5&frozen=false").await,
        204
    );
    assert_ne!(body().await, first);
}

async fn until_arrived(running: &Running, requests: u64) {
    let arrived = async { while stats(running).await["arrived"] != requests {} };
    tokio::time::timeout(Duration::from_secs(60), arrived)
        .await
        .expect("they arrive");
}

#[tokio::test]
async fn requests_are_held_and_let_go() {
    let running = start(Options::default()).await;
    assert_eq!(post(&running, "/sim/hold?after=1").await, 204);
    assert_eq!(get(&running, SOLO).await.status(), 200);
    let held = tokio::spawn(reqwest::get(format!("{}{SOLO}", running.url())));
    until_arrived(&running, 2).await;
    assert_eq!(stats(&running).await["requests"], 1);
    assert!(!held.is_finished(), "the second request waits");
    assert_eq!(post(&running, "/sim/hold").await, 204);
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    assert_eq!(stats(&running).await["requests"], 2);
    assert_eq!(post(&running, "/sim/hold?after=0").await, 204);
    let held = tokio::spawn(reqwest::get(format!("{}{SOLO}", running.url())));
    until_arrived(&running, 3).await;
    running.stop().await;
    assert_eq!(held.await.unwrap().unwrap().status(), 200, "a stop answers");
}

#[tokio::test]
async fn wrong_knobs_are_refused() {
    let running = start(Options::default()).await;
    for path in [
        "/sim/faults?next=crash",
        "/sim/faults?spec=cut",
        "/sim/faults?next=cut&cell=xx,RANKED_SOLO_5x5",
        "/sim/faults?nxt=cut",
        "/sim/advance?cell=kr&n=1",
        "/sim/advance?cell=kr,RANKED_SOLO_5x5&n=1000000000",
        "/sim/set?cell=kr,RANKED_SOLO_5x5",
        "/sim/hold?after=-1",
    ] {
        assert_eq!(post(&running, path).await, 400, "{path}");
    }
    let wrong = Options {
        churn: 1.5,
        ..Options::default()
    };
    assert!(serve(wrong).await.unwrap_err().message.contains("churn"));
    let taken = Options {
        address: running.address,
        ..Options::default()
    };
    assert!(
        serve(taken)
            .await
            .unwrap_err()
            .message
            .contains("cannot listen")
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_version_whose_line_cannot_be_written_is_not_served() {
    let running = start(Options {
        versions: Some("/dev/full".into()),
        ..Options::default()
    })
    .await;
    for _ in 0..3 {
        assert_eq!(get(&running, SOLO).await.status(), 500);
    }
}

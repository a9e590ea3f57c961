//! The whole pipeline on real parts, against what the simulated API served.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::case::Case;
use crate::support::fault_table::{repetitions, row};
use crate::support::kafka::{Broker, PASSWORD};
use crate::support::objects::Fault;
use crate::support::sim::TOKEN;
use crate::support::wait::{PATIENCE, wait_until};

const KILLS: usize = 20;

#[test]
fn kafka_every_epoch_is_the_difference_of_two_served_versions_whatever_the_workers() {
    for workers in ["1", "2", "3"] {
        let case = Case::new("versions", &["--churn", "0.05", "--leave", "0.01"]);
        case.run(&["--workers", workers, "--rounds", "15"]).good();
        case.settle();
        let summary = case.check();
        for (cell, found) in summary["cells"].as_object().unwrap() {
            assert!(
                found["epochs"].as_u64().unwrap() >= 10,
                "{workers} workers, {cell}: {summary}"
            );
        }
        assert_eq!(
            summary["cells"].as_object().unwrap().len(),
            4,
            "no two cells' keys collide"
        );
    }
}

#[test]
fn crash_twenty_kills_with_changing_workers_lose_nothing_and_repeat_nothing() {
    let seed: u64 =
        std::env::var("DELTAPOLL_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    eprintln!("play it again with DELTAPOLL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut records = 0;
    let rounds = std::env::var("DELTAPOLL_KILL_ROUNDS")
        .map_or_else(|_| repetitions() as usize, |n| n.parse().unwrap());
    for _ in 0..rounds {
        records += twenty_kills(&mut random);
    }
    row(
        &format!(
            "kill -9 at {} random moments, 1 to 4 workers",
            KILLS * rounds
        ),
        &format!("0 duplicates, 0 losses, verify agrees ({records} records)"),
    );
}

/// Kills a pipeline twenty times; returns how many records there are then.
fn twenty_kills(random: &mut StdRng) -> u64 {
    let churn = ["0.01", "0.05", "0.3"][random.random_range(0..3)];
    let case = Case::new("kills", &["--churn", churn, "--leave", "0.01"]);
    for kill in 0..KILLS {
        let workers = random.random_range(1..=4).to_string();
        let program = case.start(&["--workers", &workers]);
        // A random point of its work: so many answers later, and then a little.
        let enough = case.sim.served() + random.random_range(1..60);
        wait_until("more answers", PATIENCE, || {
            (case.sim.served() >= enough).then_some(())
        });
        let moment = std::time::Instant::now();
        let little = std::time::Duration::from_micros(random.random_range(0..40_000));
        while moment.elapsed() < little {
            std::thread::yield_now();
        }
        let err = program.err();
        assert!(
            program.kill9(),
            "kill {kill}: it had ended by itself: {err}"
        );
    }
    case.settle();
    let summary = case.check();
    case.run(&["verify"]).good();
    let records = summary["records"].as_u64().unwrap();
    assert!(records > 1200, "{summary}");
    records
}

#[test]
fn faults_of_api_and_bucket_lose_nothing_and_repeat_nothing() {
    // Not "malformed": where only an entry's inside is, that entry keeps its old value (R5), and the
    // ladder is like no version that was served.
    let faults = "429:0.02,429-bare:0.01,500:0.05,503:0.05,cut:0.1,html:0.05,reset:0.05";
    let case = Case::new(
        "faults",
        &["--churn", "0.05", "--leave", "0.01", "--faults", faults],
    );
    case.objects.fail(&[
        Fault::Refuse(503),
        Fault::WriteThen(503),
        Fault::WriteThenClose,
        Fault::CloseBefore,
        Fault::Refuse(429),
    ]);
    let ended = case.run(&["--workers", "2", "--rounds", "25"]);
    assert!(
        [0, 1].contains(&ended.code()),
        "a cell's last attempt may have failed: {}",
        ended.err
    );
    case.settle();
    assert_eq!(case.objects.faults_left(), 0);
    case.check();
}

#[test]
fn an_unchanged_poll_makes_no_batch_no_transaction_no_object_no_page_and_no_fsync() {
    let case = Case::new("unchanged", &["--churn", "0", "--leave", "0"]);
    case.run(&["--rounds", "1", "--flush-archive"]).good();
    let sealed = |ended: String| {
        let line = ended
            .lines()
            .find(|line| line.starts_with("sealed "))
            .unwrap()
            .to_owned();
        assert!(line.starts_with("sealed 0 epochs, 0 batches"), "{line}");
        assert!(line.contains("0 objects, 0 pages written"), "{line}");
        let fsyncs = line
            .split_whitespace()
            .nth(5)
            .and_then(|word| word.parse::<i64>().ok());
        (fsyncs.unwrap(), line)
    };
    case.run(&["--rounds", "2"]).good();
    // What a start and a stop cost, give or take those that came together and shared one fsync; and
    // nothing for 152 polls more.
    let (few, line) = sealed(case.run(&["--workers", "2", "--rounds", "2"]).good().out);
    let (many, _) = sealed(case.run(&["--workers", "2", "--rounds", "40"]).good().out);
    assert!((few - many).abs() <= 3, "{few} and {many} fsyncs: {line}");
    assert_eq!(case.read_topic().len(), 4 * 300);
}

#[test]
fn r08_a_ladder_that_is_empty_for_one_answer_is_not_removed() {
    let case = Case::new("empty", &["--churn", "0", "--leave", "0"]);
    let case = case.source("every = \"15ms\"\nremoved_after = 2");
    case.run(&["--rounds", "1"]).good();
    case.sim.control("set?cell=kr,RANKED_SOLO_5x5&empty=1");
    case.run(&["--rounds", "4"]).good();
    assert_eq!(
        case.read_topic().len(),
        4 * 300,
        "nothing was removed, nothing added again"
    );
    case.sim.control("set?cell=kr,RANKED_SOLO_5x5&empty=2");
    case.run(&["--rounds", "5"]).good();
    let mut changes: HashMap<String, usize> = HashMap::new();
    for record in case.read_topic() {
        *changes
            .entry(record["headers"]["change"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(changes["removed"], 300, "two in a row are evidence");
    assert_eq!(changes["added"], 5 * 300, "and who comes back is added");
}

#[test]
fn kafka_over_tls_with_a_password_is_published_to_and_no_secret_is_ever_printed() {
    let broker = Broker::shared();
    let kafka = format!(
        r#"bootstrap = "{}"
properties = {{ "security.protocol" = "SASL_SSL", "sasl.mechanism" = "PLAIN", "sasl.username" = "test", "sasl.password" = "${{file:password}}", "ssl.ca.location" = "{}" }}"#,
        broker.secure_bootstrap(),
        broker.authority().display()
    );
    let case = Case::new("secure", &["--churn", "0.05"]).kafka(kafka);
    std::fs::write(case.dir.path().join("password"), PASSWORD).unwrap();
    case.run(&["--rounds", "5", "--log-level", "trace"]).good();
    case.settle();
    case.check();
    for file in files(case.dir.path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if ["password", "topic.ndjson"].contains(&name.as_str()) {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        for secret in [TOKEN, PASSWORD] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a secret is in {}", file.display());
        }
    }
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

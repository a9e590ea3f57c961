//! A lost directory, made again.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::*;

#[test]
fn r35_kafka_a_directory_lost_again_and_again_is_made_again_without_a_loss_or_a_repetition() {
    let case = hasty("lost", &CHURN);
    for stop in [interrupt, kill, kill] {
        work(&case, 60, stop);
        lose(&case);
        let rebuilt = case.run(&REBUILD).good();
        assert!(rebuilt.out.contains("next: run"), "{}", rebuilt.out);
        assert!(data(&case).join("journal").is_dir());
        assert!(!data(&case).join("rebuild.new").exists());
    }
    work(&case, 60, interrupt);
    case.settle();
    let summary = case.check();
    assert!(summary["records"].as_u64().unwrap() > 1500, "{summary}");
}

#[test]
fn r35_kafka_what_did_not_change_is_not_published_again() {
    let case = still("unchanged");
    run(&case, &[], &["--rounds", "2"]).good();
    let (before, records) = (remembered(&case), case.read_topic().len());
    assert_eq!((before.len(), records), (160, 160));
    lose(&case);
    let rebuilt = case.run(&REBUILD).good();
    assert!(rebuilt.out.contains("160 entries"), "{}", rebuilt.out);
    assert!(
        rebuilt.out.contains("goes on with 160 changes"),
        "{}",
        rebuilt.out
    );
    assert_eq!(remembered(&case), before);
    assert_eq!(case.settle().len(), records);
    case.check();
    // Now everything is in objects.
    lose(&case);
    let rebuilt = case.run(&REBUILD).good();
    assert!(
        rebuilt.out.contains("has everything that is published"),
        "{}",
        rebuilt.out
    );
    assert_eq!(remembered(&case), before);
    assert_eq!(case.settle().len(), records);
    case.check();
}

#[test]
fn r35_kafka_a_removal_after_a_rebuild_has_its_key() {
    let case = still("removal");
    run(&case, &[], &["--once"]).good();
    lose(&case);
    case.run(&REBUILD).good();
    case.sim.control("faults?spec=");
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    run(&case, &[], &["--rounds", "6"]).good();
    case.settle();
    case.check();
}

#[test]
fn r35_kafka_while_another_instance_publishes_nothing_is_made() {
    let case = Case::new("running", &["--churn", "0.5"]);
    let case = case.source("every = \"50ms\"\nremoved_after = 1");
    let program = case.start(&[]);
    wait_until("a first transaction", PATIENCE, || {
        let tail = Program::run(case.dir.path(), &["tail", &case.name, "--from-start"]);
        (!tail.out.is_empty()).then_some(())
    });
    let ended = Program::run(case.dir.path(), &["--data-dir", "other", "rebuild"]);
    refused(&ended, 3, &["another instance", "stop it"]);
    let left = files(&case.dir.path().join("other"));
    assert!(left.keys().all(|path| path.ends_with("LOCK")), "{left:?}");
    interrupt(program);
    case.settle();
    case.check();
}

#[test]
fn r35_kafka_the_lost_process_and_the_one_made_again_never_both_publish() {
    let case = still("both");
    run(&case, &[], &["--once"]).good();
    copy(&data(&case), &case.dir.path().join("kept"));
    lose(&case);
    case.run(&REBUILD).good();
    run(&case, &[], &["--once"]).good();
    let stale = Program::run(case.dir.path(), &["--data-dir", "kept", "--once"]);
    refused(&stale, 4, &["nothing was fenced"]);
    case.settle();
    case.check();
}

fn set_lag(topic: &str, lag: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", Broker::shared().bootstrap())
        .create()
        .unwrap();
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("cleanup.policy", "compact")
        .set("min.compaction.lag.ms", lag);
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let configs = [config];
    let done = runtime.block_on(admin.alter_configs(&configs, &options));
    done.unwrap()[0].as_ref().unwrap();
}

#[test]
fn r35_kafka_a_gap_that_compaction_may_have_made_is_refused_and_another_prefix_goes_on() {
    let case = still("gap");
    let late = [("age = \"2s\"", "age = \"1h\"")];
    run(&case, &late, &["--once", "--flush-archive"]).good();
    set_lag(&case.name, "0");
    lose(&case);
    // Where the last record is in an object nothing can be missing.
    let rebuilt = run(&case, &late, &REBUILD).good();
    assert!(
        rebuilt.out.contains("has everything that is published"),
        "{}",
        rebuilt.out
    );
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    run(&case, &late, &["--rounds", "3"]).good();
    lose(&case);
    let ended = run(&case, &late, &REBUILD);
    refused(
        &ended,
        4,
        &["without a gap", "min.compaction.lag.ms", "another prefix"],
    );
    assert_eq!(files(&data(&case)).len(), 1, "nothing but the lock");
    let elsewhere = format!("gs://bucket/{}-b", case.name);
    let edits = [
        late[0],
        (&*format!("gs://bucket/{}", case.name), &*elsewhere),
    ];
    let rebuilt = run(&case, &edits, &REBUILD).good();
    assert!(
        rebuilt.out.contains("begins after batch"),
        "{}",
        rebuilt.out
    );
    run(&case, &edits, &["--rounds", "3", "--flush-archive"]).good();
    // It goes on from there as any other.
    set_lag(&case.name, "604800000");
    run(&case, &edits, &["--rounds", "2"]).good();
    lose(&case);
    let rebuilt = run(&case, &edits, &REBUILD).good();
    assert!(rebuilt.out.contains("goes on with"), "{}", rebuilt.out);
    run(&case, &edits, &["--rounds", "2", "--flush-archive"]).good();
}

#[test]
fn r35_kafka_another_configuration_than_the_one_that_published_is_refused() {
    let case = still("wrong");
    let topic = format!("topic = \"{}\"", case.name);
    let name = format!("name = \"{}\"", case.name);
    run(&case, &[], &["--once", "--flush-archive"]).good();
    // Over what is there.
    refused(
        &case.run(&REBUILD),
        4,
        &["is not empty", "move it away", "--state-only"],
    );
    lose(&case);
    for (edit, words) in [
        (
            (&*name, "name = \"somebody\""),
            ["nothing was published as 'somebody'", "`name`"],
        ),
        (
            (&*topic, "topic = \"elsewhere\""),
            ["'elsewhere'", "put back the settings"],
        ),
        (
            ("\"{region}:{queue}:{key}\"", "\"{queue}:{region}:{key}\""),
            ["`record_key` does not make", "put back the settings"],
        ),
        (
            ("[\"kr\", \"euw1\"]", "[\"kr\", \"na1\"]"),
            ["RANKED_SOLO_5x5,euw1", "on_cell_removed"],
        ),
        (
            ("[\"/puuid\", \"/summonerId\"]", "[\"/rank\"]"),
            ["another one under this `key`", "put back the settings"],
        ),
    ] {
        let ended = run(&case, &[edit], &REBUILD);
        refused(&ended, 4, &words);
        let left = files(&data(&case));
        assert!(left.keys().all(|path| path.ends_with("LOCK")), "{left:?}");
    }
    // One of these may be meant so.
    let fewer = [
        ("[\"kr\", \"euw1\"]", "[\"kr\", \"na1\"]"),
        (&*name, &*format!("{name}\non_cell_removed = \"keep\"")),
    ];
    let rebuilt = run(&case, &fewer, &REBUILD).good();
    assert!(rebuilt.out.contains("80 entries"), "{}", rebuilt.out);
}

#[test]
fn r35_kafka_without_headers_the_record_key_says_whose_a_record_is_and_the_archive_cannot_go_on() {
    let case = still("bare");
    let bare = ("create =", "headers = false\ncreate =");
    run(&case, &[bare], &["--once", "--flush-archive"]).good();
    let before = remembered(&case);
    lose(&case);
    refused(
        &run(&case, &[bare], &REBUILD),
        4,
        &["no headers", "another prefix"],
    );
    let elsewhere = format!("gs://bucket/{}-b", case.name);
    let edits = [bare, (&*format!("gs://bucket/{}", case.name), &*elsewhere)];
    let rebuilt = run(&case, &edits, &REBUILD).good();
    assert!(
        rebuilt.out.contains("begins after batch"),
        "{}",
        rebuilt.out
    );
    assert_eq!(remembered(&case), before);
    run(&case, &edits, &["--rounds", "2"]).good();
    assert_eq!(case.read_topic().len(), 160);
}

#[cfg(feature = "fail-points")]
#[test]
fn crash_r35_kafka_at_each_step_of_a_rebuild_leaves_nothing_that_a_run_goes_on_with() {
    let case = hasty("steps", &CHURN);
    for step in [
        "rebuild.pages",
        "rebuild.journal",
        "rebuild.state",
        "rebuild.renamed",
    ] {
        work(&case, 20, interrupt);
        lose(&case);
        let crash = format!("{step}:1");
        let orders = [("DELTAPOLL_CRASH", crash.as_str())];
        case.configure();
        let crashed = Program::start_with(case.dir.path(), &REBUILD, &orders).wait();
        assert_eq!(crashed.code(), -1, "{step}: {}", crashed.err);
        if step != "rebuild.renamed" {
            refused(&case.run(&["--once"]), 4, &["half made", "say it again"]);
            case.run(&REBUILD).good();
        }
    }
    for step in ["rebuild.pages", "rebuild.state", "rebuild.renamed"] {
        work(&case, 20, interrupt);
        let before = remembered(&case);
        let state = data(&case).join("state");
        fs::remove_dir_all(&state).unwrap();
        let crash = format!("{step}:1");
        let orders = [("DELTAPOLL_CRASH", crash.as_str())];
        let crashed = Program::start_with(case.dir.path(), &STATE_ONLY, &orders).wait();
        assert_eq!(crashed.code(), -1, "{step}: {}", crashed.err);
        if step == "rebuild.pages" {
            refused(
                &case.run(&["--once"]),
                4,
                &["`deltapoll rebuild --state-only`"],
            );
            case.run(&STATE_ONLY).good();
        } else {
            // Whole when it is moved: the next one that opens the directory finishes that.
            work(&case, 4, interrupt);
            continue;
        }
        assert_eq!(remembered(&case), before);
    }
    case.settle();
    case.check();
}

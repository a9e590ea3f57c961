//! A lost or damaged state, made again; and what is told of a directory.

use super::*;

#[test]
fn r35_kafka_a_damaged_missing_or_older_state_is_made_again_beside_the_journal() {
    let case = hasty("state", &CHURN);
    work(&case, 20, interrupt);
    let (state, older) = (data(&case).join("state"), case.dir.path().join("older"));
    copy(&state, &older);
    let garbage = |state: &Path| {
        for file in files(state).into_keys() {
            fs::write(file, b"certainly no state").unwrap();
        }
    };
    let nothing = |state: &Path| fs::remove_dir_all(state).unwrap();
    let back = |state: &Path| {
        fs::remove_dir_all(state).unwrap();
        copy(&older, state);
    };
    let harms: [&dyn Fn(&Path); 3] = [&garbage, &nothing, &back];
    for harm in harms {
        work(&case, 20, interrupt);
        let before = remembered(&case);
        harm(&state);
        refused(
            &case.run(&["--once"]),
            4,
            &["`deltapoll rebuild --state-only`"],
        );
        let rebuilt = case.run(&STATE_ONLY).good();
        let entries = format!("{} entries", before.len());
        assert!(rebuilt.out.contains(&entries), "{}", rebuilt.out);
        assert_eq!(remembered(&case), before);
    }
    // What is sealed and nowhere else yet belongs to it too.
    work(&case, 20, kill);
    let before = remembered(&case);
    nothing(&state);
    case.run(&STATE_ONLY).good();
    assert_eq!(remembered(&case), before);
    case.settle();
    case.check();
}

#[test]
fn r35_kafka_a_state_is_not_made_of_what_somebody_else_published() {
    let case = still("stale");
    run(&case, &[], &["--once"]).good();
    copy(&data(&case), &case.dir.path().join("kept"));
    run(&case, &[], &["--once"]).good();
    let stale = Program::run(
        case.dir.path(),
        &["--data-dir", "kept", "rebuild", "--state-only"],
    );
    refused(&stale, 4, &["not the one that published last"]);
    let nowhere = Program::run(
        case.dir.path(),
        &["--data-dir", "nowhere", "rebuild", "--state-only"],
    );
    refused(&nowhere, 4, &["there is no journal", "`deltapoll rebuild`"]);
    assert!(!case.dir.path().join("nowhere").exists());
}

/// The case without Kafka and without an archive.
fn local(case: &Case) {
    let path = case.dir.path().join(case.configure());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.split_once("[kafka]").unwrap().0).unwrap();
}

#[test]
fn r35_without_kafka_the_state_is_made_of_the_topic_log_and_a_lost_directory_is_lost() {
    let case = still("local");
    local(&case);
    let run = |arguments: &[&str]| Program::run(case.dir.path(), arguments);
    run(&["--once"]).good();
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    run(&["--rounds", "5"]).good();
    case.sim.freeze(&CELLS);
    run(&["--once"]).good();
    let (before, tail) = (remembered(&case), ["tail", &case.name, "--from-start"]);
    let lines = run(&tail).good().out.lines().count();
    fs::remove_dir_all(data(&case).join("state")).unwrap();
    refused(&run(&["--once"]), 4, &["`deltapoll rebuild --state-only`"]);
    run(&STATE_ONLY).good();
    assert_eq!(remembered(&case), before);
    run(&["--rounds", "2"]).good();
    assert_eq!(run(&tail).good().out.lines().count(), lines);
    refused(&run(&REBUILD), 4, &["data/topics", "--state-only"]);
    fs::remove_dir_all(data(&case).join("topics")).unwrap();
    refused(&run(&STATE_ONLY), 4, &["topics is gone"]);
}

#[test]
fn inspect_and_export_tell_what_is_there_and_write_nothing() {
    let case = still("inspect");
    let look = |arguments: &[&str]| Program::run(case.dir.path(), arguments);
    case.configure();
    refused(&look(&["state", "inspect"]), 4, &["there is nothing in"]);
    assert!(!data(&case).exists());
    run(&case, &[], &["--once"]).good();
    for cell in CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    work(&case, 8, kill);
    let before = files(&data(&case));
    let text = look(&["state", "inspect"]).good().out;
    for part in [
        "lineage ",
        "sealed     batch ",
        "cell       1 league (RANKED_",
        "rule       1",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let json = look(&["state", "inspect", "--json"]).good().out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let sealed = json["sealed"]["seq"].as_u64().unwrap();
    for follower in json["followers"].as_array().unwrap() {
        let number = |name: &str| follower[name].as_u64().unwrap();
        assert_eq!(number("position") + number("behind"), sealed);
    }
    assert_eq!(json["cells"].as_array().unwrap().len(), 4);
    assert_eq!(json["topics"][0]["partitions"], 3);
    assert_eq!(json["incarnations"].as_array().unwrap().len(), 2);
    let exported = look(&["state", "export", "league"]).good().out;
    let entries = json["state"]["entries"].as_u64().unwrap();
    assert_eq!(exported.lines().count() as u64, entries);
    assert_eq!(remembered(&case).len() as u64, entries);
    refused(
        &look(&["state", "export", "other"]),
        2,
        &["it knows: league"],
    );
    assert_eq!(files(&data(&case)), before);
    // A damaged state is told beside all the rest.
    fs::write(data(&case).join("state/CURRENT"), "0000000009 1").unwrap();
    let damaged = look(&["state", "inspect"]);
    refused(&damaged, 4, &["has lost its directory", "--state-only"]);
    assert!(damaged.out.contains("lineage "), "{}", damaged.out);
    case.run(&STATE_ONLY).good();
    let program = case.start(&[]);
    wait_until("the first poll", PATIENCE, || {
        program.err().contains("first poll done").then_some(())
    });
    refused(
        &look(&["state", "inspect"]),
        4,
        &["another deltapoll process"],
    );
    interrupt(program);
    case.settle();
    case.check();
    let topic = case.read_topic();
    assert!(topic.len() > 160);
}

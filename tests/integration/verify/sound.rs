//! Sound pipelines on Kafka agree.

use super::*;

#[test]
fn kafka_a_sound_pipeline_agrees_stopped_and_running_in_one_pass_and_in_many() {
    let case = Case::new("verify", &BUSY);
    let nothing = case.run(&["verify"]);
    assert_eq!(nothing.code(), 4, "{}", nothing.err);
    assert!(nothing.err.contains("nothing to verify"), "{}", nothing.err);
    assert!(!case.dir.path().join("data").exists());

    case.run(&["--workers", "2", "--rounds", "8"]).good();
    let before = files(&case.dir.path().join("data"));
    let one = case.run(&["verify"]);
    agrees(
        &one,
        &[
            "compared in 1 pass",
            "in 3 partitions",
            "topic, archive and state agree",
        ],
    );
    let many = case.run(&["verify", "--memory", "32KiB"]);
    agrees(&many, &["topic, archive and state agree"]);
    let passes = many.out.split("compared in ").nth(1).unwrap();
    let passes: u32 = passes.split(' ').next().unwrap().parse().unwrap();
    assert!(passes > 3, "{}", many.out);
    assert!(
        before == files(&case.dir.path().join("data")),
        "verify writes nothing"
    );

    let program = case.start(&["--workers", "2"]);
    let enough = case.sim.served() + 40;
    wait_until("forty answers", PATIENCE, || {
        (case.sim.served() >= enough).then_some(())
    });
    let running = case.run(&["verify", "--memory", "100KiB"]);
    agrees(
        &running,
        &["a pipeline is running here", "topic and archive agree"],
    );
    // What a crash leaves: sealed and not published, published and not archived, not in the pages.
    assert!(program.kill9());
    agrees(&case.run(&["verify"]), &["topic, archive and state agree"]);
    case.run(&["--rounds", "3", "--flush-archive"]).good();
    agrees(&case.run(&["verify"]), &["topic, archive and state agree"]);
}

#[test]
fn kafka_after_republish_and_reset_it_agrees() {
    let case = Case::new("verify-reset", &BUSY);
    case.run(&["--rounds", "4", "--flush-archive"]).good();
    case.run(&["state", "republish", "league"]).good();
    agrees(&case.run(&["verify"]), &[]);
    case.run(&["--rounds", "4", "--flush-archive"]).good();
    agrees(&case.run(&["verify"]), &[]);
    case.run(&["state", "reset", "--yes"]).good();
    let reset = case.run(&["verify"]);
    agrees(
        &reset,
        &["of the history before a state reset", "state: 0 keys"],
    );
    // Another prefix, as the reset asked for.
    let path = case.dir.path().join(case.configure());
    let text = fs::read_to_string(&path).unwrap();
    let prefix = format!("gs://bucket/{}", case.name);
    fs::write(&path, text.replace(&prefix, &format!("{prefix}-b"))).unwrap();
    let run = |arguments: &[&str]| Program::run(case.dir.path(), arguments);
    run(&["--rounds", "4"]).good();
    agrees(
        &run(&["verify"]),
        &["records are of the history before a state reset"],
    );
    agrees(&run(&["verify", "--memory", "64KiB"]), &[]);
}

//! What a user sees.

use crate::support::case::Case;
use crate::support::process::Program;
use crate::support::wait::{PATIENCE, wait_until};

#[test]
fn a_configuration_that_is_not_there_is_exit_2_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Program::run(dir.path(), &["--config", "nowhere.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.err.contains("nowhere.toml"), "{}", ended.err);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "nothing is made"
    );
}

#[test]
fn r32_a_directory_in_use_and_one_made_for_other_settings_are_exit_4() {
    let case = Case::new("refused", &[]);
    let first = case.start(&[]);
    wait_until("the first poll", PATIENCE, || {
        first.err().contains("first poll done").then_some(())
    });
    let second = case.run(&["--once"]);
    assert_eq!(second.code(), 4, "{}", second.err);
    assert!(second.err.contains("another"), "{}", second.err);
    first.interrupt();
    first.wait().good();
    let case = case.source("removed = \"event\"");
    let other = case.run(&["--once"]);
    assert_eq!(other.code(), 4, "{}", other.err);
    for word in ["[source.league]", "removed", "state republish league"] {
        assert!(other.err.contains(word), "{word}: {}", other.err);
    }
}

#[test]
fn r31_interrupting_twice_leaves_at_once() {
    let case = Case::new("twice", &[]);
    // Nobody is there: the first start waits for Kafka.
    let case = case.kafka("bootstrap = \"127.0.0.1:1\"".to_owned());
    let program = case.start(&[]);
    wait_until("a start", PATIENCE, || {
        (!program.err().is_empty()).then_some(())
    });
    wait_until("signals are listened to", PATIENCE, || {
        program.err().contains("changes of").then_some(())
    });
    program.interrupt();
    program.wait().good();
}

#[test]
fn r31_a_stop_in_the_middle_of_work_exits_0_and_the_next_start_goes_on() {
    let case = Case::new("stop", &["--churn", "0.1"]);
    for signal in ["-INT", "-TERM"] {
        let program = case.start(&["--workers", "2"]);
        let enough = case.sim.served() + 20;
        wait_until("some answers", PATIENCE, || {
            (case.sim.served() > enough).then_some(())
        });
        program.signal(signal);
        program.wait().good();
    }
    case.settle();
    case.check();
}

#[test]
fn the_demo_shows_changes_at_once_and_a_second_start_publishes_no_player_again() {
    let dir = tempfile::tempdir().unwrap();
    let read = || {
        let ended = Program::run(dir.path(), &["tail", "challenger", "--from-start"]).good();
        let lines = ended
            .out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let program = Program::start(dir.path(), &["--workers", "2"]);
        wait_until("polls", PATIENCE, || {
            (program.err().matches("first poll done").count() >= 2).then_some(())
        });
        for told in ["this is the demo", "tail challenger", "Avro objects go to"] {
            assert!(program.err().contains(told), "{told}: {}", program.err());
        }
        program.interrupt();
        program.wait().good();
    }
    let lines = read();
    let added = lines
        .iter()
        .filter(|line| line["change"] == "added")
        .count();
    assert!(
        (600..700).contains(&added),
        "two ladders of 300 once, and who came since: {added}"
    );
    for pair in lines.windows(2) {
        assert_eq!(
            pair[0]["offset"].as_u64().unwrap() + 1,
            pair[1]["offset"].as_u64().unwrap()
        );
    }
}

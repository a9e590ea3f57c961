//! What others do under a pipeline: copies of its directory, its topics, its progress topic.
//!
//! Each case ends in continued correct work, or in a refusal that names the remedy and leaves what was
//! published as it was.

use crate::support::case::Case;
use crate::support::cluster::end;
use crate::support::fault_table::{repetitions, row};
use crate::support::process::{Ended, Program};
use crate::support::publisher::{Hands, send, stranger};
use crate::support::wait::{PATIENCE, wait_until};

fn case(name: &str) -> Case {
    let case = Case::new(name, &["--churn", "0.05", "--leave", "0.01"]);
    case.source("every = \"50ms\"\nremoved_after = 1")
}

/// A case with something published, and nothing new from the API.
fn settled(name: &str) -> (Case, String) {
    let case = case(name);
    case.run(&["--rounds", "3"]).good();
    case.settle();
    let progress = format!("deltapoll-progress-{}", case.name);
    (case, progress)
}

/// The next start is refused with these words, and what was published stays as it was.
fn is_refused(case: &Case, fault: &str, words: &[&str]) {
    let before = case.read_topic().len();
    let ended = case.run(&["--rounds", "2"]);
    assert_eq!(ended.code(), 4, "{fault}: {}", ended.err);
    says(&ended, words);
    assert_eq!(case.read_topic().len(), before, "{fault}");
    case.check();
    row(fault, "exit 4 with the remedy, 0 duplicates, 0 losses");
}

fn says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.err.contains(word), "no {word} in {}", ended.err);
    }
}

#[test]
fn kafka_two_processes_on_copies_of_one_directory() {
    let mut case = case("copies");
    case.run(&["--rounds", "3"]).good();
    for n in 0..repetitions() {
        // Before either starts: each may be the one that stays.
        let names = [format!("a{n}"), format!("b{n}")];
        names.iter().for_each(|name| case.copy_data(name));
        let start = |name: &String| case.start(&["--data-dir", name]);
        let mut running: Vec<Program> = names.iter().map(start).collect();
        let loser = wait_until("the end of one of them", PATIENCE, || {
            running.iter_mut().position(|program| !program.is_running())
        });
        let ended = running.remove(loser).wait();
        assert!([3, 4].contains(&ended.code()), "{}", ended.err);
        let mut winner = running.remove(0);
        case.goes_on(&mut winner);
        winner.interrupt();
        winner.wait().good();
        // Who lost cannot come back.
        let again = case.run(&["--data-dir", &names[loser], "--rounds", "1"]);
        assert_eq!(again.code(), 4, "{}", again.err);
        says(
            &again,
            &["nothing was fenced", "start the newest directory"],
        );
        case = case.data(&names[1 - loser]);
    }
    let mut program = case.start(&[]);
    case.goes_on(&mut program);
    let fault = "two processes on copies of one directory: one ends 3 or 4, the other";
    case.proves(fault, program);
}

#[test]
fn kafka_a_copy_started_beside_its_running_original() {
    let case = case("beside");
    case.run(&["--rounds", "3"]).good();
    case.copy_data("copy");
    let mut original = case.start(&["--workers", "2"]);
    case.goes_on(&mut original);
    let copy = case.run(&["--data-dir", "copy"]);
    assert_eq!(copy.code(), 4, "{}", copy.err);
    says(&copy, &["nothing was fenced"]);
    case.goes_on(&mut original);
    let fault = "a stale copy beside its running original: the copy ends 4, the original";
    case.proves(fault, original);
}

#[test]
fn r19_a_stopped_program_that_wakes_after_a_takeover_ends() {
    let mut case = case("zombie");
    let mut stopped = case.start(&["--workers", "2"]);
    for n in 0..repetitions() {
        case.goes_on(&mut stopped);
        stopped.signal("-STOP");
        let copy = format!("copy{n}");
        case.copy_data(&copy);
        case = case.data(&copy);
        let mut heir = case.start(&["--workers", "2"]);
        // Not any commit: what was on its way when the other was stopped may still be committed.
        wait_until("the heir's own transaction", PATIENCE, || {
            (heir.err().contains("first transaction of this run")).then_some(())
        });
        case.goes_on(&mut heir);
        stopped.signal("-CONT");
        let ended = stopped.wait();
        // Its archive may meet an object of the other before its producer finds out.
        match ended.code() {
            4 => says(&ended, &["archive object", "nothing was overwritten"]),
            code => {
                assert_eq!(code, 3, "{}", ended.err);
                says(&ended, &["took over", "let only one of them run"]);
            }
        }
        case.goes_on(&mut heir);
        stopped = heir;
    }
    let fault =
        "the program stopped (SIGSTOP), taken over by a copy, and woken: it ends 3 or 4, the copy";
    case.proves(fault, stopped);
}

#[test]
fn kafka_a_topic_deleted_under_us() {
    let case = case("deleted");
    let kafka = format!(
        "bootstrap = \"{}\"\nproperties = {{ \"topic.metadata.propagation.max.ms\" = \"3000\" }}",
        case.bootstrap()
    );
    let case = case.kafka(kafka);
    let mut program = case.start(&[]);
    case.goes_on(&mut program);
    let hands = Hands::on(case.bootstrap());
    hands.delete(&case.name);
    let ended = program.wait();
    assert!([1, 4].contains(&ended.code()), "{}", ended.err);
    says(&ended, &[&case.name, "gone"]);
    let again = case.run(&["--rounds", "1"]);
    assert_eq!(again.code(), 4, "{}", again.err);
    says(
        &again,
        &[&case.name, "is gone", "deltapoll state republish"],
    );
    hands.create(&case.name, 1, "compact");
    let made_again = case.run(&["--rounds", "1"]);
    assert_eq!(made_again.code(), 4, "{}", made_again.err);
    says(&made_again, &[&case.name, "deleted and made again"]);
    let code = ended.code();
    row(
        "a topic deleted under us, then made again",
        &format!("exit {code} while running, exit 4 at every start, with the remedy"),
    );
}

#[test]
fn kafka_a_topic_made_again_at_once_under_us() {
    let case = case("swapped");
    let mut program = case.start(&[]);
    case.goes_on(&mut program);
    let hands = Hands::on(case.bootstrap());
    hands.delete(&case.name);
    hands.create(&case.name, 3, "compact");
    // Records name a topic, not its id: the next start finds out, if no error leads there before.
    let committed = || end(case.bootstrap(), &case.name, true).filter(|end| *end > 20);
    let went_on = wait_until("an end, or further commits", PATIENCE, || {
        let running = program.is_running();
        (!running || committed().is_some()).then_some(running)
    });
    if went_on {
        program.interrupt();
    }
    let ended = program.wait();
    assert!([0, 1, 4].contains(&ended.code()), "{}", ended.err);
    let again = case.run(&["--rounds", "1"]);
    assert_eq!(again.code(), 4, "{}", again.err);
    says(&again, &[&case.name, "deleted and made again"]);
    let so_far = ["it was refused at once", "it went on"][usize::from(went_on)];
    row(
        "a topic deleted and made again at once, under us",
        &format!("{so_far}, exit 4 at the next start, with the remedy"),
    );
}

#[test]
fn kafka_partitions_raised_under_us() {
    let case = case("raised");
    let mut program = case.start(&[]);
    case.goes_on(&mut program);
    Hands::on(case.bootstrap()).raise(&case.name, 5);
    case.goes_on(&mut program);
    case.proves("partitions raised under us", program);
    let used = case.read_topic();
    assert!(
        used.iter()
            .all(|record| record["partition"].as_u64() < Some(3))
    );
}

#[test]
fn r23_a_progress_topic_missing_then_made_again_is_refused() {
    let (case, progress) = settled("missing");
    let hands = Hands::on(case.bootstrap());
    hands.delete(&progress);
    let words = ["is gone", "deltapoll state reset"];
    is_refused(&case, "the progress topic deleted", &words);
    hands.create(&progress, 1, "compact");
    let words = ["deleted and made again", "deltapoll state reset"];
    is_refused(&case, "the progress topic made again", &words);
}

#[test]
fn r23_a_truncated_progress_topic_is_refused() {
    let (case, progress) = settled("truncated");
    Hands::on(case.bootstrap()).truncate(&progress);
    let words = ["holds no record", "nothing was fenced"];
    is_refused(
        &case,
        "the progress topic truncated (DeleteRecords)",
        &words,
    );
}

#[test]
fn r23_a_record_of_somebody_else_under_our_key_is_refused() {
    let (case, progress) = settled("junk");
    let key = format!("{}/0", case.name);
    send(&stranger(case.bootstrap()), &progress, &key, "junk");
    is_refused(
        &case,
        "junk under our key in the progress topic",
        &["damaged"],
    );
}

#[test]
fn r23_foreign_records_in_the_progress_topic_do_no_harm() {
    let (case, progress) = settled("foreign");
    let stranger = stranger(case.bootstrap());
    for n in 0..10 {
        send(&stranger, &progress, &format!("other/{n}"), "junk");
    }
    let mut program = case.start(&[]);
    for cell in crate::support::case::CELLS {
        case.sim.control(&format!("set?cell={cell}&frozen=false"));
    }
    case.goes_on(&mut program);
    send(&stranger, &progress, "other/0", "more junk");
    case.goes_on(&mut program);
    case.proves("foreign records in the progress topic", program);
}

#[test]
fn kafka_the_progress_topic_deleted_under_us() {
    let case = case("undone");
    let kafka = format!(
        "bootstrap = \"{}\"\nproperties = {{ \"topic.metadata.propagation.max.ms\" = \"3000\" }}",
        case.bootstrap()
    );
    let case = case.kafka(kafka);
    let mut program: Program = case.start(&[]);
    case.goes_on(&mut program);
    let progress = format!("deltapoll-progress-{}", case.name);
    Hands::on(case.bootstrap()).delete(&progress);
    let ended = program.wait();
    assert!([1, 4].contains(&ended.code()), "{}", ended.err);
    says(&ended, &[&progress, "gone"]);
    let again = case.run(&["--rounds", "1"]);
    assert_eq!(again.code(), 4, "{}", again.err);
    let code = ended.code();
    row(
        "the progress topic deleted under us",
        &format!("exit {code} while running, exit 4 at every start, with the remedy"),
    );
}

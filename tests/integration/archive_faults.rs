//! Faults of the archive's store, against the whole program: afterwards the archive has what the topic
//! has, or the program has stopped and said why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use deltapoll::io::avro::header::Header;
use deltapoll::io::local;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::case::Case;
use crate::support::fault_table::row;
use crate::support::objects::Fault;
use crate::support::process::Program;
use crate::support::readers;
use crate::support::sim::{Sim, TOKEN};
use crate::support::wait::{PATIENCE, wait_until};

/// A case whose archive has its first objects, and whose API changes with each answer.
fn archiving(name: &str) -> Case {
    let case = Case::new(
        name,
        &["--churn", "0.05", "--leave", "0.01", "--entries", "60"],
    );
    case.run(&["--rounds", "1", "--flush-archive"]).good();
    case
}

#[test]
fn r25_whatever_becomes_of_a_put_the_archive_is_the_topic() {
    // What is done to the next PUT (and to the questions that follow), and what the log says.
    let faults: [(&str, Fault, &[u16], &str); 11] = [
        ("429 before the write", Fault::Refuse(429), &[], "retrying"),
        ("503 before the write", Fault::Refuse(503), &[], "retrying"),
        (
            "closed before the write",
            Fault::CloseBefore,
            &[],
            "retrying",
        ),
        (
            "503 after the write",
            Fault::WriteThen(503),
            &[],
            "retrying",
        ),
        (
            "503 after the write, then for its header",
            Fault::WriteThen(503),
            &[503, 429],
            "retrying",
        ),
        (
            "closed after the write",
            Fault::WriteThenClose,
            &[],
            "retrying",
        ),
        (
            "reset after the write",
            Fault::WriteThenReset,
            &[],
            "retrying",
        ),
        ("412 for our own object", Fault::WriteThen(412), &[], ""),
        ("403, then good", Fault::Refuse(403), &[], "refuses us"),
        (
            "401 (token expired), then good",
            Fault::Refuse(401),
            &[],
            "refuses us",
        ),
        (
            "401 after the write, then for its header",
            Fault::WriteThen(401),
            &[401],
            "refuses us",
        ),
    ];
    let case = archiving("puts");
    for (fault, put, reads, told) in faults {
        case.objects.fail(&[put]);
        case.objects.fail_reads(reads);
        let ended = case.run(&["--rounds", "1", "--flush-archive"]).good();
        assert_eq!(case.objects.faults_left(), 0, "{fault}: nobody met it");
        assert!(ended.err.contains(told), "{fault}: {}", ended.err);
        let again = ended.err.contains("answers again");
        assert_eq!(again, !told.is_empty(), "{fault}: {}", ended.err);
    }
    case.settle();
    case.check();
    for (fault, ..) in faults {
        row(&format!("bucket: {fault}"), "archive = topic");
    }
}

#[test]
fn r25_a_put_that_hangs_holds_up_no_stop_and_the_next_start_settles_it() {
    let hanging = [
        ("a PUT hangs, not written", Fault::Hang),
        ("a PUT hangs, written", Fault::WriteThenHang),
    ];
    let case = archiving("hangs");
    let bootstrap = crate::support::kafka::Broker::shared().bootstrap();
    let lines = format!("bootstrap = \"{bootstrap}\"\n[limits]\ngrace = \"100ms\"");
    let case = case.kafka(lines);
    for (fault, put) in hanging {
        case.objects.fail(&[put]);
        let program = case.start(&["--flush-archive"]);
        wait_until("the PUT that hangs", PATIENCE, || {
            (case.objects.faults_left() == 0).then_some(())
        });
        let served = case.sim.served();
        wait_until("polls go on", PATIENCE, || {
            (case.sim.served() > served + 8).then_some(())
        });
        program.interrupt();
        let ended = program.wait().good();
        assert!(!ended.err.contains("panic"), "{fault}: {}", ended.err);
    }
    case.settle();
    case.check();
    for (fault, _) in hanging {
        row(
            &format!("bucket: {fault}"),
            "polls go on, stops in time; archive = topic",
        );
    }
}

/// The names that the next objects of each partition will have.
fn next_names(case: &Case) -> Vec<String> {
    let mut next = BTreeMap::new();
    for (name, bytes) in case.objects.with(&case.name) {
        let header = Header::read(&bytes).unwrap();
        let (lane, _) = name.rsplit_once('+').unwrap();
        let after = next.entry(lane.to_owned()).or_insert(0);
        *after = header.last.max(*after);
    }
    let name = |(lane, last): (String, u64)| format!("{lane}+{:010}.avro", last + 1);
    next.into_iter().map(name).collect()
}

#[test]
fn r25_r26_an_object_of_somebody_else_stops_the_program_and_is_not_overwritten() {
    let case = archiving("conflict");
    let once = ["--rounds", "1", "--flush-archive"];
    let names = next_names(&case);
    assert!(!names.is_empty());
    let (_, ours) = case.objects.with(&case.name).remove(0);
    for (what, theirs, reason) in [
        ("text", "hello".into(), "no Avro"),
        (
            "an earlier object of ours",
            ours,
            "it says that it begins with change",
        ),
    ] {
        names
            .iter()
            .for_each(|name| case.objects.plant(name, theirs.clone()));
        let ended = case.run(&once);
        assert_eq!(ended.code(), 4, "{what}: {}", ended.err);
        for part in [
            reason,
            "nothing was overwritten",
            "move that object away",
            "`deltapoll state reset`",
        ] {
            assert!(ended.err.contains(part), "{what}: {part}: {}", ended.err);
        }
        for name in &names {
            let there = case.objects.with(name).remove(0).1;
            assert_eq!(there, theirs, "{what}: {name}");
            case.objects.remove(name);
        }
        row(
            &format!("bucket: 412, somebody else put {what} there"),
            "exit 4, not overwritten; moved away, archive = topic",
        );
    }
    case.run(&once).good();
    case.settle();
    case.check();

    let case = Case::new("foreign", &["--entries", "60"]);
    let foreign = format!("{}/topics/{}/readme.txt", case.name, case.name);
    case.objects.plant(&foreign, "hi".into());
    case.objects.fail_reads(&[503]);
    let ended = case.run(&once);
    assert_eq!(ended.code(), 4, "{}", ended.err);
    for part in ["is in use", "readme.txt", "set archive.url to another one"] {
        assert!(ended.err.contains(part), "{part}: {}", ended.err);
    }
    assert_eq!(case.objects.with(&case.name).len(), 1, "nothing was put");
    row(
        "bucket: a prefix in use, its listing refused once",
        "exit 4, nothing written",
    );
}

/// A pipeline without Kafka: the local topic log, and an archive in a directory.
struct Directory {
    dir: TempDir,
    _sim: Sim,
    archive: PathBuf,
}

impl Directory {
    fn new() -> Directory {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::start(dir.path(), &["--churn", "0.05", "--entries", "60"]);
        let archive = dir.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        let text = format!(
            r#"
name = "n"
data_dir = "data"
[source.league]
url = "http://127.0.0.1:{}/kr/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5"
headers = {{ X-Riot-Token = "{TOKEN}" }}
records = "/entries"
key = ["/puuid", "/summonerId"]
every = "15ms"
[archive]
url = "file://{}"
codec = "null"
roll = {{ records = 1 }}
"#,
            sim.port,
            archive.display()
        );
        std::fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
        Directory {
            dir,
            _sim: sim,
            archive,
        }
    }

    fn once(&self) -> String {
        let arguments = ["--rounds", "3", "--flush-archive"];
        Program::run(self.dir.path(), &arguments).good().err
    }

    fn objects(&self) -> Vec<PathBuf> {
        let lane = self.archive.join("topics/league/partition=0");
        let files = std::fs::read_dir(lane)
            .unwrap()
            .map(|file| file.unwrap().path());
        files.collect()
    }

    /// Every committed change, as `tail` prints it.
    fn published(&self) -> Vec<Value> {
        let mut out = Vec::new();
        let never = AtomicBool::new(false);
        local::tail(
            &self.dir.path().join("data"),
            "league",
            true,
            false,
            &mut out,
            &never,
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|line: Value| change(&line, line["value"].clone()))
            .collect()
    }
}

/// Every change in the objects below `dir`, as a reader of Avro finds it.
fn archived(case: &Directory, dir: &Path) -> Vec<Value> {
    let read = readers::archive(case.dir.path(), dir);
    let records = read.iter().filter_map(|line| line.get("record"));
    let value = |text: &str| serde_json::from_str(text).unwrap();
    records
        .map(|line| change(line, line["value"].as_str().map_or(Value::Null, value)))
        .collect()
}

fn change(line: &Value, value: Value) -> Value {
    let [key, kind, epoch, seq, at] =
        ["key", "change", "epoch", "seq", "polled_at"].map(|field| line[field].clone());
    Value::from(vec![key, kind, epoch, seq, at, value])
}

#[test]
fn a_staging_file_that_a_kill_left_is_swept_and_its_object_written() {
    let case = Directory::new();
    case.once();
    let first = case.objects().remove(0);
    let left = |name: &str| PathBuf::from(format!("{}{name}", first.display()));
    std::fs::write(left("#1"), "half").unwrap();
    std::fs::write(left("#7"), "half").unwrap();
    // A kill between link and removal: a second name of a whole object.
    std::fs::hard_link(&first, left("#2")).unwrap();
    let whole = std::fs::read(&first).unwrap();
    case.once();
    assert!(
        case.objects()
            .iter()
            .all(|path| !path.display().to_string().contains('#'))
    );
    assert_eq!(std::fs::read(&first).unwrap(), whole);
    assert!(case.objects().len() > 1);
    assert_eq!(archived(&case, &case.archive), case.published());
    row(
        "file: staging files left by a kill",
        "swept; archive = topic",
    );
}

/// The program, in a namespace of its own where the archive's directory has room for so many bytes.
fn on_a_small_disk(case: &Directory, bytes: usize) -> Program {
    let mut command = Command::new("unshare");
    let script = format!(
        "mount -t tmpfs -o size={bytes} none {0} && head -c {bytes} /dev/zero > {0}/filler; \
         exec \"$0\"",
        case.archive.display()
    );
    command.args(["-Urm", "sh", "-c", &script, env!("CARGO_BIN_EXE_deltapoll")]);
    Program::start_as(case.dir.path(), command)
}

fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(["-Urm", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_under_the_archive_is_waited_out() {
    if !may_unshare() {
        row(
            "file: disk full",
            "not tried: no namespaces here; `what_cannot_be_written_...` injects",
        );
        return;
    }
    let case = Directory::new();
    let program = on_a_small_disk(&case, 1 << 20);
    wait_until("the full disk is told", PATIENCE, || {
        program
            .err()
            .contains("No space left on device")
            .then_some(())
    });
    // Seen from outside: what is mounted there is the program's alone.
    let inside =
        |path: &Path| PathBuf::from(format!("/proc/{}/root{}", program.id(), path.display()));
    let archive = inside(&case.archive);
    let avro = |dir: &Path| {
        let lane = dir.join("topics/league/partition=0");
        let files = std::fs::read_dir(lane).into_iter().flatten();
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "avro"))
            .count()
    };
    assert_eq!(avro(&archive), 0, "no object in part");
    std::fs::remove_file(archive.join("filler")).unwrap();
    wait_until("the archive goes on", PATIENCE, || {
        program.err().contains("answers again").then_some(())
    });
    wait_until("objects", PATIENCE, || (avro(&archive) > 3).then_some(()));
    // What is mounted goes with the process: copied while it is there.
    let seen = case.dir.path().join("copy");
    copy(&archive, &seen);
    program.interrupt();
    let err = program.wait().good().err;
    assert_eq!(err.matches("retrying").count(), 1, "{err}");
    let (archived, published) = (archived(&case, &seen), case.published());
    assert!(archived.len() > 60, "{}", archived.len());
    assert_eq!(archived, published[..archived.len()]);
    row(
        "file: disk full",
        "told once, retried; goes on when there is room, archive = topic",
    );
}

/// A run that aborts when it reaches the step for the first time.
#[cfg(feature = "fail-points")]
fn crash_at(case: &Directory, step: &str) {
    use std::os::unix::process::ExitStatusExt;
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltapoll"));
    command
        .args(["--rounds", "3", "--flush-archive"])
        .env("DELTAPOLL_CRASH", format!("{step}:1"));
    let ended = Program::start_as(case.dir.path(), command).wait();
    assert_eq!(ended.status.signal(), Some(6), "{step}: {}", ended.err);
}

#[cfg(feature = "fail-points")]
#[test]
fn crash_r25_at_every_step_of_a_put_to_a_directory_the_archive_is_the_topic() {
    let case = Directory::new();
    for step in [
        "prefix.listed",
        "archive.put.before",
        "object.staged",
        "object.linked",
        // Found in the place of the next object, and then once more.
        "archive.header.read",
        "archive.header.read",
        "object.synced",
        "archive.put.after",
        "archive.facts.after",
    ] {
        crash_at(&case, step);
        row(&format!("file: crash at {step}"), "archive = topic");
    }
    case.once();
    assert_eq!(archived(&case, &case.archive), case.published());
    assert!(
        case.objects()
            .iter()
            .all(|path| !path.display().to_string().contains('#'))
    );
}

/// Copies what is archived while more is being written: objects stay once they are there, staging
/// files (`name#n`) go at any time.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name.to_string_lossy().contains('#') {
            continue;
        }
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

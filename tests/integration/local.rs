//! The local topic log: what is committed is seen, once, and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::memory::{Memory, POLLED_AT};
use deltapoll::change::Seq;
use deltapoll::fault::{Exit, Fault};
use deltapoll::follower::{Facts, Follower};
use deltapoll::io::lineage;
use deltapoll::io::local::{self, LocalPublisher, Setup};
use serde_json::{Value, json};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn open_at(dir: &Path, journal: &Memory, position: Seq) -> Result<LocalPublisher, Fault> {
    LocalPublisher::open(Setup {
        data_dir: dir.to_owned(),
        retain: WEEK,
        logs: Arc::new(journal.clone()),
        lineage: lineage::open(journal).unwrap(),
        position,
        sealed: journal.last(),
    })
}

fn open(dir: &Path, journal: &Memory) -> LocalPublisher {
    open_at(dir, journal, Seq(0)).unwrap()
}

fn read(dir: &Path, topic: &str) -> Vec<Value> {
    let mut out = Vec::new();
    local::tail(dir, topic, true, false, &mut out, &AtomicBool::new(false)).unwrap();
    let lines = out
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn keys(dir: &Path, topic: &str) -> Vec<String> {
    let key = |line: &Value| line["key"].as_str().unwrap().to_owned();
    read(dir, topic).iter().map(key).collect()
}

fn live(dir: &Path) -> PathBuf {
    dir.join("topics/t/0.ndjson")
}

/// Makes the live segment of `t` look as if it was begun in 1970.
fn age(dir: &Path) {
    let path = dir.join("topics/@commit.json");
    let mut commit: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    commit["topics"]["t"]["0"]["begun_ms"] = json!(0);
    fs::write(&path, commit.to_string()).unwrap();
}

#[test]
fn r34_committed_changes_are_seen_with_all_that_is_known_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    journal.seal("t", &[("a", Some("{\"lp\":\n1}"))]);
    let upto = journal.seal("t", &[("a", None)]);
    let mut publisher = open(dir.path(), &journal);
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    let line = |offset: u64, value: Value, change: &str| {
        json!({
            "topic": "t", "partition": 0, "offset": offset, "key": "a", "value": value,
            "change": change, "epoch": 1_000 + offset, "seq": 1 + offset, "polled_at": POLLED_AT
        })
    };
    let expected = [
        line(0, json!({"lp": 1}), "changed"),
        line(1, Value::Null, "removed"),
    ];
    assert_eq!(read(dir.path(), "t"), expected);
}

#[test]
fn r34_what_lies_beyond_the_commit_is_unseen_and_cut_off_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("t", &[("a", Some("1"))]);
    open(dir.path(), &journal).advance(upto).unwrap();
    let committed = fs::read(live(dir.path())).unwrap();
    let mut torn = OpenOptions::new()
        .append(true)
        .open(live(dir.path()))
        .unwrap();
    torn.write_all(b"{\"offset\":1,\"key\":\"b\",\"value\":2")
        .unwrap();
    // Another topic's first lines, never committed.
    fs::create_dir(dir.path().join("topics/u")).unwrap();
    fs::write(dir.path().join("topics/u/0.ndjson"), b"{\"offset\":0}\n").unwrap();
    assert_eq!(keys(dir.path(), "t"), ["a"]);
    let mut publisher = open(dir.path(), &journal);
    assert_eq!(fs::read(live(dir.path())).unwrap(), committed);
    assert_eq!(publisher.position(), upto);
    journal.seal("u", &[("x", Some("1"))]);
    let upto = journal.seal("t", &[("b", Some("2"))]);
    publisher.advance(upto).unwrap();
    assert_eq!(keys(dir.path(), "t"), ["a", "b"]);
    assert_eq!(keys(dir.path(), "u"), ["x"]);
}

#[test]
fn r34_a_log_that_is_not_this_directorys_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let old = journal.copy();
    journal.seal("t", &[("a", Some("1"))]);
    let upto = journal.seal("t", &[("a", Some("2"))]);
    lineage::open(&journal).unwrap();
    open(dir.path(), &journal).advance(upto).unwrap();
    let refused = |journal: &Memory, position: Seq, word: &str| {
        let fault = open_at(dir.path(), journal, position)
            .err()
            .expect("refused");
        assert_eq!(fault.exit, Exit::Directory);
        assert!(fault.message.contains(word), "{fault}");
    };
    refused(&old, Seq(0), "belongs to lineage");
    refused(&journal, Seq(3), "is older");
    let behind = Memory::default();
    let facts = journal.get("lineage");
    let facts = vec![("lineage".to_owned(), facts)];
    behind.set(facts, true).unwrap();
    behind.seal("t", &[("a", Some("1"))]);
    refused(&behind, Seq(0), "is older");
    fs::remove_file(dir.path().join("topics/@commit.json")).unwrap();
    refused(&journal, Seq(2), "no local topic log");
}

#[test]
fn r34_a_segment_that_lost_committed_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("t", &[("a", Some("1"))]);
    open(dir.path(), &journal).advance(upto).unwrap();
    OpenOptions::new()
        .write(true)
        .open(live(dir.path()))
        .unwrap()
        .set_len(3)
        .unwrap();
    let fault = open_at(dir.path(), &journal, upto).err().expect("refused");
    assert_eq!(fault.exit, Exit::Directory, "{fault}");
}

#[test]
fn a_log_goes_on_after_state_reset() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("t", &[("a", Some("1"))]);
    open(dir.path(), &journal).advance(upto).unwrap();
    let before = lineage::open(&journal).unwrap();
    let journal = Memory::default();
    let (name, text) = before.successor(0).fact();
    journal.set(vec![(name, Some(text))], true).unwrap();
    let mut publisher = open(dir.path(), &journal);
    assert_eq!(publisher.position(), Seq(0));
    let upto = journal.seal("t", &[("a", Some("1"))]);
    publisher.advance(upto).unwrap();
    let lines = read(dir.path(), "t");
    assert_eq!(
        (&lines[1]["offset"], &lines[1]["seq"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn rolled_segments_are_read_through_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    for key in ["a", "b", "c"] {
        let upto = journal.seal("t", &[(key, Some("1"))]);
        open(dir.path(), &journal).advance(upto).unwrap();
        age(dir.path());
    }
    let closed = dir.path().join(format!("topics/t/0.{:020}.ndjson", 0));
    assert!(
        closed.exists(),
        "the second start found an old segment, wrote and closed it"
    );
    assert_eq!(keys(dir.path(), "t"), ["a", "b", "c"]);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let oldest = OpenOptions::new().write(true).open(&closed).unwrap();
    oldest.set_modified(long_ago).unwrap();
    open(dir.path(), &journal).advance(journal.last()).unwrap();
    assert_eq!(keys(dir.path(), "t"), ["c"]);
    assert_eq!(
        read(dir.path(), "t")[0]["offset"],
        2,
        "offsets stay what they were"
    );
}

#[test]
fn crash_between_a_roll_and_its_commit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("t", &[("a", Some("1"))]);
    open(dir.path(), &journal).advance(upto).unwrap();
    let closed = dir.path().join(format!("topics/t/0.{:020}.ndjson", 0));
    fs::rename(live(dir.path()), &closed).unwrap();
    assert_eq!(
        keys(dir.path(), "t"),
        ["a"],
        "before the live segment is made"
    );
    File::create(live(dir.path())).unwrap();
    assert_eq!(keys(dir.path(), "t"), ["a"], "and after");
    let mut publisher = open(dir.path(), &journal);
    assert!(!closed.exists(), "the next start renames it back");
    let upto = journal.seal("t", &[("b", Some("1"))]);
    publisher.advance(upto).unwrap();
    assert_eq!(keys(dir.path(), "t"), ["a", "b"]);
}

#[test]
fn crash_after_an_expired_segment_was_rolled_leaves_what_the_record_counts() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("t", &[("a", Some("1"))]);
    open(dir.path(), &journal).advance(upto).unwrap();
    age(dir.path());
    let mut publisher = open(dir.path(), &journal);
    let lines = OpenOptions::new().append(true).open(live(dir.path()));
    lines.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let in_the_way = dir.path().join("topics/@commit.json.new");
    fs::create_dir(&in_the_way).unwrap();
    publisher.advance(upto).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    open_at(dir.path(), &journal, upto).expect("nothing that is committed is missing");
}

#[test]
fn following_shows_each_commit_once_across_rolls() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("t", &[("before", Some("1"))]);
    open(dir.path(), &journal).advance(upto).unwrap();
    let stop = AtomicBool::new(false);
    let (reading, lines) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let path = dir.path().to_owned();
        let stop = &stop;
        let follower = scope.spawn(move || {
            let mut lines = lines;
            local::tail(&path, "t", true, true, &mut lines, stop)
        });
        let mut seen = std::io::BufRead::lines(std::io::BufReader::new(reading));
        let mut next = || seen.next().unwrap().unwrap();
        assert!(next().contains("\"before\""));
        for n in 0..5 {
            age(dir.path());
            let key = format!("k{n}");
            let upto = journal.seal("t", &[(key.as_str(), Some("1"))]);
            open(dir.path(), &journal).advance(upto).unwrap();
            assert!(next().contains(&key), "each change once, in order");
        }
        stop.store(true, Ordering::Relaxed);
        follower.join().unwrap().unwrap();
    });
}

#[test]
fn silent_changes_are_committed_without_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    journal.seal("t", &[("a", Some("1"))]);
    let upto = journal.seal_epoch("t", &[&[("a", None)]], true);
    assert_eq!(open(dir.path(), &journal).advance(upto).unwrap(), upto);
    assert_eq!(keys(dir.path(), "t"), ["a"]);
    assert_eq!(open(dir.path(), &journal).position(), upto);
}

#[test]
fn a_topic_name_never_leads_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Memory::default();
    let upto = journal.seal("../evil", &[("a", Some("1"))]);
    let fault = open(dir.path(), &journal).advance(upto).unwrap_err();
    assert_eq!(fault.exit, Exit::Usage);
}

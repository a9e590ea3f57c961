//! The independent readers: kafka-python, fastavro, and the checker.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::process::{root, script};

/// The Python that has them.
pub(super) fn python() -> Command {
    static PYTHON: OnceLock<String> = OnceLock::new();
    Command::new(PYTHON.get_or_init(|| script("python-readers")))
}

/// Runs a reader, its output to a file.
fn read_into(file: &Path, reader: &str, arguments: &[&str]) {
    let status = python()
        .arg(root().join("tests/readers").join(reader))
        .args(arguments)
        .stdout(std::fs::File::create(file).unwrap())
        .stderr(Stdio::inherit())
        .status();
    assert!(status.unwrap().success(), "{reader} {arguments:?}");
}

/// What a `read_committed` consumer sees of a topic, a line a record.
pub fn topic(dir: &Path, bootstrap: &str, topic: &str) -> Vec<Value> {
    let file = dir.join("topic.ndjson");
    read_into(&file, "read_topic.py", &[bootstrap, topic]);
    lines(&file)
}

/// Every object below a directory, and its records.
pub fn archive(dir: &Path, objects: &Path) -> Vec<Value> {
    let file = dir.join("archive.ndjson");
    read_into(&file, "read_archive.py", &[objects.to_str().unwrap()]);
    lines(&file)
}

/// Compares what `topic` and `archive` have read with the served versions; the summary, if all holds.
pub fn check(dir: &Path, versions: &Path, arguments: &[&str]) -> Value {
    let mut command = python();
    command.arg(root().join("tests/readers/check.py"));
    command
        .arg("--versions")
        .arg(versions)
        .arg("--topic")
        .arg(dir.join("topic.ndjson"));
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).unwrap()
}

/// The checker against planted errors.
pub fn self_test() -> Value {
    let output = python()
        .arg(root().join("tests/readers/check.py"))
        .arg("--self-test")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

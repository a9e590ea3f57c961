//! `rebuild`, `state inspect` and `state export` between real runs.
//!
//! Here what all of them use; [`whole`] loses the directory, [`state`] the state alone.

mod state;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::case::{CELLS, Case};
use crate::support::kafka::Broker;
use crate::support::process::{Ended, Program};
use crate::support::wait::{PATIENCE, wait_until};

const CHURN: [&str; 4] = ["--churn", "0.05", "--leave", "0.01"];
const REBUILD: [&str; 1] = ["rebuild"];
const STATE_ONLY: [&str; 2] = ["rebuild", "--state-only"];

/// Settings that differ from the case's: what stands there, and what shall.
type Edits<'a> = &'a [(&'a str, &'a str)];

fn configure(case: &Case, edits: Edits<'_>) {
    let path = case.dir.path().join(case.configure());
    let mut text = fs::read_to_string(&path).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} in\n{text}");
        text = text.replace(from, to);
    }
    fs::write(&path, text).unwrap();
}

fn run(case: &Case, edits: Edits<'_>, arguments: &[&str]) -> Ended {
    configure(case, edits);
    Program::run(case.dir.path(), arguments)
}

/// A case whose open transactions end soon.
fn hasty(name: &str, sim: &[&str]) -> Case {
    let case = Case::new(name, sim);
    let bootstrap = Broker::shared().bootstrap();
    case.kafka(format!(
        "bootstrap = \"{bootstrap}\"\ncreate = {{ partitions = 3 }}\n\
         properties = {{ \"transaction.timeout.ms\" = \"3000\" }}"
    ))
}

/// A case of few entries that never change by themselves.
fn still(name: &str) -> Case {
    let case = Case::new(name, &["--entries", "40", "--churn", "0.2"]);
    case.sim.freeze(&CELLS);
    case
}

fn data(case: &Case) -> PathBuf {
    case.dir.path().join("data")
}

fn lose(case: &Case) {
    fs::remove_dir_all(data(case)).unwrap();
}

/// Polls until so many more answers were given, at work all the time.
fn work(case: &Case, answers: usize, stop: impl FnOnce(Program)) {
    let enough = case.sim.served() + answers;
    let program = case.start(&["--workers", "2"]);
    wait_until("more answers", PATIENCE, || {
        (case.sim.served() >= enough).then_some(())
    });
    stop(program);
}

fn kill(program: Program) {
    assert!(program.kill9());
}

fn interrupt(program: Program) {
    program.interrupt();
    program.wait().good();
}

/// What is remembered: the content by cell and key.
fn remembered(case: &Case) -> BTreeMap<String, (String, u64)> {
    let exported = Program::run(case.dir.path(), &["state", "export"]).good();
    let line = |text: &str| {
        let line: Value = serde_json::from_str(text).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        assert_eq!((text("hash").len(), text("raw").len()), (32, 16));
        let name = format!("{} {} {}", text("source"), text("cell"), text("key"));
        (name, (text("canon"), line["rule"].as_u64().unwrap()))
    };
    exported.out.lines().map(line).collect()
}

fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code(), code, "{}\n{}", ended.out, ended.err);
    for word in words {
        assert!(ended.err.contains(word), "{word} in\n{}", ended.err);
    }
}

/// The files of a directory, and what is in them.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    if !dir.exists() {
        return all;
    }
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    for (file, bytes) in files(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
}

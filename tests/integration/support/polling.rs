//! The whole program polling a hostile server into the local topic log.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use deltapoll::io::local;
use serde::Deserialize;
use tempfile::TempDir;

use super::hostile::{Hostile, Scripts};
use super::process::Program;

/// `limits.body_max`.
const BODY_MAX: u64 = 4 << 20;

/// A program that polls each script of the server as a source of its own, into the local topic log.
pub struct Polling {
    pub dir: TempDir,
    pub server: Hostile,
}

impl Polling {
    /// `records` of all sources, and more lines for each.
    pub fn of(scripts: Scripts, records: &str, lines: &str) -> Polling {
        let dir = tempfile::tempdir().unwrap();
        let mut names: Vec<_> = scripts.keys().cloned().collect();
        names.sort();
        let server = Hostile::start(scripts);
        let mut text = format!(
            "name = \"n\"\ndata_dir = \"data\"\n[limits]\nbody_max = {BODY_MAX}\nstaging = \"16MiB\"\n"
        );
        for name in names {
            let port = server.port;
            text += &format!(
                "[source.{name}]\nurl = \"http://127.0.0.1:{port}/{name}\"\nkey = [\"/id\"]\n\
                 records = \"{records}\"\nevery = \"10ms\"\n\
                 headers = {{ X-Riot-Token = \"${{env:DELTAPOLL_TEST_TOKEN}}\" }}\n{lines}\n"
            );
        }
        std::fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
        Polling { dir, server }
    }

    pub fn start(&self, arguments: &[&str]) -> Program {
        Program::start(self.dir.path(), arguments)
    }

    /// So many polls of each source.
    pub fn rounds(&self, rounds: usize) -> Changes {
        self.start(&["--rounds", &rounds.to_string()]).wait().good();
        self.changes()
    }

    pub fn changes(&self) -> Changes {
        Changes(self.dir.path().join("data"))
    }
}

/// What was published.
pub struct Changes(PathBuf);

/// A change; its value is not looked into, since not every reader takes 10,000 digits.
#[derive(Deserialize)]
pub struct Line {
    pub change: String,
    pub key: String,
    seq: u64,
}

impl Changes {
    /// All changes, as text.
    pub fn text(&self, topic: &str) -> String {
        let mut out = Vec::new();
        let never = AtomicBool::new(false);
        local::tail(&self.0, topic, true, false, &mut out, &never).unwrap();
        String::from_utf8(out).unwrap()
    }

    pub fn of(&self, topic: &str) -> Vec<Line> {
        let text = self.text(topic);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Kind and key of each change but those of the first batch.
    pub fn after_first(&self, topic: &str) -> Vec<(String, String)> {
        let all = self.of(topic);
        let first = all.first().map(|line| line.seq);
        let later = all.into_iter().filter(|line| Some(line.seq) != first);
        // Within a batch they are in order of their hashes.
        let mut later: Vec<_> = later.map(|line| (line.change, line.key)).collect();
        later.sort();
        later
    }
}

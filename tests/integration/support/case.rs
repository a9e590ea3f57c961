//! One pipeline under test: a directory, a simulated API, a broker, a bucket.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::kafka::Broker;
use super::objects::ObjectServer;
use super::process::{Ended, Program};
use super::readers;
use super::sim::Sim;

/// The cells that every case polls: two regions, and the same players in two queues of one of them.
pub const CELLS: [&str; 4] = [
    "kr,RANKED_SOLO_5x5",
    "kr,RANKED_FLEX_SR",
    "euw1,RANKED_SOLO_5x5",
    "euw1,RANKED_FLEX_SR",
];

/// Ends with its processes when it is dropped.
pub struct Case {
    pub dir: TempDir,
    pub name: String,
    pub sim: Sim,
    pub objects: ObjectServer,
    bootstrap: String,
    kafka: String,
    source: String,
}

impl Case {
    /// A case on the shared broker, with arguments for the simulated API.
    pub fn new(name: &str, sim: &[&str]) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::start(dir.path(), sim);
        let bootstrap = Broker::shared().bootstrap();
        let kafka = format!("bootstrap = \"{bootstrap}\"\ncreate = {{ partitions = 3 }}");
        let name = format!("{name}-{:08x}", rand::random::<u32>());
        let source = "every = \"15ms\"\nremoved_after = 1".to_owned();
        Case {
            dir,
            name,
            sim,
            objects: ObjectServer::start(),
            bootstrap,
            kafka,
            source,
        }
    }

    /// The same with other lines in `[source.league]`.
    pub fn source(mut self, lines: &str) -> Case {
        lines.clone_into(&mut self.source);
        self
    }

    /// The same with other lines in `[kafka]`.
    pub fn kafka(mut self, lines: String) -> Case {
        self.kafka = lines;
        self
    }

    /// Writes the configuration and returns its name.
    pub fn configure(&self) -> String {
        let Case {
            name,
            sim,
            source,
            kafka,
            ..
        } = self;
        let text = format!(
            r#"
name = "{name}"
data_dir = "data"
[source.league]
url = "http://127.0.0.1:{}/{{region}}/lol/league/v4/challengerleagues/by-queue/{{queue}}"
vars = {{ region = ["kr", "euw1"], queue = ["RANKED_SOLO_5x5", "RANKED_FLEX_SR"] }}
headers = {{ X-Riot-Token = "${{env:DELTAPOLL_TEST_TOKEN}}" }}
records = "/entries"
key = ["/puuid", "/summonerId"]
record_key = "{{region}}:{{queue}}:{{key}}"
topic = "{name}"
{source}
[kafka]
{kafka}
[archive]
url = "gs://bucket/{name}"
roll = {{ records = 400, age = "2s" }}
options = {{ google_service_account_key = '{}' }}
"#,
            sim.port,
            self.objects.service_account()
        );
        std::fs::write(self.dir.path().join("deltapoll.toml"), text).unwrap();
        "deltapoll.toml".to_owned()
    }

    pub fn start(&self, arguments: &[&str]) -> Program {
        self.configure();
        Program::start(self.dir.path(), arguments)
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).wait()
    }

    /// The same, with these variables in the program's environment.
    #[cfg(feature = "fail-points")]
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        self.configure();
        Program::start_with(self.dir.path(), arguments, variables).wait()
    }

    /// Lets the API stand still, brings everything to the end, and reads it back.
    pub fn settle(&self) -> Vec<Value> {
        self.sim.control("faults?spec=");
        self.sim.freeze(&CELLS);
        self.run(&["--workers", "2", "--rounds", "2", "--flush-archive"])
            .good();
        self.read_topic()
    }

    pub fn read_topic(&self) -> Vec<Value> {
        readers::topic(self.dir.path(), &self.bootstrap, &self.name)
    }

    /// What the checker says of everything that was published and archived.
    pub fn check(&self) -> Value {
        let objects = self.dir.path().join("objects");
        self.objects.dump(&objects);
        readers::archive(self.dir.path(), &objects);
        let archive: PathBuf = self.dir.path().join("archive.ndjson");
        readers::check(
            self.dir.path(),
            &self.sim.versions,
            &["--archive", archive.to_str().unwrap()],
        )
    }
}

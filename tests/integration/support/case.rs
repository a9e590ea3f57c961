//! One pipeline under test: a directory, a simulated API, a broker, a bucket.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::cluster::end;
use super::fault_table;
use super::kafka::Broker;
use super::objects::ObjectServer;
use super::process::{Ended, Program};
use super::readers;
use super::sim::Sim;
use super::wait::{PATIENCE, wait_until};

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
    data: String,
}

impl Case {
    /// A case on the shared broker, with arguments for the simulated API.
    pub fn new(name: &str, sim: &[&str]) -> Case {
        Case::on(Broker::shared().bootstrap(), name, sim)
    }

    /// The same on the brokers at `bootstrap`.
    pub fn on(bootstrap: String, name: &str, sim: &[&str]) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::start(dir.path(), sim);
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
            data: "data".to_owned(),
        }
    }

    /// The same on another directory of data.
    pub fn data(mut self, data: &str) -> Case {
        data.clone_into(&mut self.data);
        self
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

    /// A copy of the directory of data, as `cp -r` makes one.
    pub fn copy_data(&self, to: &str) {
        let (from, to) = (self.dir.path().join(&self.data), self.dir.path().join(to));
        let copied = Command::new("cp").arg("-r").args([from, to]).status();
        assert!(copied.unwrap().success());
    }

    /// Writes the configuration and returns its name.
    pub fn configure(&self) -> String {
        let Case {
            name,
            sim,
            source,
            kafka,
            data,
            ..
        } = self;
        let text = format!(
            r#"
name = "{name}"
data_dir = "{data}"
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
        // In one step: another program of this case may be reading it.
        let (file, new) = ("deltapoll.toml", "deltapoll.toml.new");
        std::fs::write(self.dir.path().join(new), text).unwrap();
        std::fs::rename(self.dir.path().join(new), self.dir.path().join(file)).unwrap();
        file.to_owned()
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

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn read_topic(&self) -> Vec<Value> {
        readers::topic(self.dir.path(), &self.bootstrap, &self.name)
    }

    /// Waits until `program` has committed more than there is now.
    pub fn goes_on(&self, program: &mut Program) {
        let mut committed = || {
            assert!(program.is_running(), "{}", program.err());
            end(&self.bootstrap, &self.name, true)
        };
        let before = wait_until("the committed end", PATIENCE, &mut committed);
        wait_until("further commits", PATIENCE, || {
            committed().filter(|end| *end > before + 20)
        });
    }

    /// Ends `program` as a user does, brings everything to the end, and adds what the readers find to the
    /// table of faults.
    pub fn proves(&self, fault: &str, program: Program) {
        program.interrupt();
        program.wait().good();
        self.settle();
        let summary = self.check();
        let records = &summary["records"];
        fault_table::row(
            fault,
            &format!("exit 0, 0 duplicates, 0 losses ({records} records)"),
        );
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

//! One process of Kafka, in a directory of its own.
//!
//! It runs under a shell that kills it when our end of a pipe closes, so that no test process, however
//! it ends, leaves one behind.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::process::{read_when_there, script};

/// Every node of these tests belongs to a cluster of this id.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// Starts the rest of its arguments, kills them at a word or at the end of its input; at its end
/// nothing of the directory stays.
const GUARD: &str = "\"$@\" <&- & echo $! >pid; read -r word; kill -9 $!; wait $!; \
                     test \"$word\" || rm -rf -- \"$PWD\"";

const LOG4J: &str = "\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
";

/// A broker or a controller.
pub struct Node {
    dir: PathBuf,
    heap: &'static str,
    guard: Option<Child>,
}

impl Node {
    /// A node that does not run yet; `properties` without the line for its data.
    pub fn new(dir: PathBuf, properties: &str, heap: &'static str) -> Node {
        std::fs::create_dir_all(&dir).unwrap();
        let data = format!("log.dirs={}\n", dir.join("data").display());
        std::fs::write(dir.join("server.properties"), properties.to_owned() + &data).unwrap();
        std::fs::write(dir.join("log4j2.properties"), LOG4J).unwrap();
        Node {
            dir,
            heap,
            guard: None,
        }
    }

    /// Formats the data of several nodes at once.
    pub fn format(nodes: &[&Node]) {
        let format = |node: &&Node| {
            let log = File::create(node.dir.join("format.log")).unwrap();
            java(&node.dir)
                .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID])
                .args(["-c", "server.properties"])
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap()
        };
        let formats: Vec<Child> = nodes.iter().map(format).collect();
        for mut format in formats {
            assert!(format.wait().unwrap().success(), "see format.log");
        }
    }

    /// Starts it, if it does not run.
    pub fn start(&mut self) {
        if self.guard.is_some() {
            return;
        }
        let _ = std::fs::remove_file(self.dir.join("pid"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", "java", "-Xms64m", self.heap])
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dlog4j2.configurationFile=log4j2.properties")
            .args(["-cp", &class_path(), "kafka.Kafka", "server.properties"])
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.guard = Some(guard.unwrap());
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            writeln!(guard.stdin.take().unwrap(), "kill").unwrap();
            guard.wait().unwrap();
        }
    }

    /// `-STOP` or `-CONT`, for one that runs.
    pub fn signal(&self, signal: &str) {
        let pid = read_when_there(&self.dir.join("pid"));
        let kill = Command::new("kill").args([signal, pid.trim()]).status();
        assert!(kill.unwrap().success());
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("broker.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

fn class_path() -> String {
    format!("{}/*", script("kafka-libs"))
}

fn java(dir: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-cp", &class_path()])
        .current_dir(dir);
    java
}

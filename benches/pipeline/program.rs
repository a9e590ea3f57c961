//! The program as it is measured: its configuration, its process, and what /proc says of it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Killed, PATH};

/// The default of `checkpoint.max`; it must not be shorter than `min`.
const CHECKPOINT_MAX: Duration = Duration::from_secs(1);

/// Where changes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sink {
    /// Nowhere: what is sealed counts as published
    Null,
    /// The local topic log
    Local,
    /// A broker
    Kafka,
    /// A broker, and an archive in a directory
    #[value(name = "kafka+archive")]
    KafkaAndArchive,
}

impl Sink {
    pub fn needs_broker(self) -> bool {
        matches!(self, Sink::Kafka | Sink::KafkaAndArchive)
    }

    pub fn name(self) -> &'static str {
        match self {
            Sink::Null => "null",
            Sink::Local => "local",
            Sink::Kafka => "kafka",
            Sink::KafkaAndArchive => "kafka+archive",
        }
    }
}

/// What is configured.
#[derive(Clone)]
pub struct Setup<'a> {
    /// Of the instance and of its topic.
    pub name: String,
    pub port: u16,
    /// A cell for each; none: one cell, of the simulation's first platform.
    pub platforms: &'a [&'a str],
    pub every: Duration,
    pub sink: Sink,
    pub bootstrap: &'a str,
    pub checkpoint_min: Duration,
    pub partitions: u32,
    pub workers: usize,
    pub rounds: u64,
}

impl Setup<'_> {
    fn toml(&self, dir: &Path) -> String {
        let (name, port) = (&self.name, self.port);
        let data_dir = dir.join("data");
        let every = humantime::format_duration(self.every);
        let min = humantime::format_duration(self.checkpoint_min);
        let max = humantime::format_duration(self.checkpoint_min.max(CHECKPOINT_MAX));
        let mut text = format!(
            "name = {name:?}\n\
             data_dir = {data_dir:?}\n\
             checkpoint = {{ min = \"{min}\", max = \"{max}\" }}\n\
             [source.challenger]\n\
             every = \"{every}\"\n\
             records = \"/entries\"\n\
             key = [\"/puuid\"]\n\
             topic = {name:?}\n"
        );
        let mut add = |part: &str| text.push_str(part);
        match self.platforms {
            [] => add(&format!("url = \"http://127.0.0.1:{port}{PATH}\"\n")),
            platforms => add(&format!(
                "url = \"http://127.0.0.1:{port}/{{platform}}{PATH}\"\n\
                 vars = {{ platform = {platforms:?} }}\n\
                 record_key = \"{{platform}}:{{key}}\"\n"
            )),
        }
        if self.sink.needs_broker() {
            add(&format!(
                "[kafka]\n\
                 bootstrap = {:?}\n\
                 properties = {{ \"compression.type\" = \"lz4\" }}\n\
                 create = {{ partitions = {}, replication = 1 }}\n",
                self.bootstrap, self.partitions
            ));
        }
        if self.sink == Sink::KafkaAndArchive {
            let archive = dir.join("archive");
            writeln!(text, "[archive]\nurl = \"file://{}\"", archive.display())
                .expect("strings take everything");
        }
        text
    }
}

/// The running program; its files are in a directory that the caller throws away.
pub struct Program {
    pub process: Killed,
    output: PathBuf,
}

impl Program {
    /// Starts it: the release binary, except for what the release binary cannot do.
    pub fn start(setup: &Setup, dir: &Path) -> io::Result<Program> {
        let file = dir.join("deltapoll.toml");
        fs::write(&file, setup.toml(dir))?;
        let (workers, rounds) = (setup.workers.to_string(), setup.rounds.to_string());
        let mut command = if setup.sink == Sink::Null {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--discarding").arg(&file);
            command
        } else {
            let mut command = Command::new(env!("CARGO_BIN_EXE_deltapoll"));
            command.arg("run").arg("--config").arg(&file);
            command
        };
        let output = dir.join("output");
        let file = fs::File::create(&output)?;
        let process = command
            .args(["--workers", &workers, "--rounds", &rounds])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Program {
            process: Killed(process),
            output,
        })
    }

    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.process.0.try_wait()?.is_some())
    }

    /// Waits for its end, and returns what it said.
    ///
    /// # Errors
    /// When it failed: with what it said.
    pub fn end(mut self) -> io::Result<String> {
        let status = self.process.0.wait()?;
        let output = fs::read_to_string(&self.output)?;
        match status.success() {
            true => Ok(output),
            false => Err(io::Error::other(format!("{status}:\n{output}"))),
        }
    }
}

//! Where, when and of what a figure was made: without this no two of them can be compared.

use std::fs;
use std::process::Command;

use chrono::{DateTime, SecondsFormat};
use deltapoll::clock;
use serde_json::{Value, json};

/// Decides everything that chance decides.
pub const SEED: u64 = 7;
const UNKNOWN: &str = "unknown";
/// Digits of a commit.
const ABBREVIATED: &str = "--abbrev=12";

/// The machine and the program.
pub struct Machine {
    at: String,
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    commit: String,
    librdkafka: String,
}

impl Machine {
    /// What is here now. What cannot be found out is "unknown".
    pub fn look() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let cpu = model.map(|line| line.trim_start_matches([' ', '\t', ':']));
        let at = i64::try_from(clock::unix_ms()).ok();
        let at = at.and_then(DateTime::from_timestamp_millis);
        Machine {
            at: at.map_or(UNKNOWN.into(), |at| {
                at.to_rfc3339_opts(SecondsFormat::Secs, true)
            }),
            cpu: cpu.unwrap_or(UNKNOWN).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty", ABBREVIATED]),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
        }
    }

    /// Two lines of text.
    pub fn text(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let Machine {
            at,
            cpu,
            cores,
            kernel,
            rustc,
            commit,
            librdkafka,
        } = self;
        format!(
            "{at}: {cores} cores of {cpu}, Linux {kernel}\n\
             deltapoll {version}, commit {commit}, {rustc}, librdkafka {librdkafka}, seed {SEED}\n"
        )
    }

    /// One line, where there is no room for two.
    pub fn line(&self) -> String {
        let Machine {
            at,
            cpu,
            cores,
            commit,
            ..
        } = self;
        format!("{at}, {cores} cores of {cpu}, commit {commit}")
    }

    pub fn json(&self) -> Value {
        json!({
            "at": self.at,
            "cpu": self.cpu,
            "cores": self.cores,
            "kernel": self.kernel,
            "rustc": self.rustc,
            "deltapoll": env!("CARGO_PKG_VERSION"),
            "commit": self.commit,
            "librdkafka": self.librdkafka,
            "seed": SEED,
        })
    }
}

fn known(text: &str) -> String {
    if text.is_empty() { UNKNOWN } else { text }.to_owned()
}

/// What a program prints.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    known(text.unwrap_or_default().trim())
}

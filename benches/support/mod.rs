//! What benches of the whole process share: the simulated API, and processes that end with the bench.

#![allow(dead_code, reason = "each bench uses a part")]

pub mod machine;
pub mod used;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deltapoll::clock;

pub use machine::SEED;

/// Where the ladder is.
pub const PATH: &str = "/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5";
/// How often something is looked at.
pub const LOOK: Duration = Duration::from_millis(10);
/// How long the simulation may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of all files in `dir`, at any depth.
pub fn bytes_under(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_under(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// A process that does not outlive us.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The simulated API as a process of its own.
pub struct Simulation {
    _process: Killed,
    pub port: u16,
}

impl Simulation {
    /// Starts it; its files go to `dir`.
    pub fn start(entries: u64, churn: f64, dir: &Path) -> io::Result<Simulation> {
        let port_file = dir.join("port");
        let process = Command::new(env!("CARGO_BIN_EXE_deltapoll"))
            .args(["simulate", "--port", "0", "--port-file"])
            .arg(&port_file)
            .args(["--entries", &entries.to_string()])
            .args(["--churn", &churn.to_string()])
            .args(["--seed", &SEED.to_string(), "--token="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let process = Killed(process);
        let deadline = clock::now() + PATIENCE;
        loop {
            let written = fs::read_to_string(&port_file).unwrap_or_default();
            if let Ok(port) = written.trim().parse() {
                return Ok(Simulation {
                    _process: process,
                    port,
                });
            }
            if clock::now() > deadline {
                return Err(io::Error::other("the simulation does not listen"));
            }
            clock::pause(LOOK);
        }
    }

    /// The answer to a request, head and all.
    pub fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// Polls that were asked for, and those that were answered, so far.
    pub fn polls(&self) -> Option<(u64, u64)> {
        let answer = String::from_utf8(self.get("/sim/stats").ok()?).ok()?;
        let body = answer.split_once("\r\n\r\n")?.1;
        let stats: serde_json::Value = serde_json::from_str(body).ok()?;
        Some((stats["arrived"].as_u64()?, stats["requests"].as_u64()?))
    }

    /// Has polls after so many wait for their answer; `None`: no longer.
    pub fn hold_after(&self, polls: Option<u64>) -> io::Result<()> {
        let after = polls.map_or(String::new(), |polls| format!("?after={polls}"));
        let answer = self.ask("POST", &format!("/sim/hold{after}"))?;
        match answer.starts_with(b"HTTP/1.1 204") {
            true => Ok(()),
            false => Err(io::Error::other("the simulation does not hold polls")),
        }
    }
}

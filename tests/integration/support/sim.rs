//! The simulated league API as a process that outlives the program under test.

use std::path::{Path, PathBuf};

use super::process::{Program, read_when_there};

/// What the API wants in `X-Riot-Token`.
pub const TOKEN: &str = "RGAPI-secret-of-the-tests";

/// A running API.
pub struct Sim {
    _program: Program,
    pub port: u16,
    pub versions: PathBuf,
}

impl Sim {
    /// Starts it in `dir` with further arguments.
    pub fn start(dir: &Path, arguments: &[&str]) -> Sim {
        let (port_file, versions) = (dir.join("sim.port"), dir.join("versions.ndjson"));
        let mut all = vec!["simulate", "--port", "0", "--token", TOKEN, "--port-file"];
        all.extend([
            port_file.to_str().unwrap(),
            "--versions",
            versions.to_str().unwrap(),
        ]);
        all.extend(arguments);
        let program = Program::start(dir, &all);
        let port = read_when_there(&port_file).trim().parse().unwrap();
        Sim {
            _program: program,
            port,
            versions,
        }
    }

    /// `POST /sim/...`.
    pub fn control(&self, path: &str) {
        let url = format!("http://127.0.0.1:{}/sim/{path}", self.port);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer =
            runtime.block_on(async { reqwest::Client::new().post(url).send().await.unwrap() });
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Every answer of these cells is the same from now on.
    pub fn freeze(&self, cells: &[&str]) {
        for cell in cells {
            self.control(&format!("set?cell={cell}&frozen=true"));
        }
    }

    /// How many versions were served.
    pub fn served(&self) -> usize {
        std::fs::read_to_string(&self.versions).map_or(0, |text| text.lines().count())
    }
}

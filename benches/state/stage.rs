//! One process on a directory, from its start to its end.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use deltapoll::clock;

use crate::api::Api;
use crate::support::used::used;
use crate::support::{Killed, LOOK, bytes_under};

/// On what it runs.
pub struct Setup<'a> {
    pub cells: usize,
    pub workers: usize,
    pub dir: &'a Path,
    pub api: &'a Api,
}

/// What a process took, and left.
pub struct Stage {
    pub seconds: f64,
    pub to_first_poll: f64,
    pub peak_bytes: f64,
    pub body_bytes: f64,
    pub disk_bytes: f64,
}

/// Runs until every cell was asked `rounds` times.
pub fn stage(setup: &Setup<'_>, rounds: u64) -> io::Result<Stage> {
    let file = setup.dir.join("deltapoll.toml");
    fs::write(&file, toml(setup))?;
    let output = setup.dir.join("output");
    let said = fs::File::create(&output)?;
    setup.api.take_first();
    let begun = clock::now();
    let process = Command::new(std::env::current_exe()?)
        .arg("--discarding")
        .arg(&file)
        .args(["--workers", &setup.workers.to_string()])
        .args(["--rounds", &rounds.to_string()])
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .spawn()?;
    let mut process = Killed(process);
    let peak_bytes = peak_at_end(process.0.id())?;
    let seconds = clock::now().duration_since(begun).as_secs_f64();
    let status = process.0.wait()?;
    let first = setup.api.take_first().filter(|_| status.success());
    let first = first.ok_or_else(|| {
        let said = fs::read_to_string(&output).unwrap_or_default();
        io::Error::other(format!("{status}:\n{said}"))
    })?;
    Ok(Stage {
        seconds,
        to_first_poll: first.duration_since(begun).as_secs_f64(),
        peak_bytes: peak_bytes as f64,
        body_bytes: setup.api.body_bytes() as f64,
        disk_bytes: bytes_under(&setup.dir.join("data/state"))? as f64,
    })
}

/// Waits until the process has ended.
fn peak_at_end(process: u32) -> io::Result<u64> {
    let mut peak = 0;
    loop {
        let used = used(&process.to_string())?;
        peak = used.peak_bytes.unwrap_or(peak);
        if used.ended {
            return Ok(peak);
        }
        clock::pause(LOOK);
    }
}

fn toml(setup: &Setup<'_>) -> String {
    let cells: Vec<String> = (0..setup.cells).map(|cell| cell.to_string()).collect();
    let data = setup.dir.join("data");
    let mut text = format!("name = \"bench\"\ndata_dir = {data:?}\n[source.ladder]\n");
    writeln!(
        text,
        "url = \"http://{}/{{cell}}\"\n\
         vars = {{ cell = {cells:?} }}\n\
         record_key = \"{{cell}}:{{key}}\"\n\
         every = \"1ms\"\n\
         records = \"/entries\"\n\
         key = [\"/puuid\"]",
        setup.api.address
    )
    .expect("strings take everything");
    text
}

//! The program as a process of its own, killed when it is dropped.

use std::fs::File;
#[cfg(feature = "fail-points")]
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::wait::{PATIENCE, wait_until};

/// A running program, its output in files.
pub struct Program {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// What a program that ended left.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Whether it aborted: at a fail point, or in a panic.
    #[cfg(feature = "fail-points")]
    pub fn aborted(&self) -> bool {
        const SIGABRT: i32 = 6;
        self.status.signal() == Some(SIGABRT)
    }

    /// The output, if it ended well.
    pub fn good(self) -> Ended {
        assert!(
            self.status.success(),
            "{}\n{}\n{}",
            self.status,
            self.out,
            self.err
        );
        self
    }
}

impl Program {
    /// Starts the program in `dir` with these arguments.
    pub fn start(dir: &Path, arguments: &[&str]) -> Program {
        Program::start_with(dir, arguments, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_with(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deltapoll"));
        command.args(arguments).envs(variables.iter().copied());
        Program::start_as(dir, command)
    }

    /// Starts the program by a command that becomes it in the end.
    pub fn start_as(dir: &Path, mut command: Command) -> Program {
        static STARTS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let start = STARTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (out, err) = (
            dir.join(format!("out.{start}")),
            dir.join(format!("err.{start}")),
        );
        let child = command
            .current_dir(dir)
            .env("DELTAPOLL_TEST_TOKEN", super::sim::TOKEN)
            .env_remove("DELTAPOLL_CONFIG")
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Program { child, out, err }
    }

    /// Runs the program to its end.
    pub fn run(dir: &Path, arguments: &[&str]) -> Ended {
        Program::start(dir, arguments).wait()
    }

    pub fn out(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    pub fn err(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib << 10
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`; whether it was still running.
    pub fn kill9(mut self) -> bool {
        let running = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        running
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let mut status = None;
        let ended = wait_until_or("the program's end", || {
            status = self.child.try_wait().unwrap();
            status
        });
        let (out, err) = (self.out(), self.err());
        let status = ended.unwrap_or_else(|what| panic!("{what}\n{out}\n{err}"));
        Ended { status, out, err }
    }
}

fn wait_until_or<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE {
        match probe() {
            Some(answer) => return Ok(answer),
            None => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    Err(format!("waited {PATIENCE:?} for {what}"))
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port on loopback, free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The directory of a script of this repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script that prints one line.
pub fn script(name: &str) -> String {
    let output = Command::new(root().join("scripts").join(name))
        .stderr(Stdio::inherit())
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "scripts/{name}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until the file is there, and reads it.
pub fn read_when_there(path: &Path) -> String {
    wait_until(&format!("the file {}", path.display()), PATIENCE, || {
        std::fs::read_to_string(path)
            .ok()
            .filter(|text| !text.is_empty())
    })
}

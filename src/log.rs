//! Log lines and last words: to stderr, as text or as JSON, without secrets (G5).
//!
//! Every line passes through [`secret::redact`] as a whole before it is written, whoever wrote it. A
//! panic anywhere is logged the same way and ends the process at once (R15).

use std::io::{IsTerminal, Write};
use std::sync::{LazyLock, OnceLock};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::secret;
use crate::fault::Fault;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Time, level, message, fields.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// The least important lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// What ends the program.
    Error,
    /// And what does not work at the moment.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And details.
    Debug,
    /// And every step.
    Trace,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

static FORMAT: OnceLock<Format> = OnceLock::new();
static TERMINAL: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4)));

/// Starts logging, for the whole process. The first call counts.
pub fn init(format: Format, level: Level) {
    if FORMAT.set(format).is_err() {
        return;
    }
    let others = if level == Level::Error {
        "error"
    } else {
        "warn"
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!(
            "{others},deltapoll={}",
            level.as_str()
        )))
        .with_writer(Stderr)
        .with_target(false);
    let started = match format {
        Format::Text => builder.with_ansi(colours()).try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
    // Somebody else's subscriber, in a test.
    drop(started);
    std::panic::set_hook(Box::new(|info| {
        // sled asserts what it expects to find on disk; the store makes an error of it.
        if deltapoll_state::store::panic_is_caught() {
            return;
        }
        panicked(info);
        std::process::abort()
    }));
}

/// Whether live lines can be shown: stderr is a terminal and log lines are text.
#[must_use]
pub fn is_live() -> bool {
    std::io::stderr().is_terminal() && FORMAT.get() != Some(&Format::Json)
}

/// The live lines on the terminal; log lines are written above them.
pub(crate) fn terminal() -> &'static MultiProgress {
    &TERMINAL
}

/// The last words of a program that stops for `fault`.
pub fn report(fault: &Fault) {
    if FORMAT.get() == Some(&Format::Json) {
        tracing::error!(exit = fault.exit as i32, "{fault}");
        return;
    }
    let mut text = String::new();
    for line in fault.message.lines() {
        text.push_str(&format!("deltapoll: {line}\n"));
    }
    terminal().suspend(|| write_stderr(&text));
}

fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn write_stderr(text: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = std::io::stderr().write_all(secret::redact(text).as_bytes());
}

/// Writes directly: the panic may have come while a log line or a live line was being written.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("(no message)");
    let place = info
        .location()
        .map_or_else(String::new, ToString::to_string);
    let thread = std::thread::current()
        .name()
        .unwrap_or("(no name)")
        .to_owned();
    let message = format!("panic in thread {thread} at {place}: {what}");
    let backtrace = std::backtrace::Backtrace::capture();
    let traced = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    let trace = if traced {
        format!("\n{backtrace}")
    } else {
        String::new()
    };
    if FORMAT.get() == Some(&Format::Json) {
        let line = serde_json::json!({"level": "ERROR", "message": format!("{message}{trace}")});
        write_stderr(&format!("{line}\n"));
    } else {
        write_stderr(&format!(
            "deltapoll: {message}; a restart recovers{trace}\n"
        ));
    }
}

/// Makes a writer for one log line.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One log line; written when it is whole, so that no secret is cut in two.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        terminal().suspend(|| write_stderr(&text));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "DELTAPOLL_TEST_LOG_CHILD";

    /// Runs this test binary again, with only `test` in it, as a process of its own.
    fn again(test: &str, format: &str) -> std::process::Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, format)
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap()
    }

    fn child() -> Option<Format> {
        let format = std::env::var(CHILD).ok()?;
        Some(if format == "json" {
            Format::Json
        } else {
            Format::Text
        })
    }

    #[test]
    fn r15_a_panic_on_any_thread_ends_the_process_and_tells_no_secret() {
        if let Some(format) = child() {
            init(format, Level::Info);
            secret::keep("hunter\"two");
            let thread = std::thread::Builder::new().name("worker".into());
            let thread = thread.spawn(|| panic!("the API said hunter\"two")).unwrap();
            thread.join().unwrap_err();
            return;
        }
        for format in ["text", "json"] {
            let test = "log::tests::r15_a_panic_on_any_thread_ends_the_process_and_tells_no_secret";
            let output = again(test, format);
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(
                output.status.signal(),
                Some(6),
                "a shell sees 134; it said {told}"
            );
            assert!(
                told.contains("panic in thread worker at src/log.rs:"),
                "{told}"
            );
            assert!(told.contains("the API said [redacted]"), "{told}");
            assert!(!told.contains("two"), "{told}");
        }
    }

    #[test]
    fn log_lines_and_last_words_tell_no_secret() {
        if let Some(format) = child() {
            init(format, Level::Info);
            secret::keep("hunter-two");
            tracing::info!(token = "hunter-two", "asked with hunter-two");
            tracing::debug!("not shown");
            report(&Fault::usage("wrong: hunter-two\nand more"));
            return;
        }
        let test = "log::tests::log_lines_and_last_words_tell_no_secret";
        let text = String::from_utf8(again(test, "text").stderr).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let shown = " INFO asked with [redacted] token=\"[redacted]\"";
        assert!(lines[0].ends_with(shown), "{text}");
        assert_eq!(
            lines[1..],
            ["deltapoll: wrong: [redacted]", "deltapoll: and more"]
        );
        let json = String::from_utf8(again(test, "json").stderr).unwrap();
        let lines: Vec<serde_json::Value> = json
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{json}");
        assert_eq!(lines[0]["message"], "asked with [redacted]");
        assert_eq!(lines[0]["token"], "[redacted]");
        assert_eq!(lines[1]["message"], "wrong: [redacted]\nand more");
        assert_eq!(lines[1]["exit"], 2);
    }
}

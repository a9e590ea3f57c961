//! The command line: arguments, the configuration that they name, and what each command calls.
//!
//! Layout: this file the arguments and the way to the exit code; a file for each command.

pub mod backfill;
pub mod check;
pub mod rebuild;
pub mod run;
pub mod simulate;
pub mod state;
pub mod tail;
pub mod verify;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Config};
use crate::fault::Fault;
use crate::log;

/// Read where `--config` is not given, if it is there.
const DEFAULT_CONFIG: &str = "deltapoll.toml";
const DEFAULT_DATA_DIR: &str = "deltapoll-data";

const AFTER_HELP: &str = "\
Examples:
  deltapoll --workers 2            without a deltapoll.toml: a demo, nothing to install
  deltapoll tail challenger -f     follow what it publishes
  deltapoll --config league.toml check
  deltapoll --config league.toml --once      poll every cell once, publish, exit (for cron)

Exit codes:
  0    done
  1    failed
  2    wrong configuration or arguments
  3    fenced: another instance took over
  4    the local directory is stale, damaged or does not match the configuration
  130  stopped at once by a second Ctrl-C
  134  panic (SIGABRT); a restart recovers

Environment:
  NO_COLOR          no colours in log lines
  RUST_BACKTRACE=1  a backtrace with a panic
  whatever the configuration refers to as ${env:NAME}";

/// Turns polled HTTP APIs into an exactly-once change stream: Kafka transactions and Avro objects, cut
/// at the same checkpoint.
#[derive(Debug, Parser)]
#[command(name = "deltapoll", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration [default: deltapoll.toml if it is there, otherwise a demo]
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "DELTAPOLL_CONFIG"
    )]
    pub config: Option<PathBuf>,

    /// Where the journal and the state live, instead of the configuration's data_dir
    #[arg(long, global = true, value_name = "DIR", env = "DELTAPOLL_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Threads that decide what changed; may differ between any two runs
    #[arg(long, short, global = true, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,

    /// How log lines are written to stderr
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "DELTAPOLL_LOG_FORMAT"
    )]
    pub log_format: log::Format,

    /// The least important log lines that are written
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "DELTAPOLL_LOG_LEVEL"
    )]
    pub log_level: log::Level,

    #[command(flatten)]
    run: run::Args,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Poll and publish until stopped (the default)
    Run(run::Args),
    /// Publish what stored snapshots say, in their order, as if they had been polled
    Backfill(backfill::Args),
    /// Print the plan and send one request per source; writes nothing, creates nothing, fences nobody
    Check,
    /// Prove that topic, archive and state agree, or say where they do not; writes nothing
    Verify(verify::Args),
    /// Print committed changes as lines of JSON, without joining a consumer group
    Tail(tail::Args),
    /// Look at the local directory, publish a source again, or start a new history
    State(state::Args),
    /// Make the local directory again from topics and archive, after its disk was lost
    Rebuild(rebuild::Args),
    /// Serve the simulated league API
    Simulate(simulate::Args),
}

impl Cli {
    /// Reads arguments, the first of which is the program.
    ///
    /// # Errors
    /// What to print, and whether it is an error at all: help and version come this way too.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from(args)?;
        let misplaced = |what: &str| {
            let told = format!("{what} belongs to the command 'run', and is not for this one");
            Err(Cli::command().error(ErrorKind::ArgumentConflict, told))
        };
        match &cli.command {
            Some(Command::Run(_)) | None => Ok(cli),
            Some(Command::Backfill(_)) if cli.run.flush_archive => {
                let told = "--flush-archive goes after the command 'backfill'";
                Err(Cli::command().error(ErrorKind::ArgumentConflict, told))
            }
            Some(_) if cli.run.once => misplaced("--once"),
            Some(_) if cli.run.rounds.is_some() => misplaced("--rounds"),
            Some(_) if cli.run.flush_archive => misplaced("--flush-archive"),
            Some(_) => Ok(cli),
        }
    }

    /// The command; `run` where none is named.
    #[must_use]
    pub fn into_command(self) -> Command {
        match self.command {
            Some(Command::Run(args)) => Command::Run(args.or(self.run)),
            Some(command) => command,
            None => Command::Run(self.run),
        }
    }

    /// The configuration file, if there is one; without: the demo.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        let default = || {
            Path::new(DEFAULT_CONFIG)
                .exists()
                .then(|| DEFAULT_CONFIG.into())
        };
        self.config.clone().or_else(default)
    }

    /// The configuration, checked, with the arguments' data directory; `demo` gives the address of the
    /// simulated API where there is no file. Its warnings are logged.
    ///
    /// # Errors
    /// When it cannot be read or is wrong (exit 2), or `demo` fails.
    pub fn configuration(
        &self,
        demo: impl FnOnce() -> Result<SocketAddr, Fault>,
    ) -> Result<Config, Fault> {
        let Some(path) = self.file() else {
            let data_dir = self
                .data_dir
                .as_deref()
                .unwrap_or(Path::new(DEFAULT_DATA_DIR));
            return config::embedded(demo()?, data_dir).map_err(Fault::usage);
        };
        let mut config = config::read(&path)?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        // Who does not poll needs no token for it.
        let polls = match &self.command {
            Some(Command::Backfill(args)) => args.then_run,
            Some(Command::Run(_) | Command::Check) | None => true,
            Some(_) => false,
        };
        let checked = if polls {
            config::check(&config)
        } else {
            config::check_shape(&config)
        };
        checked.map_err(|fault| {
            let at = |line: &str| format!("{}: {line}", path.display());
            Fault::usage(fault.message.lines().map(at).collect::<Vec<_>>().join("\n"))
        })?;
        for warning in config::warnings(&config) {
            tracing::warn!("{}: {warning}", path.display());
        }
        Ok(config)
    }

    /// How the program is called with the same configuration, for texts that say what to call.
    #[must_use]
    pub fn call(&self) -> String {
        let mut call = "deltapoll".to_owned();
        if let Some(config) = &self.config {
            call.push_str(&format!(" --config {}", config.display()));
        }
        if let Some(data_dir) = &self.data_dir {
            call.push_str(&format!(" --data-dir {}", data_dir.display()));
        }
        call
    }
}

/// An address that nobody is asked at: for commands that do not poll.
#[must_use]
pub fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when the output is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log::init(cli.log_format, cli.log_level);
    match dispatch(cli) {
        Ok(code) => code,
        Err(fault) => {
            log::report(&fault);
            ExitCode::from(fault.exit as u8)
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Fault> {
    if let Some(Command::Simulate(args)) = cli.command {
        return simulate::run(args).map(|()| ExitCode::SUCCESS);
    }
    let (file, call, workers) = (cli.file(), cli.call(), usize::from(cli.workers));
    if matches!(cli.command, Some(Command::Run(_)) | None) {
        let demo = run::Demo::default();
        let config = cli.configuration(|| demo.start())?;
        let Command::Run(args) = cli.into_command() else {
            unreachable!("matched above")
        };
        return run::run(&config, &args, workers, &call);
    }
    if let Some(Command::Backfill(args)) = &cli.command {
        let (args, demo) = (args.clone(), run::Demo::default());
        let polls = args.then_run;
        let config = cli.configuration(|| if polls { demo.start() } else { Ok(nowhere()) })?;
        return backfill::run(&config, &args, workers, &call);
    }
    if matches!(cli.command, Some(Command::Check)) {
        let demo = run::Demo::default();
        let config = cli.configuration(|| demo.start())?;
        return check::run(&config, file.as_deref());
    }
    let config = cli.configuration(|| Ok(nowhere()))?;
    match cli.into_command() {
        Command::Tail(args) => tail::run(&config, &args),
        Command::State(args) => state::run(&config, &args),
        Command::Rebuild(args) => rebuild::run(&config, args),
        Command::Verify(args) => verify::run(&config, &args),
        Command::Run(_) | Command::Backfill(_) | Command::Check | Command::Simulate(_) => {
            unreachable!("done above")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(line: &str) -> Cli {
        let args = std::iter::once("deltapoll").chain(line.split_whitespace());
        Cli::read(args.map(OsString::from)).unwrap()
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_and_its_flags_go_before_or_after_its_name() {
        for line in [
            "--once --flush-archive",
            "run --once --flush-archive",
            "--once run --flush-archive",
        ] {
            let Command::Run(args) = cli(line).into_command() else {
                panic!("{line}")
            };
            assert_eq!(
                (args.rounds(), args.flush_archive),
                (Some(1), true),
                "{line}"
            );
        }
        let Command::Run(args) = cli("--rounds 3 run").into_command() else {
            panic!()
        };
        assert_eq!(args.rounds(), Some(3));
        let Command::Run(args) = cli("").into_command() else {
            panic!()
        };
        assert_eq!((args.rounds(), args.flush_archive), (None, false));
    }

    #[test]
    fn common_arguments_go_before_or_after_the_command() {
        for line in [
            "--config a.toml --workers 2 check",
            "check --workers 2 --config a.toml",
        ] {
            let cli = cli(line);
            assert_eq!(cli.workers, 2, "{line}");
            assert_eq!(cli.file(), Some("a.toml".into()), "{line}");
            assert_eq!(cli.call(), "deltapoll --config a.toml", "{line}");
        }
    }

    #[test]
    fn without_a_file_the_demo_lives_in_the_directory_that_is_asked_for() {
        let config = cli("--data-dir /x/y")
            .configuration(|| Ok(nowhere()))
            .unwrap();
        assert_eq!(config.name, config::embedded::NAME);
        assert_eq!(config.data_dir, Path::new("/x/y"));
        assert_eq!(config.archive.unwrap().url, "file:///x/y/archive");
    }

    #[test]
    fn the_directory_of_the_arguments_wins_over_that_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "name = \"n\"\ndata_dir = \"a\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\n";
        std::fs::write(file.path(), text).unwrap();
        let line = format!("--config {} --data-dir b", file.path().display());
        let config = cli(&line)
            .configuration(|| panic!("there is a file"))
            .unwrap();
        assert_eq!(config.data_dir, Path::new("b"));
    }
}

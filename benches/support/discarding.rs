//! The program that publishes nowhere: what is sealed counts as published, which the shipped program
//! cannot do.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use deltapoll::clock;
use deltapoll::run::Options;
use deltapoll::status::{Status, words};
use deltapoll::stop::Stop;
use deltapoll::{config, log, run};

/// Runs this configuration in this process.
pub fn run(file: &Path, workers: usize, rounds: u64) -> ExitCode {
    log::init(log::Format::Text, log::Level::Info);
    let options = Options {
        workers,
        rounds: Some(rounds),
        flush_archive: false,
        discard: true,
    };
    let run = || {
        let config = config::read(file)?;
        config::check(&config)?;
        let status: Arc<Status> = Status::new(&config);
        let ended = run::run(&config, options, None, &Stop::default(), &status)?;
        print!("{}", words::summary(&status, clock::unix_ms()));
        Ok(ended)
    };
    match run() {
        Ok(ended) if ended.good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(fault) => {
            log::report(&fault);
            ExitCode::FAILURE
        }
    }
}

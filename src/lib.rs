//! Deltapoll turns polled HTTP APIs into an exactly-once change stream: Kafka transactions and Avro
//! objects, cut at the same checkpoint.
//!
//! Layout, in reading order:
//!
//! * [`change`]: the vocabulary: keys, fingerprints, epochs, changes, batches.
//! * [`snapshot`]: what passes between asking and deciding.
//! * [`config`]: `deltapoll.toml`, plain data, checked once.
//! * [`run`]: a run, from the configuration to the last word.
//! * [`backfill`]: stored snapshots instead of polls.
//! * [`directory`], [`identity`], [`rules`], [`reserve`], [`scratch`]: what the local directory
//!   holds and knows.
//! * [`ledger`]: the journal's own thread.
//! * [`dataflow`]: the graph: poll, dedup, journal, remember, publish, archive, retire.
//! * [`follower`]: what must learn of every sealed batch, and how.
//! * [`io`]: everything outside the program.
//! * [`republish`], [`reset`]: `state republish` and `state reset`.
//! * [`rebuild`]: a directory, or its state alone, made again from what was published.
//! * [`verify`]: whether topic, archive and state agree.
//! * [`sinks`]: which followers a configuration asks for.
//! * [`sim`]: the simulated league API.
//! * [`cli`]: the command line.
//! * [`kept`]: memory that is used again; `memory`: the allocator.
//! * [`clock`], [`fault`], [`log`], [`mirror`], [`phases`], [`signals`], [`status`], [`stop`]: time, why
//!   and how the program stops, and what a person sees of it.

pub mod backfill;
pub mod change;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dataflow;
pub mod directory;
pub mod fault;
pub mod follower;
pub mod identity;
pub mod io;
pub mod kept;
pub mod ledger;
pub mod log;
mod memory;
pub mod mirror;
pub mod phases;
pub mod rebuild;
pub mod republish;
pub mod reserve;
pub mod reset;
pub mod rules;
pub mod run;
pub mod scratch;
pub mod signals;
pub mod sim;
pub mod sinks;
pub mod snapshot;
pub mod status;
pub mod stop;
pub mod verify;

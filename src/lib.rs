//! Deltapoll turns polled HTTP APIs into an exactly-once change stream: Kafka transactions and Avro
//! objects, cut at the same checkpoint.
//!
//! Layout, in reading order:
//!
//! * [`change`]: the vocabulary: keys, fingerprints, epochs, changes, batches.
//! * [`clock`]: the only place that asks what time it is.
//! * [`config`]: `deltapoll.toml`, plain data, checked once.
//! * [`fault`]: why the program stops, and with which exit code.
//! * [`follower`]: what must learn of every sealed batch, and how.
//! * [`io`]: everything about the world outside.

pub mod change;
pub mod clock;
pub mod config;
pub mod fault;
pub mod follower;
pub mod io;

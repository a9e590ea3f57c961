//! What is promised, shown on the real parts: Apache Kafka, HTTP, the object-store protocol; what was
//! committed is read back by readers that have nothing of deltapoll in them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

/// The broker, the simulated API, the program as a process, the object server, the readers.
mod support;

/// Faults of the archive's store, in a bucket and in a directory.
mod archive_faults;
/// Stored snapshots instead of polls.
mod backfill;
/// Faults of the API's answers.
mod bad_http;
/// Wrong configurations and arguments, and what each is told.
mod bad_input;
/// The pipeline on a cluster whose brokers die, hang, and lose what they answer.
mod brokers;
/// The process ends at each durable step, and goes on.
#[cfg(feature = "fail-points")]
mod crash;
/// The README and the examples are true.
mod documents;
/// Who may write to Kafka: starts, fences, takeovers, stale copies.
mod fences;
/// Configurations and progress records, mutated.
mod fuzz;
/// The Kafka publisher on a real broker: order, sizes, permanent causes, transactions.
mod kafka;
/// The local topic log: commits, crashes, retention, tail.
mod local;
/// What others do under a running pipeline: copies, topics, the progress topic.
mod meddling;
/// The object server behaves as object_store expects of GCS.
mod objects;
/// Lists that are odd, each taken at its word.
mod odd_lists;
/// The whole pipeline against served versions: workers, cells, kills.
mod pipeline;
/// What a user sees: the demo, refusals, messages.
mod program;
/// The readers find planted errors.
mod readers;
/// A lost directory and a lost state made again; inspect and export.
mod rebuild;
/// No secret is ever written anywhere.
mod secrets;
/// Check, republish and reset between real runs.
mod state;
/// Topics and the progress topic as the directory knows them: lost, made again, raised, lowered.
mod topics;
/// `verify` on sound pipelines, and on planted disagreements.
mod verify;

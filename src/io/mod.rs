//! Everything about the world outside: no timely type comes in here.
//!
//! Layout, in reading order:
//!
//! * [`lineage`]: the identity of a directory's history.
//! * [`feed`]: a publisher's cursor over the sealed batches.
//! * [`kafka`]: transactions, progress, topics.
//! * [`local`]: the embedded topic log, used without Kafka.
//! * [`line`]: one committed change as one line of JSON.

pub mod feed;
pub mod kafka;
pub mod line;
pub mod lineage;
pub mod local;

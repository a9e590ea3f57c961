//! Everything outside the program: its bytes and its protocols. No timely type is named here.
//!
//! Layout, in reading order:
//!
//! * [`http`]: everything about asking.
//! * [`json`]: JSON from the network, read without a tree.
//! * [`lineage`]: the identity of a directory's history.
//! * [`feed`]: a publisher's cursor over the sealed batches.
//! * [`published`]: a change as a reader of committed records sees it.
//! * [`kafka`]: transactions, progress, topics.
//! * [`local`]: the embedded topic log, used without Kafka.
//! * [`committed`]: a committed record as it is read back.
//! * [`mod@line`]: one committed change as one line of JSON.
//! * [`avro`]: records, digests and object container files, byte for byte reproducible.
//! * [`object`]: object stores by URL, with verbs that never overwrite.
//! * [`archive`]: the follower that writes Avro objects, each change once.

pub mod archive;
pub mod avro;
pub(crate) mod committed;
pub(crate) mod feed;
pub mod http;
pub mod json;
pub mod kafka;
pub mod line;
pub mod lineage;
pub mod local;
pub mod object;
pub mod published;

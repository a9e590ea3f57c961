//! The outside world: no timely type below this module.
//!
//! Layout, in reading order:
//!
//! * [`avro`]: records, digests and object container files, byte for byte reproducible.
//! * [`object`]: object stores by URL, with verbs that never overwrite.
//! * [`archive`]: the follower that writes Avro objects, each change once.

pub mod archive;
pub mod avro;
pub mod object;

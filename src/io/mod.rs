//! Everything outside the program: its bytes and its protocols. No timely type is named here.
//!
//! Layout, in reading order:
//!
//! * [`json`]: JSON from the network, read without a tree.
//! * [`avro`]: records, digests and object container files, byte for byte reproducible.
//! * [`object`]: object stores by URL, with verbs that never overwrite.
//! * [`archive`]: the follower that writes Avro objects, each change once.

pub mod archive;
pub mod avro;
pub mod json;
pub mod object;

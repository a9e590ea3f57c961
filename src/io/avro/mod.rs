//! Avro as the archive writes it: one record schema, object container files of our own making, and
//! the digest that tells whether two ranges of changes are the same.
//!
//! Layout, in reading order:
//!
//! * [`schema`]: the record, its schema, its binary form.
//! * [`digest`]: the digest of a range of changes, independent of schema and codec (R25).
//! * [`container`]: object container files: the blocks as they grow, the header at the end of it.
//! * [`header`]: what the first bytes of an object say about it.
//! * [`read`]: the changes in an object.

pub mod container;
pub mod digest;
pub mod header;
pub mod read;
pub mod schema;

//! The embedded topic log: what is used without Kafka (R34).
//!
//! Under `<data_dir>/topics`: `<topic>/<p>.ndjson` is a partition's live segment, older ones are
//! `<p>.<first offset>.ndjson`; each line is
//! `{"offset","key","value","change","epoch","seq","polled_at"}`. `@commit.json` ('@' is in no topic's
//! name) says what is committed: the seq, and for each partition how much of its live segment.
//!
//! Safety:
//! * Lines are written and synced first, then the commit record: written aside, synced, renamed over
//!   the old one, directory synced. Whoever reads never goes past it, and needs no lock.
//! * After a crash what lies beyond the commit record is cut off.
//!
//! Layout, in reading order:
//!
//! * [`commit`]: the commit record.
//! * [`segment`]: a partition's files: names, live one, rolling.
//! * [`publisher`]: the follower.
//! * `lines`: the committed lines of a partition.
//! * [`records`]: every committed record; `spans`: the same by partition, for who compares.
//! * [`mod@tail`]: committed changes as lines.

pub mod commit;
mod lines;
pub mod publisher;
pub mod records;
mod segment;
pub(crate) mod spans;
mod tail;

pub use publisher::{LocalPublisher, Setup};
pub use tail::tail;

//! Kafka: transactions of whole epochs, each with the progress record that proves them.
//!
//! Safety, in short: one transactional producer per name, so Kafka lets one instance write; every
//! transaction carries a progress record, so what is committed and how far we are cannot differ; the
//! progress record names who wrote it, so a stale copy of the directory, or a takeover, shows before
//! anything is committed twice. The rules are R17-R23 of `PROTOCOL.md`.
//!
//! Layout, in reading order:
//!
//! * [`murmur2`]: which partition a key belongs to.
//! * [`settings`]: every option that we set, with its reason.
//! * [`context`]: what librdkafka tells us on the side: logs, errors, delivery reports.
//! * [`error`]: what an error asks for: again, over, or stop.
//! * [`admin`], [`describe`]: questions about the cluster, in bounded time.
//! * [`look`]: the same questions, for commands that do not publish.
//! * [`topics`]: topics as the directory knows them, and as they are.
//! * [`incarnation`]: which starts of which directory may have written a progress record.
//! * [`progress`]: the progress record, and reading it.
//! * [`topic_handle`]: many records handed over in one call.
//! * [`session`]: one producer's life: transactions until the first error it cannot take.
//! * [`publisher`]: the follower.
//! * [`records`]: every committed record up to a mark; `spans`: the same by partition, for who compares.
//! * [`mod@tail`]: committed changes as lines.
//!
//! Fail points, in the order in which a start and its transactions reach them:
//!
//! * `kafka.topic.made`: a topic that was missing is there, the journal does not know it yet.
//! * `kafka.progress.read`: progress was read, nothing is fenced; and again after the fence.
//! * `kafka.fencing.marked`: the journal says that this incarnation may be in Kafka.
//! * `kafka.init.before`, `kafka.init.after`: around `init_transactions`, which fences and aborts.
//! * `kafka.begin`: a transaction is begun, which is a local step.
//! * `kafka.produce`: its first records are handed over (of the first transaction, the progress record).
//! * `kafka.progress`: the progress record is handed over, the last.
//! * `kafka.commit.before`: everything is delivered, the transaction is open at the brokers.
//! * `kafka.commit.sent`: the request to commit is on its way, nobody has seen the answer.
//! * `kafka.commit.after`: the commit is answered, nobody was told.

pub mod admin;
mod context;
mod describe;
mod error;
pub mod incarnation;
mod link;
pub mod look;
pub mod metrics;
pub mod murmur2;
pub mod progress;
pub mod publisher;
pub mod records;
mod session;
pub mod settings;
pub(crate) mod spans;
mod tail;
mod topic_handle;
pub mod topics;

pub use metrics::Metrics;
pub use murmur2::partition_of;
pub use publisher::{KafkaPublisher, OPEN_MAX, Setup};
pub use tail::tail;
pub use topics::{TopicPlan, prepare};

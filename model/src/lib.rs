//! A model of Deltapoll's protocol, every state of which is looked at, within small bounds.
//!
//! One directory or two, each with a process that may be killed at any moment, a broker, a bucket. Steps
//! of all of them interleave in every order; answers are lost, requests arrive late, transactions expire,
//! power is cut, directories are copied, lost, rebuilt, damaged. In each state the promises of
//! [`properties`] must hold, and where nothing is left to do, everything must have been done. Rules can
//! be broken ([`Broken`]), and then the check finds how a promise breaks with them.
//!
//! ```text
//! cargo test -p deltapoll-model                                     the small bounds, and every broken rule
//! cargo test -p deltapoll-model --test rules -- --nocapture         the schedules that broken rules allow
//! DELTAPOLL_MODEL=large cargo test -p deltapoll-model -- --nocapture   larger bounds: minutes, gigabytes
//! ```
//!
//! # Layout, in reading order
//!
//! * [`state`]: what there is, and the ghosts that only properties see.
//! * [`action`]: what may happen next.
//! * `process`, `journal`, `broker`, `bucket`, `rebuild`, `faults`: how it happens.
//! * [`properties`]: what must hold.
//! * [`bounds`], [`scenario`]: how far it goes, and which rule does not hold.
//! * [`check`]: looks at every state.
//!
//! The checker is our own, of a few dozen lines: stateright's newest release (0.31) brings a web server
//! and its other dependencies without a feature to leave them out, and what it offers beyond a breadth
//! first search (actors, networks, parallel search, an explorer) is not needed here. In return a check is
//! the same each time, and the crate depends on nothing.
//!
//! # The model and the program
//!
//! | action | rules | in the program |
//! |---|---|---|
//! | `Open` | R13, R14, R16, R12 (cut) | `state/src/journal/recover.rs`; `src/directory.rs` (`positions`, `pages`) |
//! | `Begin` | R17, R28 | `src/io/kafka/incarnation.rs` (`open`); `src/dataflow/replay.rs` |
//! | `Poll` | R1, R9, R12 | `src/dataflow/dedup/decide.rs`, `journal.rs`; `state/src/journal/mod.rs` (`append`) |
//! | `Sync`, `SyncFails` | R12, R15 | `src/ledger.rs` (`Writer::run`); `state/src/journal/mod.rs` (`sync`) |
//! | `WritePages`, `Flush` | R27 | `src/dataflow/remember.rs`; `state/src/range_state.rs` (`write`) |
//! | `Retire` | R14, R30 | `src/dataflow/retire.rs`; `src/ledger.rs` (`Command::Retire`) |
//! | `ReadProgress`, `MarkFencing`, `Init`, `ReadAgain` | R17, R18, R19 | `src/io/kafka/publisher.rs` (`open`, `judge`) |
//! | `Produce`, `Commit` | R21, R19 | `src/io/kafka/publisher.rs` (`transact`, `advance`), `session.rs` |
//! | `Stop`, `End` | R31, R24 | `src/io/kafka/publisher.rs` (`Error::Stopped`); `src/run.rs` (`wait_for_end`) |
//! | `Put`, `RecordArchived` | R24, R25 | `src/io/archive/place.rs`, `lane.rs`, `mod.rs`, `ledger.rs` |
//! | `RebuildRecord`, `RebuildTopic`, `RebuildFinish` | R35 | `state/src/journal/mod.rs` (`found`); the rest by its rule |
//! | `ProduceUnanswered`, `CommitUnanswered`, `CommitLate`, `LateCommit`, `LateRecord`, `Expire` | R19 | what Kafka and the network do |
//! | `PutLate`, `LatePut` | R25 | what the store and the network do |
//! | `Kill`, `PowerCut`, `Copy`, `LoseDisk`, `Rot`, `Mix` | R13, R14, R16, R17 | what happens to machines and files |
//!
//! # What is left out, or is one step
//!
//! * A batch has one change, there is one topic-partition, one cell with two keys, each owned by a worker
//!   of its own. A world is seen whole; completeness (R3-R8), fingerprints (R10) and flow (R29) are
//!   not here; of validators (R9) only that they are sealed with what they describe.
//! * A control frame and its fsync are one step: nothing happens in between that anybody sees. What is
//!   lazy rides with the next fsync, or is lost.
//! * A frame is a batch. Of what is not synced a kill leaves any beginning, a power cut any beginning or a
//!   torn frame with valid ones after it. A durable frame goes bad only where a later frame shows that it
//!   was durable: of the very last ones nobody could know (R13).
//! * A segment ends where the journal is retired. What a segment's header repeats is never apart from it.
//! * The archive reads the journal when it puts; in the program what waits is in memory.
//! * A transaction is one step of producing and one of committing, since whatever happens to a part of it
//!   happens to all. An expired transaction and a fence look the same, as in librdkafka.
//! * Exit 3 after two fences before the first commit (three in the program) is no refusal: both processes
//!   may be in the right, and somebody starts one of them again.
//! * A copy of a directory is taken in one moment. Where its parts are from different moments, `Mix` says
//!   so. What came of a directory that was put together like that may be refused.
//! * There is no `state reset`, no `state republish`, no local topic log.
//!
//! # What it found
//!
//! Two things, both mended since; as the program had them they are rules to break:
//!
//! * [`Broken::R16PagesAhead`]. Pages were written, and only then the store said at which position it is.
//!   The state of a directory that is put under an older copy of its journal in between was not refused:
//!   it holds values that this journal never sealed, and nobody will publish them. Now a worker says
//!   *before* it writes up to which epoch it may write, as [`state::Pages::begun`] does.
//! * [`Broken::R24BeforeStart`]. A process that is stopped before Kafka answers tells the archive the
//!   position that the journal remembers. That may be older than what its predecessor published and
//!   archived; the archive then met its own object, which ends above that position, and took it for
//!   somebody else's. The model tells the archive nothing before progress is read; the program leaves an
//!   object that holds exactly its own changes to a start that knows more.

pub mod action;
pub mod bounds;
mod broker;
mod bucket;
pub mod check;
mod faults;
mod journal;
mod list;
mod process;
pub mod properties;
mod rebuild;
pub mod scenario;
pub mod state;

pub use bounds::{Bounds, Broken};

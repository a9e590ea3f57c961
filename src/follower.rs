//! Followers: what must learn of every sealed batch.
//!
//! A follower works off the timely worker thread, on a thread of its own, reads the journal itself,
//! and is idempotent: after a restart it goes on after its position.

use std::time::Instant;

use crate::change::{Epoch, Seq};
use crate::fault::Fault;

/// Something that brings sealed batches, in order, to where they belong.
///
/// `publish` has two: the Kafka producer and the local topic log; `archive` writes objects.
pub trait Follower: Send {
    /// Works off the journal up to `upto` (a seq that is sealed and ends an epoch; for `archive`: one
    /// that is published) and returns its position: the last seq that it has made durable. Blocks,
    /// with retries, until it can; a position below `upto` means that the rest waits on purpose (an
    /// object that is not full yet), one beyond it that epochs sealed meanwhile came along: whole ones, unless the follower was
    /// stopped.
    ///
    /// # Errors
    /// A [`Fault`] ends the program.
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault>;

    /// Like [`Follower::advance`], for the last time: nothing is sealed after `upto`.
    ///
    /// # Errors
    /// A [`Fault`] ends the program.
    fn close(&mut self, upto: Seq) -> Result<Seq, Fault> {
        self.advance(upto)
    }

    /// When `advance` wants to be called again although nothing new was sealed (an object that must
    /// roll by its age); `None`: not before there is something new.
    fn due(&self) -> Option<Instant> {
        None
    }
}

/// The journal's small facts as a follower sees them: it writes control frames, and reads what it
/// wrote before the restart. Values are JSON text.
pub trait Facts: Send + Sync {
    /// The fact `name`, if it was ever written and not removed since.
    fn get(&self, name: &str) -> Option<String>;

    /// Every fact whose name starts with `prefix`, in order of name.
    fn under(&self, prefix: &str) -> Vec<(String, String)>;

    /// Writes facts (`None` removes) in one control frame. When this returns they are visible to
    /// `get`; with `sync` they are durable too.
    ///
    /// # Errors
    /// A failed write or fsync ends the program (R15).
    fn set(&self, facts: Vec<(String, Option<String>)>, sync: bool) -> Result<(), Fault>;
}

/// A sealed batch as a follower reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// The batch's number.
    pub seq: Seq,
    /// The epoch that it belongs to.
    pub epoch: Epoch,
    /// Whether it is the last of its epoch.
    pub last: bool,
    /// The encoded batch; see [`crate::change::Batch::read`].
    pub body: Vec<u8>,
}

/// A cursor over the sealed batches of the journal.
pub trait Log: Send {
    /// The next sealed batch; `None`: nothing more is sealed at the moment (call again later).
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault>;
}

/// Opens cursors over the journal.
pub trait Logs: Send + Sync {
    /// A cursor whose first batch is the one after `position`.
    ///
    /// # Errors
    /// When the journal no longer holds it.
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault>;
}

//! Puts an object where it belongs, exactly once, and judges by content what is already there (R25).
//!
//! Steps: one conditional PUT. Created: done. Already there, or an ambiguous answer: read the header
//! of what is there. Nothing: PUT again. Our lineage, our `first`, an end that is published, and the
//! digest of *our* changes over *its* range: it is ours, and its range is what counts. All of that but
//! an end that is not known as published: ours too, left for a start that knows. Anything else is a
//! conflict, which stops the program.
//!
//! Retries: as long as it takes, with back-off, refused requests included, because publishing must go
//! on meanwhile and somebody may repair the bucket's rights under a running program; the log tells
//! each change of that state once.
//!
//! Safety: nothing is overwritten and no change is lost or archived twice, because
//! * the PUT is conditional, so that a name gets its content once, whoever sends it and however late
//!   a request of an earlier attempt or process arrives;
//! * names follow from `first`, and the next name is used only when the range of this one is settled;
//! * an object is taken for ours only if it holds exactly the changes that the journal has for its
//!   range: bit for bit what we would have written there, but for the cut and the compression.

use std::sync::Arc;
use std::time::Duration;

use deltapoll_state::fail;

use crate::change::Seq;
use crate::fault::Fault;
use crate::follower::Logs;
use crate::io::avro::digest::Digester;
use crate::io::avro::header::{HEADER_BYTES_MAX, Header};
use crate::io::object::{Kind, Objects, Put, Trouble};

use super::lane::Object;
use super::reading;
use super::settings::{Control, Health, Metrics, Time};

const CONTENT_TYPE: &str = "avro/binary";
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Long enough to spare a store in trouble, short enough to notice its return.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a stop may go unnoticed while pausing.
const PAUSE_SLICE: Duration = Duration::from_millis(100);

/// Everything that it takes to put an object.
pub struct Placer {
    pub objects: Arc<Objects>,
    pub logs: Arc<dyn Logs>,
    pub control: Arc<Control>,
    pub metrics: Arc<Metrics>,
    pub time: Arc<dyn Time>,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The changes up to index `last`, which end with batch `seq`, are in an object.
    Until {
        /// Index of the last change, inclusive.
        last: u64,
        /// Its batch.
        seq: Seq,
    },
    /// Stopped before it was known.
    Stopped,
}

impl Placer {
    /// Puts `object`; all batches up to `published` are published.
    ///
    /// # Errors
    /// On a conflict (exit 4), or when the store can never take the object.
    pub fn place(&self, object: &Object, published: Seq) -> Result<Placed, Fault> {
        let mut pause = PAUSE_MIN;
        loop {
            let payload = object.payload.clone();
            fail::step("archive.put.before");
            let put = self.objects.create(&object.name, payload, CONTENT_TYPE);
            fail::step("archive.put.after");
            match put {
                Put::Created => {
                    self.healthy();
                    return Ok(self.settled(object, &object.header));
                }
                Put::Failed(trouble) => return Err(self.impossible(&object.name, &trouble)),
                Put::Ambiguous(trouble) => self.unhealthy(&trouble),
                Put::Exists => {}
            }
            match self.found(&object.name) {
                Ok(Some(bytes)) => {
                    fail::step("archive.header.read");
                    self.healthy();
                    return self.judge(object, published, &bytes);
                }
                Ok(None) => {}
                Err(trouble) if trouble.kind == Kind::Permanent => {
                    return Err(self.impossible(&object.name, &trouble));
                }
                Err(trouble) => self.unhealthy(&trouble),
            }
            if !self.pause(&mut pause) {
                return Ok(Placed::Stopped);
            }
        }
    }

    /// Repeats `request` until it is answered; `None`: stopped.
    ///
    /// # Errors
    /// When it can never be answered.
    pub fn insist<T>(
        &self,
        what: &str,
        mut request: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<Option<T>, Fault> {
        let mut pause = PAUSE_MIN;
        loop {
            match request() {
                Ok(answer) => {
                    self.healthy();
                    return Ok(Some(answer));
                }
                Err(trouble) if trouble.kind == Kind::Permanent => {
                    return Err(self.impossible(what, &trouble));
                }
                Err(trouble) => self.unhealthy(&trouble),
            }
            if !self.pause(&mut pause) {
                return Ok(None);
            }
        }
    }

    fn found(&self, name: &str) -> Result<Option<bytes::Bytes>, Trouble> {
        self.objects.head_header(name, HEADER_BYTES_MAX as u64)
    }

    fn judge(&self, object: &Object, published: Seq, bytes: &[u8]) -> Result<Placed, Fault> {
        let theirs = Header::read(bytes).map_err(|reason| self.conflict(object, &reason))?;
        let ours = &object.header;
        if fail::broken("r25") {
            return Ok(self.settled(object, &theirs));
        }
        if theirs.lineage != ours.lineage {
            let reason = format!(
                "it belongs to another directory (lineage {})",
                theirs.lineage
            );
            return Err(self.conflict(object, &reason));
        }
        if theirs.first != ours.first {
            let reason = format!("it says that it begins with change {}", theirs.first);
            return Err(self.conflict(object, &reason));
        }
        if theirs.seq_last > published {
            // A process that is stopped before Kafka answers knows of less that is published than the
            // one before it, which archived this. With exactly our changes it is ours: a start that
            // knows more goes on after it.
            if self.holds_our_changes(object, &theirs)? {
                return Ok(Placed::Stopped);
            }
            let reason = format!(
                "it ends with batch {}, but only batches up to {published} are published",
                theirs.seq_last
            );
            return Err(self.conflict(object, &reason));
        }
        if theirs != *ours && !self.holds_our_changes(object, &theirs)? {
            let reason = format!("its changes {}-{} are not ours", theirs.first, theirs.last);
            return Err(self.conflict(object, &reason));
        }
        // IMPORTANT: of a local file that a killed PUT left, the name may be in memory only; were the
        // journal to forget its changes, a power cut would lose them.
        self.objects
            .settle(&object.name)
            .map_err(|trouble| self.impossible(&object.name, &trouble))?;
        Ok(self.settled(object, &theirs))
    }

    /// Whether the journal has, for the range of `theirs`, the changes that `theirs` states.
    fn holds_our_changes(&self, object: &Object, theirs: &Header) -> Result<bool, Fault> {
        let from = object.header.seq_first;
        if theirs.seq_first != from {
            return Ok(false);
        }
        let mut digester = Digester::default();
        let mut records = 0;
        let mut log = self.logs.after(Seq(from.0 - 1))?;
        let mut read = Seq(from.0 - 1);
        while read < theirs.seq_last {
            let Some(batch) = log.next()? else {
                return Ok(false);
            };
            read = batch.seq;
            reading::each(&batch, |topic, at, change| {
                if topic == object.topic && change.partition == object.partition {
                    digester.push(&at.record(change)?);
                    records += 1;
                }
                Ok(())
            })?;
        }
        Ok(records == theirs.records() && digester.digest() == theirs.digest)
    }

    fn settled(&self, object: &Object, header: &Header) -> Placed {
        let bytes = object.payload.content_length() as u64;
        self.metrics
            .count(header.records(), bytes, self.time.unix_ms());
        Placed::Until {
            last: header.last,
            seq: header.seq_last,
        }
    }

    fn conflict(&self, object: &Object, reason: &str) -> Fault {
        Fault::directory(format!(
            "the archive object {}/{} is not this directory's: {reason}; nothing was overwritten; \
             find out who writes there, move that object away and start again, or begin a new history: \
             `deltapoll state reset` and another prefix in archive.url",
            self.objects.url(),
            object.name
        ))
    }

    fn impossible(&self, name: &str, trouble: &Trouble) -> Fault {
        Fault::failed(format!(
            "cannot archive {}/{name}: {trouble}",
            self.objects.url()
        ))
    }

    fn healthy(&self) {
        if self.metrics.set_health(Health::Good) != Health::Good {
            tracing::info!(
                url = self.objects.url(),
                "the archive's store answers again"
            );
        }
    }

    fn unhealthy(&self, trouble: &Trouble) {
        let url = self.objects.url();
        let health = match trouble.kind {
            Kind::Refused => Health::Refused,
            Kind::Transient | Kind::Permanent => Health::Unreachable,
        };
        if self.metrics.set_health(health) == health {
            return;
        }
        if health == Health::Refused {
            tracing::warn!(
                url,
                "the archive's store refuses us: {trouble}; check credentials, rights and bucket; \
                 publishing goes on and the journal keeps what waits"
            );
        } else {
            tracing::warn!(url, "the archive's store fails: {trouble}; retrying");
        }
    }

    /// Waits, longer each time; false: stopped.
    fn pause(&self, pause: &mut Duration) -> bool {
        let mut left = *pause;
        *pause = (*pause * 2).min(PAUSE_MAX);
        while !left.is_zero() {
            if self.control.is_stopped() {
                return false;
            }
            let slice = left.min(PAUSE_SLICE);
            self.time.pause(slice);
            left -= slice;
        }
        !self.control.is_stopped()
    }
}

//! The journal: the commit point, and the one durable place for every small fact.
//!
//! An epoch is sealed when the fsync after its last frame has returned; before that no reader sees
//! any of it (R12). Bodies of batches are opaque here.
//!
//! * `frame`: batches and control frames; `facts`: what control frames say.
//! * `segment`: the files that frames are in, and how one comes to be (R14).
//! * `cursor`: reads the frames of a segment; `reader`: reads sealed batches across segments.
//! * `recover`: what an open makes of the files it finds (R13, R14).
//! * `look`: the same without writing anything, for who only wants to know.
//! * `disk`: every access to the file system.
//!
//! Fail points, in order, of an open: `journal.open.synced` (the directory), `journal.open.temporary` (a
//! left-over file is removed, once for each), `journal.open.surveyed` (it is known what is kept); of
//! every new segment:
//! `journal.segment.created`, `.written`, `.synced`, `.renamed`, `.published` (the directory is synced);
//! of what is appended: `journal.batch`, `journal.control`, `journal.write.before`, `.after`,
//! `journal.sync.before`, `.after`, `journal.sealed` (readers see it); of each segment that is retired:
//! `journal.retire.before`, `.removed`, `.synced`.
//!
//! Errors: after a failed write or fsync the cache may lie about what is in the file, so the journal
//! gives that error to every later call and the process ends; the next open sorts it out (R15).

mod cursor;
mod disk;
mod facts;
mod frame;
mod look;
mod reader;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use self::facts::{FactChange, Facts};
pub use self::look::Look;
pub use self::reader::{Frame, Reader, Readers};

use self::disk::{Dir, Disk, System};
use self::frame::{Head, Kind};
use self::reader::{Segment, View};
use self::recover::State;
use self::segment::{Header, Spare, Start, Writer};
use crate::error::Error;
use crate::fail;
use crate::word::{Epoch, Seq};

/// Settings of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment that is longer ends with the next sync between two epochs. Larger: fewer files;
    /// smaller: disk is given back sooner, since only whole segments are retired.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
        }
    }
}

/// The end of what is sealed; zeros: nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// The last sealed batch, which ends an epoch.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
}

/// The journal of a directory, open for writing; there is one.
#[derive(Debug)]
pub struct Journal {
    dir: Dir,
    options: Options,
    writer: Writer,
    state: State,
    /// The end of the last complete epoch or control frame.
    complete: u64,
    /// The last complete epoch, sealed or not.
    ended: Sealed,
    readers: Readers,
    /// What the next segment is written over.
    spare: Option<Spare>,
    syncs: u64,
    failed: Option<Error>,
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it is not there, and starts a new segment.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Missing`] or [`Error::Version`] when what had been durable cannot
    /// be read.
    pub fn open(dir: &Path, options: Options) -> Result<Journal, Error> {
        Journal::open_on(Arc::new(System), dir, options)
    }

    fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Journal, Error> {
        let start = Start {
            next: Seq(1),
            ..Start::default()
        };
        Journal::open_or(Dir::open(disk, dir)?, options, start)
    }

    /// Makes a journal in `dir` that goes on after `sealed` with these facts (R35).
    ///
    /// # Errors
    /// When `dir` holds a journal already ([`Error::Exists`]), or cannot be written.
    pub fn found(
        dir: &Path,
        options: Options,
        sealed: Sealed,
        facts: Facts,
    ) -> Result<Journal, Error> {
        let dir = Dir::open(Arc::new(System), dir)?;
        if !segment::numbers(&dir)?.is_empty() {
            return Err(Error::Exists {
                path: dir.path().to_owned(),
            });
        }
        let start = Start {
            next: sealed.seq.next(),
            epoch: sealed.epoch,
            facts,
        };
        Journal::open_or(dir, options, start)
    }

    fn open_or(dir: Dir, options: Options, start: Start) -> Result<Journal, Error> {
        // IMPORTANT: a process that died may have named a segment in the cache only: a successor must not
        // outlive it, which is a gap after a power cut.
        dir.sync()?;
        fail::step("journal.open.synced");
        segment::sweep(&dir)?;
        let mut chain = recover::chain(&dir)?;
        let (state, writer) = match chain.last_mut() {
            Some(last) => recover::succeed(&dir, last)?,
            None => recover::found(&dir, start)?,
        };
        let mut segments: Vec<Segment> = chain.into_iter().map(closed).collect();
        segments.push(current(&writer));
        let ended = Sealed {
            seq: Seq(state.start.next.0 - 1),
            epoch: state.start.epoch,
        };
        let view = View {
            segments: segments.into(),
            limit: writer.end(),
            sealed: ended,
        };
        Ok(Journal {
            options,
            complete: writer.end(),
            writer,
            state,
            ended,
            readers: Readers::new(dir.clone(), view),
            dir,
            spare: None,
            syncs: 1,
            failed: None,
        })
    }

    /// Appends a batch of `epoch`; `end` marks the last one of it and carries the facts that change
    /// with it. It is durable, and visible to readers, after the next [`Journal::sync`].
    ///
    /// # Errors
    /// A failed write; every later call then fails too (R15).
    ///
    /// # Panics
    /// When epochs do not increase, or another epoch has not ended.
    pub fn append(
        &mut self,
        epoch: Epoch,
        body: &[u8],
        end: Option<&[FactChange]>,
    ) -> Result<Seq, Error> {
        match self.state.open {
            Some(open) => assert!(
                epoch == open || fail::broken("r12"),
                "the frames of an epoch are contiguous"
            ),
            None => assert!(epoch > self.state.start.epoch, "epochs increase: {epoch}"),
        }
        let seq = self.state.start.next;
        let kind = if end.is_some() {
            Kind::Last
        } else {
            Kind::Batch
        };
        self.push(kind, seq, epoch, body, end.unwrap_or_default())?;
        self.state.start.next = seq.next();
        self.state.start.epoch = epoch;
        self.state.open = end.is_none().then_some(epoch);
        if end.is_some() {
            self.complete = self.writer.end();
            self.ended = Sealed { seq, epoch };
        }
        fail::step("journal.batch");
        if fail::broken("r12") {
            self.attempt(|journal| journal.writer.write())?;
            self.show();
        }
        Ok(seq)
    }

    /// Changes facts, between two epochs: visible in [`Journal::facts`] at once, durable after the
    /// next [`Journal::sync`].
    ///
    /// # Errors
    /// A failed write; every later call then fails too (R15).
    ///
    /// # Panics
    /// When an epoch has begun and not ended.
    pub fn record(&mut self, facts: &[FactChange]) -> Result<(), Error> {
        assert_eq!(self.state.open, None, "control frames go between epochs");
        self.push(Kind::Control, Seq(0), Epoch(0), &[], facts)?;
        self.complete = self.writer.end();
        fail::step("journal.control");
        Ok(())
    }

    fn push(
        &mut self,
        kind: Kind,
        seq: Seq,
        epoch: Epoch,
        body: &[u8],
        changes: &[FactChange],
    ) -> Result<(), Error> {
        let pairs = changes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        let encoded = facts::encode(pairs);
        let head = Head {
            kind,
            seq,
            epoch,
            synced: 0,
        };
        self.attempt(|journal| journal.writer.push(head, body, &encoded))?;
        facts::apply(&mut self.state.start.facts, changes.iter().cloned());
        Ok(())
    }

    /// Makes what was appended durable, if anything was since the last call: the epochs that are
    /// complete are then sealed, and readers see them. Starts a new segment where one is due.
    ///
    /// # Errors
    /// A failed write or fsync; every later call then fails too (R15).
    pub fn sync(&mut self) -> Result<Sealed, Error> {
        self.attempt(|journal| {
            journal.seal()?;
            if journal.writer.end() > journal.options.segment_bytes && journal.state.open.is_none()
            {
                journal.start_segment()?;
            }
            Ok(journal.sealed())
        })
    }

    fn seal(&mut self) -> Result<(), Error> {
        if self.writer.dirty() {
            self.writer.sync()?;
            self.syncs += 1;
        }
        // IMPORTANT: only after the fsync, or a follower publishes what a power cut takes back.
        self.show();
        fail::step("journal.sealed");
        Ok(())
    }

    /// Lets readers see what is complete.
    fn show(&self) {
        let mut view = self.readers.view();
        view.limit = self.complete;
        view.sealed = self.ended;
    }

    /// For who needs the disk: ends the current segment, if there is anything in it, and starts the next, so
    /// that [`Journal::retire`] may take it away; syncs first. What was kept to be written over is given
    /// back, and what is left of it behind the current segment.
    ///
    /// # Errors
    /// A failed write or fsync; every later call then fails too (R15).
    ///
    /// # Panics
    /// When an epoch has begun and not ended.
    pub fn roll(&mut self) -> Result<(), Error> {
        assert_eq!(self.state.open, None, "segments end between epochs");
        self.attempt(|journal| {
            journal.seal()?;
            if let Some(spare) = journal.spare.take() {
                spare.remove(&journal.dir)?;
            }
            journal.writer.shorten()?;
            if journal.writer.end() > journal.writer.frames_at() {
                journal.start_segment()?;
            }
            Ok(())
        })
    }

    fn start_segment(&mut self) -> Result<(), Error> {
        let end = self.writer.end();
        let header = Header {
            number: self.writer.number() + 1,
            predecessor: self.writer.number(),
            predecessor_ends: end,
            start: self.state.start.clone(),
            copied: 0,
        };
        let bytes = self.writer.bytes();
        let mut writer = Writer::create(&self.dir, &header, self.spare.take())?;
        writer.publish(&self.dir)?;
        self.syncs += 1;
        let mut view = self.readers.view();
        let last = view.segments.back_mut().expect("there is always one");
        last.ends = Some(end);
        last.bytes = bytes;
        view.segments.push_back(current(&writer));
        view.limit = writer.end();
        self.complete = writer.end();
        self.writer = writer;
        Ok(())
    }

    /// Takes away the segments all of whose batches are at or before `past`, never the last one (R30);
    /// returns how many. Facts that are not durable yet are synced first: a position must be before
    /// what it no longer needs is gone. The file of one is kept for the next segment to be written over,
    /// unless it is more than twice as long as a segment should be.
    ///
    /// # Errors
    /// A failed fsync or removal; every later call then fails too (R15).
    pub fn retire(&mut self, past: Seq) -> Result<usize, Error> {
        self.attempt(|journal| {
            let mut retired = 0;
            while due(&journal.readers.view(), past) {
                journal.seal()?;
                let oldest = journal.readers.view().segments.pop_front();
                let Segment { number, bytes, .. } = oldest.expect("there are two");
                fail::step("journal.retire.before");
                if journal.spare.is_none() && bytes <= 2 * journal.options.segment_bytes {
                    journal.spare = Some(Spare::take(&journal.dir, number, bytes)?);
                } else {
                    journal.dir.remove(&segment::name(number))?;
                }
                fail::step("journal.retire.removed");
                // IMPORTANT: one after another, or a power cut may leave a gap, which is damage.
                journal.dir.sync()?;
                fail::step("journal.retire.synced");
                retired += 1;
            }
            Ok(retired)
        })
    }

    /// Whether [`Journal::retire`] would delete a segment.
    #[must_use]
    pub fn retirable(&self, past: Seq) -> bool {
        due(&self.readers.view(), past)
    }

    /// What is sealed.
    #[must_use]
    pub fn sealed(&self) -> Sealed {
        self.readers.view().sealed
    }

    /// All facts, with those that are not durable yet.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.state.start.facts
    }

    /// The number that the next batch gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.state.start.next
    }

    /// The first batch still held, or the next one if none is.
    #[must_use]
    pub fn oldest(&self) -> Seq {
        self.readers.view().oldest()
    }

    /// Bytes on disk, with what waits to be written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let view = self.readers.view();
        let closed = view.segments.iter().filter(|s| s.ends.is_some());
        let spare = self.spare.as_ref().map_or(0, |spare| spare.bytes);
        closed.map(|s| s.bytes).sum::<u64>() + self.writer.bytes() + spare
    }

    /// How often a segment was fsynced since the open, which counts as one.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Opens readers, in any thread.
    #[must_use]
    pub fn readers(&self) -> Readers {
        self.readers.clone()
    }

    /// Does `work` unless something failed before, and remembers if it fails.
    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Journal) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = work(self);
        if let Err(error) = &result
            && !fail::broken("r15")
        {
            self.failed = Some(error.clone());
        }
        result
    }
}

fn closed(found: recover::Found) -> Segment {
    let header = &found.opened.header;
    Segment {
        number: header.number,
        salt: found.opened.salt,
        first: header.start.next,
        frames_at: found.opened.frames_at,
        ends: found.ends,
        bytes: found.bytes,
    }
}

fn current(writer: &Writer) -> Segment {
    Segment {
        number: writer.number(),
        salt: writer.salt(),
        first: writer.first(),
        frames_at: writer.frames_at(),
        ends: None,
        bytes: 0,
    }
}

/// Whether all batches of the oldest segment are at or before `past`, and it is not the last.
fn due(view: &View, past: Seq) -> bool {
    let next = view.segments.get(1);
    next.is_some_and(|next| next.first <= past.next() || fail::broken("r30"))
}

//! Readers of the journal: cursors over sealed batches, in any thread, while the writer goes on.
//!
//! A reader sees a batch only once the fsync that sealed its epoch has returned (R12): the writer
//! moves the limit after it, and no reader touches a byte beyond the limit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::fail;
use crate::journal::Sealed;
use crate::journal::cursor::Cursor;
use crate::journal::disk::Dir;
use crate::journal::frame::Kind;
use crate::journal::segment;
use crate::word::{Epoch, Seq};

/// A sealed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The batch's number.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it is the last of its epoch.
    pub last: bool,
    /// What was appended.
    pub body: Vec<u8>,
}

/// A segment as readers need it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: u64,
    /// The first batch in it, or the one that will be.
    pub(super) first: Seq,
    pub(super) frames_at: u64,
    /// Where it ends; `None`: it is the last, and ends where the sealed part does.
    pub(super) ends: Option<u64>,
    /// The file's length; counted for closed segments only.
    pub(super) bytes: u64,
}

/// What the writer shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) segments: VecDeque<Segment>,
    /// The end of the sealed part of the last segment.
    pub(super) limit: u64,
    pub(super) sealed: Sealed,
}

impl View {
    pub(super) fn oldest(&self) -> Seq {
        self.segments[0].first
    }

    fn outside(&self, position: Seq) -> Error {
        Error::Position {
            position,
            first: Seq(self.oldest().0 - 1),
            last: self.sealed.seq,
        }
    }
}

/// Opens readers; clones see the same journal.
#[derive(Clone, Debug)]
pub struct Readers {
    dir: Dir,
    view: Arc<Mutex<View>>,
}

impl Readers {
    pub(super) fn new(dir: Dir, view: View) -> Readers {
        Readers {
            dir,
            view: Arc::new(Mutex::new(view)),
        }
    }

    /// Every change of the view is one assignment or one push: a panic leaves nothing half done.
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader whose first batch is the one after `position`.
    ///
    /// # Errors
    /// [`Error::Position`] when the journal no longer holds that batch, or `position` is beyond what
    /// is sealed.
    pub fn after(&self, position: Seq) -> Result<Reader, Error> {
        let view = self.view();
        let position = if fail::broken("r16") {
            position.clamp(Seq(view.oldest().0 - 1), view.sealed.seq)
        } else {
            position
        };
        let wanted = position.next();
        if wanted < view.oldest() || position > view.sealed.seq {
            return Err(view.outside(position));
        }
        let index = view.segments.partition_point(|s| s.first <= wanted);
        let segment = view.segments[index - 1].clone();
        let cursor = self.open(&segment)?;
        drop(view);
        Ok(Reader {
            readers: self.clone(),
            cursor,
            number: segment.number,
            at: segment.frames_at,
            limit: segment.frames_at,
            next: segment.first,
            wanted,
        })
    }

    fn open(&self, segment: &Segment) -> Result<Cursor, Error> {
        let file = self.dir.read(&segment::name(segment.number))?;
        Ok(Cursor::new(file, segment.salt))
    }
}

/// A cursor over the sealed batches.
#[derive(Debug)]
pub struct Reader {
    readers: Readers,
    cursor: Cursor,
    /// The segment that `cursor` reads.
    number: u64,
    at: u64,
    /// How far `cursor` may read, as of the last look.
    limit: u64,
    /// The batch that must come next in the segment.
    next: Seq,
    /// The first batch to return.
    wanted: Seq,
}

impl Reader {
    /// The next sealed batch; `None`: nothing more is sealed at the moment.
    ///
    /// # Errors
    /// When the journal cannot be read, is damaged, or was retired past this reader.
    #[expect(
        clippy::should_implement_trait,
        reason = "None is not the end: more may be sealed"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if self.at >= self.limit && !self.advance()? {
                return Ok(None);
            }
            if let Some(frame) = self.read()? {
                return Ok(Some(frame));
            }
        }
    }

    /// Reads one frame; `None`: it is none to return.
    fn read(&mut self) -> Result<Option<Frame>, Error> {
        let at = self.at;
        let Some((frame, after)) = self.cursor.frame(at, self.limit)? else {
            // IMPORTANT: the file of a retired segment may be another's by now. Facts may have been left in
            // it, which nobody reads; `advance` says so if it was more.
            if self.is_retired() {
                self.at = self.limit;
                return Ok(None);
            }
            return Err(self.damaged("no valid frame where one was durable"));
        };
        let head = frame.head;
        let wanted = head.kind != Kind::Control && head.seq >= self.wanted;
        let body = wanted.then(|| frame.body.to_vec());
        self.at = after;
        if head.kind == Kind::Control {
            return Ok(None);
        }
        if head.seq != self.next {
            return Err(self.damaged("sequence numbers are not dense"));
        }
        self.next = head.seq.next();
        Ok(body.map(|body| Frame {
            seq: head.seq,
            epoch: head.epoch,
            last: head.kind == Kind::Last,
            body,
        }))
    }

    /// Looks how far this segment may be read now, or goes on to the next; `false`: nowhere yet.
    fn advance(&mut self) -> Result<bool, Error> {
        let view = self.readers.view();
        let first = view.segments[0].number;
        let index = match self.number.checked_sub(first) {
            Some(index) => usize::try_from(index).expect("as many segments as are in memory"),
            // Retired. That is no loss if everything in it was read.
            None if self.next == view.oldest() => 0,
            None => return Err(view.outside(Seq(self.next.0 - 1))),
        };
        for segment in view.segments.range(index..) {
            if segment.number != self.number {
                // IMPORTANT: opened while the view is locked, or it may be retired in between.
                self.cursor = self.readers.open(segment)?;
                self.number = segment.number;
                self.at = segment.frames_at;
                if segment.first != self.next {
                    let path = self.cursor.file().path();
                    return Err(Error::damaged(path, 0, "batches before it are missing"));
                }
            }
            self.limit = segment.ends.unwrap_or(view.limit);
            if self.at < self.limit {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_retired(&self) -> bool {
        self.number < self.readers.view().segments[0].number
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::damaged(self.cursor.file().path(), self.at, what)
    }
}

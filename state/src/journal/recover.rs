//! What an open makes of the segments it finds (R13, R14).
//!
//! Only the last segment can have a torn tail: every other one was durable up to where its successor
//! says that it ends. Of the last one a valid prefix is kept, cut after its last complete epoch. What
//! of that is not proven to have been durable may be in the page cache only, so it is written anew,
//! into the segment that this open starts.

use crate::error::Error;
use crate::fail;
use crate::journal::cursor::Cursor;
use crate::journal::disk::Dir;
use crate::journal::facts;
use crate::journal::frame::{Kind, View};
use crate::journal::segment::{self, Header, Opened, Start, Writer};
use crate::word::{Epoch, Seq};

/// What the journal amounts to after some frames.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// As of the last frame, except that an epoch under way counts by its batches only.
    pub(super) start: Start,
    /// The epoch that has begun and not ended.
    pub(super) open: Option<Epoch>,
}

impl State {
    pub(super) fn new(start: Start) -> State {
        State { start, open: None }
    }

    /// Takes in a frame that was read; an error says why it cannot follow.
    pub(super) fn apply(&mut self, frame: &View<'_>) -> Result<(), &'static str> {
        let head = &frame.head;
        if head.kind == Kind::Control {
            if self.open.is_some() {
                return Err("a control frame inside of an epoch");
            }
        } else {
            if head.seq != self.start.next {
                return Err("sequence numbers are not dense");
            }
            match self.open {
                Some(epoch) if epoch != head.epoch => return Err("an epoch is not contiguous"),
                None if head.epoch <= self.start.epoch => return Err("epochs do not increase"),
                _ => {}
            }
            self.start.next = head.seq.next();
            self.start.epoch = head.epoch;
            self.open = (head.kind == Kind::Batch).then_some(head.epoch);
        }
        let changes = facts::decode(frame.facts).ok_or("facts make no sense")?;
        facts::apply(&mut self.start.facts, changes);
        Ok(())
    }
}

/// A segment that was there, as the chain of headers describes it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) opened: Opened,
    /// Where it ends, as its successor says; `None`: it is the last.
    pub(super) ends: Option<u64>,
    /// The file's length, with what lies beyond its end.
    pub(super) bytes: u64,
}

/// Reads and checks the headers of all segments in `dir`, ascending.
pub(super) fn chain(dir: &Dir) -> Result<Vec<Found>, Error> {
    let mut all: Vec<Found> = Vec::new();
    for number in segment::numbers(dir)? {
        let file = dir.read(&segment::name(number))?;
        let opened = segment::read(&file, number)?;
        if let Some(previous) = all.last_mut() {
            link(dir, previous, &opened.header)?;
        }
        let bytes = file.bytes()?;
        all.push(Found {
            opened,
            ends: None,
            bytes,
        });
    }
    Ok(all)
}

fn link(dir: &Dir, previous: &mut Found, next: &Header) -> Result<(), Error> {
    let before = &previous.opened.header;
    if next.predecessor != before.number {
        return Err(Error::Missing {
            path: segment::path(dir.path(), next.predecessor),
        });
    }
    let path = segment::path(dir.path(), before.number);
    if previous.bytes < next.predecessor_ends {
        return Err(Error::damaged(
            &path,
            previous.bytes,
            "the file ends too early",
        ));
    }
    if next.predecessor_ends < previous.opened.frames_at || next.start.next < before.start.next {
        let path = segment::path(dir.path(), next.number);
        return Err(Error::damaged(
            &path,
            0,
            "the header does not fit its predecessor",
        ));
    }
    previous.ends = Some(next.predecessor_ends);
    Ok(())
}

/// Starts the segment that follows `last`: its state at the end, and the writer, published.
pub(super) fn succeed(dir: &Dir, last: &mut Found) -> Result<(State, Writer), Error> {
    let number = last.opened.header.number;
    let file = dir.read(&segment::name(number))?;
    let mut cursor = Cursor::new(file, last.opened.salt);
    let (keep, end) = survey(&mut cursor, last)?;
    fail::step("journal.open.surveyed");
    let keep = if fail::broken("r14") { end } else { keep };
    last.ends = Some(keep);
    let mut state = State::new(last.opened.header.start.clone());
    each(&mut cursor, last.opened.frames_at, keep, |frame| {
        state.apply(frame).expect("applied before");
        Ok(())
    })?;
    let header = Header {
        number: number + 1,
        predecessor: number,
        predecessor_ends: keep,
        start: state.start.clone(),
        copied: end - keep,
    };
    let mut writer = Writer::create(dir, &header, None)?;
    each(&mut cursor, keep, end, |frame| {
        state.apply(frame).expect("applied before");
        writer.push(frame.head, frame.body, frame.facts)
    })?;
    state.open = state.open.filter(|_| !fail::broken("r12"));
    assert!(state.open.is_none(), "cut after a complete epoch");
    writer.publish(dir)?;
    Ok((state, writer))
}

/// What `last` amounts to as an open would keep it, and where that ends.
pub(super) fn read_through(dir: &Dir, last: &Found) -> Result<(State, u64), Error> {
    let file = dir.read(&segment::name(last.opened.header.number))?;
    let mut cursor = Cursor::new(file, last.opened.salt);
    let (_, end) = survey(&mut cursor, last)?;
    let mut state = State::new(last.opened.header.start.clone());
    each(&mut cursor, last.opened.frames_at, end, |frame| {
        state.apply(frame).expect("applied before");
        Ok(())
    })?;
    Ok((state, end))
}

/// Reads the last segment: the end of what is proven durable, and the end of what is kept, both
/// between epochs.
fn survey(cursor: &mut Cursor, last: &Found) -> Result<(u64, u64), Error> {
    let limit = cursor.file().bytes()?;
    let path = cursor.file().path().to_owned();
    let mut state = State::new(last.opened.header.start.clone());
    let mut at = last.opened.frames_at;
    let mut synced = last.opened.base;
    let mut bounds = vec![at];
    while at < limit {
        let Some((frame, next)) = cursor.frame(at, limit)? else {
            let proven = at < synced || cursor.proves_damage(at, limit)?;
            if proven {
                return Err(Error::damaged(
                    &path,
                    at,
                    "no valid frame where one was durable",
                ));
            }
            break;
        };
        let fits = state.apply(&frame);
        fits.map_err(|what| Error::damaged(&path, at, what))?;
        synced = synced.max(frame.head.synced);
        at = next;
        if state.open.is_none() || fail::broken("r12") {
            bounds.push(at);
        }
    }
    let kept = bounds.partition_point(|bound| *bound <= synced);
    let end = *bounds.last().expect("starts with one");
    Ok((bounds[kept - 1], end))
}

/// Calls `visit` with each frame from `at` to `end`, all of which are known to be valid.
fn each(
    cursor: &mut Cursor,
    mut at: u64,
    end: u64,
    mut visit: impl FnMut(&View<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    while at < end {
        let Some((frame, next)) = cursor.frame(at, end)? else {
            return Err(Error::damaged(
                cursor.file().path(),
                at,
                "changed while it was read",
            ));
        };
        visit(&frame)?;
        at = next;
    }
    Ok(())
}

/// Starts the very first segment of `dir`.
pub(super) fn found(dir: &Dir, start: Start) -> Result<(State, Writer), Error> {
    assert!(start.next > Seq(0), "batches are numbered from 1");
    let header = Header {
        number: 1,
        predecessor: 0,
        predecessor_ends: 0,
        start: start.clone(),
        copied: 0,
    };
    let mut writer = Writer::create(dir, &header, None)?;
    writer.publish(dir)?;
    Ok((State::new(start), writer))
}

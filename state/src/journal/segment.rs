//! Segments: the files of the journal, `<number, %010d>.seg`, and their header.
//!
//! Integers little-endian:
//!
//! ```text
//! magic 8 bytes | version u32 | header length u32 | number u64 | predecessor u64 (0: none)
//! | predecessor ends u64 | next seq u64 | last epoch u64 | base u64 | facts | checksum u64
//! ```
//!
//! Magic, version, length, and an XXH3-64 of all that precedes it as the last 8 bytes, stay so in
//! every version. `base` is the length that the file had when it got its name: all of that was
//! durable before (R14), so a fault in it is damage. A segment begins and ends between epochs. Its
//! checksum is the salt of its frames.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::Error;
use crate::fail;
use crate::journal::disk::{Dir, File};
use crate::journal::facts::{self, Facts};
use crate::journal::frame::{self, Head, View};
use crate::word::{Epoch, Seq};

const MAGIC: [u8; 8] = *b"dp-segm\n";
/// 2: a frame's head has a mark.
const VERSION: u32 = 2;
/// Magic, version and length of the header.
const PREFIX_BYTES: usize = 16;
/// A header without facts.
const FIXED_BYTES: usize = PREFIX_BYTES + 6 * 8 + 8;
/// Frames gather up to this before they are written; the frame that reaches it is written from where
/// it is, without a copy.
pub(super) const BUFFER_BYTES: usize = 1 << 20;
/// No journal has had so many segments or batches: a header that says so makes no sense.
const COUNT_MAX: u64 = u64::MAX / 2;
const SUFFIX: &str = ".seg";
const TEMPORARY_SUFFIX: &str = ".seg.new";

/// What the journal amounts to between two epochs: what a segment's header repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// The number of the next batch.
    pub(super) next: Seq,
    /// The last epoch with a batch.
    pub(super) epoch: Epoch,
    pub(super) facts: Facts,
}

/// A segment's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    /// 0: this is the first.
    pub(super) predecessor: u64,
    /// What lies beyond in the predecessor does not exist.
    pub(super) predecessor_ends: u64,
    pub(super) start: Start,
    /// Bytes of frames that were written with the header.
    pub(super) copied: u64,
}

/// A header as read from its file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) header: Header,
    pub(super) salt: u64,
    /// Where the first frame is.
    pub(super) frames_at: u64,
    /// The length that was durable when the file got its name.
    pub(super) base: u64,
}

/// A retired segment's file, kept for another segment to be written over it: blocks that are there already
/// take a third less time to write and sync than new ones, and nothing has to be given back.
#[derive(Debug)]
pub(super) struct Spare {
    file: File,
    name: String,
    pub(super) bytes: u64,
}

impl Spare {
    /// Takes segment `number` of so many bytes out of the journal; durable with the next sync of `dir`.
    pub(super) fn take(dir: &Dir, number: u64, bytes: u64) -> Result<Spare, Error> {
        let mut file = dir.over(&name(number))?;
        // A crash leaves it to the next open's sweep.
        let name = temporary(number);
        dir.rename(&mut file, &name)?;
        Ok(Spare { file, name, bytes })
    }

    /// Gives its bytes back.
    pub(super) fn remove(self, dir: &Dir) -> Result<(), Error> {
        drop(self.file);
        dir.remove(&self.name)
    }
}

/// The name of the file.
pub(super) fn name(number: u64) -> String {
    format!("{number:010}{SUFFIX}")
}

/// The name until it is one.
fn temporary(number: u64) -> String {
    format!("{number:010}{TEMPORARY_SUFFIX}")
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(name(number))
}

/// Removes what an open that did not come to its end left in `dir`.
pub(super) fn sweep(dir: &Dir) -> Result<(), Error> {
    for file in dir.names()? {
        if file.ends_with(TEMPORARY_SUFFIX) && !fail::broken("r14") {
            dir.remove(&file)?;
            fail::step("journal.open.temporary");
        }
    }
    Ok(())
}

/// The numbers of the segments in `dir`, ascending.
pub(super) fn numbers(dir: &Dir) -> Result<Vec<u64>, Error> {
    let number = |file: String| {
        let number = file.strip_suffix(SUFFIX)?.parse::<u64>().ok()?;
        (name(number) == file).then_some(number)
    };
    let mut numbers: Vec<u64> = dir.names()?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads and checks the header of `file`, which must be segment `number`.
pub(super) fn read(file: &File, number: u64) -> Result<Opened, Error> {
    let damaged = |what| Error::damaged(file.path(), 0, what);
    let bytes = file.bytes()?;
    let mut prefix = [0; PREFIX_BYTES];
    if bytes < FIXED_BYTES as u64 {
        return Err(damaged("shorter than a header"));
    }
    file.read(&mut prefix, 0)?;
    let u32_at =
        |at: usize| u32::from_le_bytes(*prefix[at..].first_chunk().expect("in the prefix"));
    let (version, length) = (u32_at(8), u32_at(12) as usize);
    if prefix[..8] != MAGIC || length < PREFIX_BYTES + 8 || length as u64 > bytes {
        return Err(damaged("not a segment header"));
    }
    let mut whole = vec![0; length];
    file.read(&mut whole, 0)?;
    let (content, checksum) = whole.split_at(length - 8);
    let salt = xxh3_64(content);
    if checksum != salt.to_le_bytes() {
        return Err(damaged("the header's checksum does not match"));
    }
    if version != VERSION {
        return Err(Error::Version {
            path: file.path().to_owned(),
            found: version,
            known: VERSION,
        });
    }
    let opened = decode(content, salt).ok_or_else(|| damaged("the header makes no sense"))?;
    if opened.header.number != number {
        return Err(damaged("the header is that of another segment"));
    }
    if opened.base > bytes {
        return Err(Error::damaged(
            file.path(),
            bytes,
            "the file ends too early",
        ));
    }
    Ok(opened)
}

fn decode(content: &[u8], salt: u64) -> Option<Opened> {
    let (fixed, facts) = content.split_at_checked(FIXED_BYTES - 8)?;
    let word = |index: usize| {
        let at = PREFIX_BYTES + index * 8;
        u64::from_le_bytes(*fixed[at..].first_chunk().expect("in the fixed part"))
    };
    let mut all = Facts::new();
    facts::apply(&mut all, facts::decode(facts)?);
    let frames_at = content.len() as u64 + 8;
    let header = Header {
        number: word(0),
        predecessor: word(1),
        predecessor_ends: word(2),
        start: Start {
            next: Seq(word(3)),
            epoch: Epoch(word(4)),
            facts: all,
        },
        copied: word(5).checked_sub(frames_at)?,
    };
    let counts = [header.number, header.start.next.0];
    if counts.iter().any(|count| *count == 0 || *count > COUNT_MAX) {
        return None;
    }
    Some(Opened {
        base: frames_at + header.copied,
        header,
        salt,
        frames_at,
    })
}

fn encode(header: &Header) -> Vec<u8> {
    let facts = header.start.facts.iter();
    let facts = facts::encode(facts.map(|(name, value)| (name.as_str(), Some(value.as_str()))));
    let length = FIXED_BYTES + facts.len();
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    let stated = u32::try_from(length).expect("facts are far below 4 GiB");
    out.extend_from_slice(&stated.to_le_bytes());
    for word in [
        header.number,
        header.predecessor,
        header.predecessor_ends,
        header.start.next.0,
        header.start.epoch.0,
        length as u64 + header.copied,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&facts);
    let checksum = xxh3_64(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// Writes one segment: under a temporary name first, then, published, frame by frame.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    number: u64,
    first: Seq,
    salt: u64,
    frames_at: u64,
    base: u64,
    /// Frames that are not in the file yet.
    buffer: Vec<u8>,
    /// Where `buffer` goes.
    written: u64,
    synced: u64,
    /// The length of the file that is written over; 0: of none.
    over: u64,
}

impl Writer {
    /// Starts a segment under a temporary name; over `spare`, if there is one. What that holds still is of
    /// another salt, and so is nothing (see `frame`).
    pub(super) fn create(
        dir: &Dir,
        header: &Header,
        spare: Option<Spare>,
    ) -> Result<Writer, Error> {
        let over = spare.as_ref().map_or(0, |spare| spare.bytes);
        let file = match spare {
            Some(spare) => spare.file,
            None if fail::broken("r14") => dir.create(&name(header.number))?,
            None => dir.create(&temporary(header.number))?,
        };
        fail::step("journal.segment.created");
        let buffer = encode(header);
        let (content, _) = buffer.split_at(buffer.len() - 8);
        let frames_at = buffer.len() as u64;
        Ok(Writer {
            file,
            number: header.number,
            first: header.start.next,
            salt: xxh3_64(content),
            frames_at,
            base: frames_at + header.copied,
            buffer,
            written: 0,
            synced: 0,
            over,
        })
    }

    /// Makes the segment durable as it is, then gives it its name: from here on it exists (R14).
    pub(super) fn publish(&mut self, dir: &Dir) -> Result<(), Error> {
        assert_eq!(self.end(), self.base, "the header announced these frames");
        self.write()?;
        fail::step("journal.segment.written");
        self.sync()?;
        fail::step("journal.segment.synced");
        // IMPORTANT: only after the sync, or a power cut leaves a named segment without content.
        dir.rename(&mut self.file, &name(self.number))?;
        fail::step("journal.segment.renamed");
        dir.sync()?;
        fail::step("journal.segment.published");
        Ok(())
    }

    /// Appends a frame; `head.synced` is filled in here.
    pub(super) fn push(&mut self, mut head: Head, body: &[u8], facts: &[u8]) -> Result<(), Error> {
        head.synced = if fail::broken("r13") {
            u64::MAX
        } else {
            self.synced
        };
        let offset = self.end();
        let frame = View { head, body, facts };
        if self.buffer.len() + frame::bytes(body, facts) < BUFFER_BYTES {
            frame::encode(&mut self.buffer, frame, self.salt, offset);
            return Ok(());
        }
        let fixed = frame::fixed(frame, self.salt, offset);
        self.write_with([&fixed, body, facts])
    }

    /// Brings what is in the buffer into the file.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.write_with([&[]; 3])
    }

    /// Brings what is in the buffer into the file, and a frame behind it from where its parts are.
    fn write_with(&mut self, [fixed, body, facts]: [&[u8]; 3]) -> Result<(), Error> {
        let parts = [&self.buffer[..], fixed, body, facts];
        fail::step("journal.write.before");
        self.file.write(&parts, self.written)?;
        fail::step("journal.write.after");
        self.written += parts.map(|part| part.len() as u64).iter().sum::<u64>();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    /// Makes all frames durable.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.write()?;
        fail::step("journal.sync.before");
        self.file.sync()?;
        fail::step("journal.sync.after");
        self.synced = self.written;
        Ok(())
    }

    /// Gives back what is left of the file that is written over.
    pub(super) fn shorten(&mut self) -> Result<(), Error> {
        assert!(!self.dirty(), "what is kept is durable");
        if self.over > self.written {
            self.file.cut(self.written)?;
        }
        self.over = 0;
        Ok(())
    }

    /// Where the next frame goes: the segment's length.
    pub(super) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Bytes on disk, with what waits to be written.
    pub(super) fn bytes(&self) -> u64 {
        self.end().max(self.over)
    }

    /// Whether anything was pushed since the last sync.
    pub(super) fn dirty(&self) -> bool {
        self.end() > self.synced
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The first batch in it, or the one that will be.
    pub(super) fn first(&self) -> Seq {
        self.first
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn frames_at(&self) -> u64 {
        self.frames_at
    }
}

//! Segments that were changed in any way: a journal that opens holds what was written, and nothing makes
//! it panic, not even what passes its checksums.

use std::collections::HashSet;
use std::path::PathBuf;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::power::Power;
use super::*;
use crate::dice::Dice;
use crate::fuzz::{self, Interest};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/journal");

fn segment_path(number: u64) -> PathBuf {
    segment::path(Path::new("journal"), number)
}

/// Two segments: the first ends with epochs that were written anew into the second, of which all but
/// the last epoch is proven durable.
pub(super) struct Written {
    pub(super) files: [Vec<u8>; 2],
    pub(super) frames: Vec<Frame>,
    /// So much of the second segment is proven durable, and so many batches are in there.
    pub(super) proven: (usize, usize),
}

pub(super) fn written() -> Written {
    let power = Power::new(Dice::from(1));
    let open = || Journal::open_on(power.disk(), Path::new("journal"), Options::default()).unwrap();
    let mut journal = open();
    journal
        .record(&[fact("lineage", "l"), fact("gone", "")])
        .unwrap();
    epoch(&mut journal, 1, 2);
    journal.sync().unwrap();
    epoch(&mut journal, 2, 1);
    epoch(&mut journal, 3, 2);
    journal.sync().unwrap();
    drop(journal);
    let mut journal = open();
    journal.record(&[("gone".to_owned(), None)]).unwrap();
    epoch(&mut journal, 4, 1);
    journal.sync().unwrap();
    let proven = (
        journal.writer.end() as usize,
        journal.sealed().seq.0 as usize,
    );
    epoch(&mut journal, 7, 3);
    journal.sync().unwrap();
    Written {
        files: [1, 2].map(|number| power.content(&segment_path(number))),
        frames: read_all(&journal).unwrap(),
        proven,
    }
}

/// A journal of these files.
pub(super) fn journal_of(files: [Option<&[u8]>; 2]) -> Result<Journal, Error> {
    let power = Power::new(Dice::from(1));
    for (number, bytes) in (1..).zip(files) {
        if let Some(bytes) = bytes {
            power.put(&segment_path(number), bytes.to_vec());
        }
    }
    Journal::open_on(power.disk(), Path::new("journal"), Options::default())
}

/// The input in place of one of the segments, whichever it says it is.
fn in_place<'a>(written: &'a Written, input: &'a [u8]) -> [Option<&'a [u8]>; 2] {
    let [first, second] = &written.files;
    if input.get(16) == Some(&1) {
        [Some(input), Some(second)]
    } else {
        [Some(first), Some(input)]
    }
}

/// All that `bytes` says it is, with checksums that match.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let stated = bytes
        .get(12..16)
        .map(|length| u32::from_le_bytes(length.try_into().unwrap()));
    let length = stated.unwrap_or(0) as usize;
    if length < 24 || length > bytes.len() {
        return bytes;
    }
    let salt = xxh3_64(&bytes[..length - 8]);
    bytes[length - 8..length].copy_from_slice(&salt.to_le_bytes());
    let mut at = length;
    while let Some(head) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        frame::renew_mark(head, salt, at as u64);
        let Some((_, total)) = frame::head(head, salt, at as u64) else {
            break;
        };
        let Some(frame) = bytes.get_mut(at..at + total as usize) else {
            break;
        };
        let checksum = xxh3_64_with_seed(&frame[8..], salt ^ at as u64);
        frame[..8].copy_from_slice(&checksum.to_le_bytes());
        at += total as usize;
    }
    bytes
}

/// Reads a journal that opened; what it holds is dense.
fn read(journal: Result<Journal, Error>) -> Result<Vec<Frame>, Error> {
    journal.and_then(|journal| {
        let frames = read_all(&journal)?;
        let held = journal.sealed().seq.0 + 1 - journal.oldest().0;
        assert_eq!(frames.len() as u64, held, "all that is sealed can be read");
        Ok(frames)
    })
}

/// Interesting is what comes to something new.
fn interest(seen: &mut HashSet<String>, read: &Result<Vec<Frame>, Error>) -> Interest {
    let outcome = match read {
        Ok(frames) => format!("{}", frames.len()),
        Err(Error::Damaged { what, path, .. }) => format!("{what} {}", path.display()),
        Err(other) => other.to_string().chars().take(30).collect(),
    };
    if seen.insert(outcome) {
        Interest::New
    } else {
        Interest::None
    }
}

#[test]
fn the_corpus_is_what_this_build_writes_under_its_format_version() {
    for (number, bytes) in (1..).zip(written().files) {
        let kept = fs::read(Path::new(CORPUS).join(segment::name(number))).unwrap();
        assert!(
            kept == bytes,
            "segment {number}: another format needs another version"
        );
    }
}

#[test]
fn fuzz_a_changed_segment_is_read_as_it_was_written_or_not_at_all() {
    let written = written();
    let (proven, batches) = written.proven;
    let mut seen = HashSet::new();
    let count = fuzz::run("journal", 81, fuzz::corpus(Path::new(CORPUS)), |input| {
        let files = in_place(&written, input);
        let read = read(journal_of(files));
        if let Ok(frames) = &read {
            assert!(written.frames.starts_with(frames), "not what was written");
            let whole = |at: usize, bytes: usize| {
                files[at].unwrap().get(..bytes) == Some(&written.files[at][..bytes])
            };
            if whole(0, written.files[0].len()) && whole(1, proven) {
                assert!(frames.len() >= batches, "what was proven durable is gone");
            }
        }
        let expected = matches!(
            read,
            Ok(_) | Err(Error::Damaged { .. } | Error::Missing { .. } | Error::Version { .. })
        );
        assert!(expected, "{read:?}");
        interest(&mut seen, &read)
    });
    assert!(count > 100, "{count}");
}

#[test]
fn fuzz_a_segment_that_passes_its_checksums_and_makes_no_sense_is_damage_and_no_panic() {
    let written = written();
    let mut seen = HashSet::new();
    let count = fuzz::run("segment", 82, fuzz::corpus(Path::new(CORPUS)), |input| {
        let input = repaired(input);
        let read = read(journal_of(in_place(&written, &input)));
        if let Err(error) = &read {
            assert!(!matches!(error, Error::Io { .. }), "{error}");
        }
        interest(&mut seen, &read)
    });
    assert!(count > 100, "{count}");
}

#[test]
fn a_header_that_passes_its_checksum_and_makes_no_sense_is_damage_and_no_panic() {
    let written = written();
    let [first, second] = &written.files;
    let length = u32::from_le_bytes(second[12..16].try_into().unwrap()) as usize;
    for word in 0..6 {
        let at = 16 + 8 * word;
        let was = u64::from_le_bytes(second[at..at + 8].try_into().unwrap());
        let near = [was.wrapping_sub(1), was, was + 1];
        let far = [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        for value in near.into_iter().chain(far) {
            // With its frames, and without: then it had none when it got its name.
            for frames in [true, false] {
                let mut header = second[..length].to_vec();
                if frames {
                    header.extend_from_slice(&second[length..]);
                } else {
                    header[56..64].copy_from_slice(&(length as u64).to_le_bytes());
                }
                header[at..at + 8].copy_from_slice(&value.to_le_bytes());
                let read = read(journal_of([Some(first), Some(&repaired(&header))]));
                match read {
                    Ok(frames) => assert!(written.frames.starts_with(&frames)),
                    Err(Error::Damaged { .. } | Error::Missing { .. }) => {}
                    Err(other) => panic!("word {word}, {value}: {other}"),
                }
            }
        }
    }
}

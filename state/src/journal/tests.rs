//! What the journal promises, one rule after another.
//!
//! * `damage`: files that are cut, flipped, holed and of another format.
//! * `frames`: of any length, written alone or together.
//! * `model`: random use against a list.
//! * `power`: a disk that forgets what was not synced; `crash`: the journal on it.
//! * `fuzz`: segments that were changed in any way.

mod crash;
mod damage;
mod frames;
mod fuzz;
mod model;
mod power;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn open(dir: &Path) -> Journal {
    Journal::open(dir, Options::default()).expect("opens")
}

fn small(dir: &Path) -> Result<Journal, Error> {
    Journal::open(dir, Options { segment_bytes: 700 })
}

fn fact(name: &str, value: &str) -> FactChange {
    (name.to_owned(), Some(value.to_owned()))
}

/// Appends a whole epoch of batches whose bodies say what they are.
fn epoch(journal: &mut Journal, epoch: u64, batches: u64) {
    for index in 0..batches {
        let body = format!("batch {index} of epoch {epoch}");
        let facts = [fact("last", &epoch.to_string())];
        let end = (index + 1 == batches).then_some(&facts[..]);
        journal.append(Epoch(epoch), body.as_bytes(), end).unwrap();
    }
}

fn read_all(journal: &Journal) -> Result<Vec<Frame>, Error> {
    let oldest = journal.oldest();
    let mut reader = journal.readers().after(Seq(oldest.0 - 1))?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        assert_eq!(frame.seq, Seq(oldest.0 + frames.len() as u64));
        frames.push(frame);
    }
    Ok(frames)
}

fn epochs(journal: &Journal) -> Vec<u64> {
    let frames = read_all(journal).expect("reads");
    let epochs: BTreeSet<u64> = frames.iter().map(|frame| frame.epoch.0).collect();
    epochs.into_iter().collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A journal with epoch 1 known durable, then epochs 2 and 3, which only the cache may have.
/// Returns the offset known durable, and where each later epoch ends.
fn with_tail(dir: &Path) -> (u64, Vec<u64>) {
    let mut journal = open(dir);
    epoch(&mut journal, 1, 2);
    journal.sync().unwrap();
    let mut ends = vec![journal.writer.end()];
    for number in 2..=3 {
        epoch(&mut journal, number, 2);
        ends.push(journal.writer.end());
    }
    journal.sync().unwrap();
    (ends[0], ends)
}

#[test]
fn r12_an_epoch_is_seen_by_nobody_before_the_fsync_of_its_last_frame() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut reader = journal.readers().after(Seq(0)).unwrap();
    journal.append(Epoch(5), b"one", None).unwrap();
    assert_eq!(journal.sync().unwrap(), Sealed::default());
    assert_eq!(reader.next().unwrap(), None, "durable, but not complete");
    journal.append(Epoch(5), b"two", Some(&[])).unwrap();
    assert_eq!(reader.next().unwrap(), None, "complete, but not durable");
    let sealed = Sealed {
        seq: Seq(2),
        epoch: Epoch(5),
    };
    assert_eq!(journal.sync().unwrap(), sealed);
    let read: Vec<Frame> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    let frame = |seq, last, body: &[u8]| Frame {
        seq: Seq(seq),
        epoch: Epoch(5),
        last,
        body: body.to_vec(),
    };
    assert_eq!(read, [frame(1, false, b"one"), frame(2, true, b"two")]);
}

#[test]
fn one_fsync_seals_many_epochs_and_none_is_made_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let before = journal.syncs();
    for number in 1..=20 {
        epoch(&mut journal, number, 2);
    }
    assert_eq!(journal.sync().unwrap().seq, Seq(40));
    journal.sync().unwrap();
    assert_eq!(journal.syncs(), before + 1);
    assert_eq!(epochs(&journal), (1..=20).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "epochs increase")]
fn an_epoch_is_not_sealed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    epoch(&mut journal, 5, 1);
    epoch(&mut journal, 5, 1);
}

#[test]
#[should_panic(expected = "contiguous")]
fn r12_an_epoch_is_contiguous() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.append(Epoch(5), b"", None).unwrap();
    epoch(&mut journal, 6, 1);
}

#[test]
fn r14_what_was_not_proven_durable_is_written_anew_before_anyone_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let (durable, _) = with_tail(dir.path());
    drop(open(dir.path()));
    // The power cut that takes back what only the cache had.
    let path = segment::path(dir.path(), 1);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(durable).unwrap();
    assert_eq!(epochs(&open(dir.path())), [1, 2, 3]);
}

#[test]
fn r14_left_over_temporary_files_are_removed_and_not_read() {
    let dir = tempfile::tempdir().unwrap();
    with_tail(dir.path());
    let left = dir.path().join("0000000002.seg.new");
    let other = dir.path().join("0000000007.seg.new");
    fs::copy(segment::path(dir.path(), 1), &left).unwrap();
    fs::write(&other, b"half a hea").unwrap();
    assert_eq!(epochs(&open(dir.path())), [1, 2, 3]);
    assert!(!left.exists() && !other.exists());
}

#[test]
fn r12_an_unfinished_epoch_is_cut_although_it_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    epoch(&mut journal, 1, 1);
    journal.sync().unwrap();
    for _ in 0..3 {
        journal.append(Epoch(2), b"never ends", None).unwrap();
        journal.sync().unwrap();
    }
    drop(journal);
    for _ in 0..2 {
        let mut journal = open(dir.path());
        assert_eq!((epochs(&journal), journal.next_seq()), (vec![1], Seq(2)));
        journal.append(Epoch(2), b"neither", None).unwrap();
        journal.sync().unwrap();
    }
    let mut journal = open(dir.path());
    epoch(&mut journal, 2, 2);
    assert_eq!(journal.sync().unwrap().seq, Seq(3));
    assert_eq!(read_all(&journal).unwrap()[1].body, b"batch 0 of epoch 2");
}

#[test]
fn r15_a_journal_that_failed_once_fails_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = open(&path);
    epoch(&mut journal, 1, 1);
    fs::remove_dir_all(&path).unwrap();
    let first = journal.roll().unwrap_err().to_string();
    fs::create_dir(&path).unwrap();
    assert_eq!(journal.sync().unwrap_err().to_string(), first);
    let append = journal.append(Epoch(9), b"", Some(&[])).unwrap_err();
    assert_eq!(append.to_string(), first);
    assert_eq!(journal.record(&[]).unwrap_err().to_string(), first);
    assert_eq!(journal.retire(Seq(1)).unwrap_err().to_string(), first);
}

#[test]
fn r16_a_position_outside_of_the_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    for number in 1..=4 {
        epoch(&mut journal, number, 1);
        journal.roll().unwrap();
    }
    assert_eq!(journal.retire(Seq(2)).unwrap(), 2);
    let readers = journal.readers();
    for position in [0, 1, 5] {
        let error = readers.after(Seq(position)).unwrap_err();
        let Error::Position { first, last, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((first, last), (Seq(2), Seq(4)));
    }
    for position in [2, 3, 4] {
        let next = readers.after(Seq(position)).unwrap().next().unwrap();
        let next = next.map(|frame| frame.seq.0);
        assert_eq!(next, (position < 4).then_some(position + 1));
    }
}

#[test]
fn r30_retire_syncs_positions_first_and_never_deletes_the_last_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    epoch(&mut journal, 1, 2);
    journal.roll().unwrap();
    epoch(&mut journal, 2, 2);
    journal.sync().unwrap();
    assert_eq!(
        journal.retire(Seq(1)).unwrap(),
        0,
        "a part of the segment is not enough"
    );
    journal.record(&[fact("position", "4")]).unwrap();
    let before = journal.syncs();
    assert_eq!(journal.retire(Seq(4)).unwrap(), 1);
    assert_eq!((journal.syncs(), journal.oldest()), (before + 1, Seq(3)));
    assert_eq!(journal.retire(Seq(4)).unwrap(), 0);
    drop(journal);
    let mut journal = open(dir.path());
    assert_eq!(journal.facts()["position"], "4");
    assert_eq!((journal.oldest(), journal.next_seq()), (Seq(3), Seq(5)));
    journal.roll().unwrap();
    journal.retire(Seq(4)).unwrap();
    assert_eq!(journal.oldest(), Seq(5), "nothing is held, and it goes on");
    assert_eq!(segment::numbers(&journal.dir).unwrap().len(), 1);
    assert_eq!(journal.bytes(), bytes_in(dir.path()));
}

/// Bytes of all files in `dir`.
fn bytes_in(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

/// The inode numbers of all files in `dir`: which files they are, whatever their names.
fn inodes_in(dir: &Path) -> BTreeSet<u64> {
    let files = fs::read_dir(dir).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().ino())
        .collect()
}

#[test]
fn a_segment_is_written_over_a_retired_one_of_which_nothing_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = small(dir.path()).unwrap();
    let mut inodes = BTreeSet::new();
    for number in 100..=300 {
        // All of one length: where one ends in the old segment, so does one in the new.
        epoch(&mut journal, number, 1);
        journal.sync().unwrap();
        journal.retire(Seq(number - 99)).unwrap();
        inodes.extend(inodes_in(dir.path()));
        assert_eq!(journal.bytes(), bytes_in(dir.path()), "epoch {number}");
    }
    assert!(inodes.len() <= 3, "{} files for 20 segments", inodes.len());
    assert!(segment::numbers(&journal.dir).unwrap()[0] > 20);
    // Mid-way in a file of old frames: they are not read, and prove nothing.
    let (sealed, held) = (journal.sealed(), read_all(&journal).unwrap());
    drop(journal);
    let journal = small(dir.path()).unwrap();
    assert_eq!((journal.sealed(), sealed.epoch), (sealed, Epoch(300)));
    assert_eq!(read_all(&journal).unwrap(), held);
}

#[test]
fn a_reader_that_left_facts_in_a_retired_segment_goes_on_when_it_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = small(dir.path()).unwrap();
    let mut reader = journal.readers().after(Seq(0)).unwrap();
    epoch(&mut journal, 1, 1);
    // More than a reader has in memory.
    let long = "x".repeat(300_000);
    for _ in 0..2 {
        journal.record(&[fact("long", &long)]).unwrap();
    }
    journal.record(&[fact("long", "")]).unwrap();
    journal.options.segment_bytes = 1 << 20;
    journal.sync().unwrap();
    assert_eq!(reader.next().unwrap().unwrap().seq, Seq(1));
    journal.roll().unwrap();
    assert_eq!(journal.retire(Seq(1)).unwrap(), 1);
    epoch(&mut journal, 2, 1);
    journal.roll().unwrap();
    // Over the first one.
    for number in 3..=600 {
        epoch(&mut journal, number, 1);
    }
    journal.sync().unwrap();
    for number in 2..=600 {
        assert_eq!(reader.next().unwrap().unwrap().seq, Seq(number));
    }
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn r29_who_needs_the_disk_gets_what_was_kept_though_facts_come_in_between() {
    // Before the disk is short: nothing, one segment over another, one in which nothing is yet.
    for (epochs, keep) in [(0, 0), (12, 12), (14, 14), (21, 13)] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = small(dir.path()).unwrap();
        for number in 1..=epochs {
            epoch(&mut journal, number, 1);
            journal.sync().unwrap();
            journal.retire(Seq(number.min(keep))).unwrap();
        }
        epoch(&mut journal, epochs + 1, 60);
        journal.sync().unwrap();
        let long = journal.bytes();
        assert!(long > 3_000, "{long}");
        // As a gate asks again and again, and the last follower says that it is past all of it.
        journal.roll().unwrap();
        journal.record(&[fact("position", "all")]).unwrap();
        journal.retire(journal.sealed().seq).unwrap();
        for _ in 0..2 {
            journal.roll().unwrap();
        }
        assert_eq!(journal.bytes(), bytes_in(dir.path()));
        assert!(journal.bytes() < 1_000, "{} of {long}", journal.bytes());
        // And when no fact comes in between.
        epoch(&mut journal, epochs + 2, 6);
        journal.roll().unwrap();
        journal.retire(journal.sealed().seq).unwrap();
        journal.roll().unwrap();
        assert_eq!(inodes_in(dir.path()).len(), 1);
    }
}

#[test]
fn r29_a_segment_that_was_begun_over_another_gives_back_what_is_left_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = small(dir.path()).unwrap();
    journal.options.segment_bytes = 1 << 20;
    epoch(&mut journal, 1, 900);
    journal.roll().unwrap();
    epoch(&mut journal, 2, 1);
    assert_eq!(journal.retire(Seq(900)).unwrap(), 1);
    journal.options.segment_bytes = 10;
    // Over the first one.
    journal.sync().unwrap();
    epoch(&mut journal, 3, 1);
    assert!(journal.bytes() > 50_000, "{}", journal.bytes());
    journal.roll().unwrap();
    assert!(journal.bytes() < 2_000, "{}", journal.bytes());
    assert_eq!(journal.bytes(), bytes_in(dir.path()));
    let (sealed, held) = (journal.sealed(), read_all(&journal).unwrap());
    drop(journal);
    let journal = small(dir.path()).unwrap();
    assert_eq!(journal.sealed(), sealed);
    assert_eq!(read_all(&journal).unwrap(), held);
}

#[test]
fn r35_a_journal_founded_elsewhere_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let facts = Facts::from([("lineage".to_owned(), "x".to_owned())]);
    let sealed = Sealed {
        seq: Seq(41),
        epoch: Epoch(7),
    };
    let journal = Journal::found(dir.path(), Options::default(), sealed, facts.clone()).unwrap();
    assert_eq!((journal.sealed(), journal.oldest()), (sealed, Seq(42)));
    drop(journal);
    let mut journal = open(dir.path());
    assert_eq!((journal.sealed(), journal.facts()), (sealed, &facts));
    assert_eq!(journal.append(Epoch(8), b"", Some(&[])).unwrap(), Seq(42));
    let again = Journal::found(dir.path(), Options::default(), sealed, facts);
    assert!(matches!(again, Err(Error::Exists { .. })));
}

#[test]
fn a_reader_in_another_thread_sees_everything_once_across_rolls_and_retires() {
    const EPOCHS: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let mut journal = small(dir.path()).unwrap();
    let mut reader = journal.readers().after(Seq(0)).unwrap();
    let position = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 1;
            while next <= 2 * EPOCHS {
                let Some(frame) = reader.next().unwrap() else {
                    std::thread::yield_now();
                    continue;
                };
                let body = format!("batch {} of epoch {}", (next - 1) % 2, next.div_ceil(2));
                assert_eq!((frame.seq, frame.body), (Seq(next), body.into_bytes()));
                assert_eq!(frame.last, next % 2 == 0);
                position.store(next, Ordering::Release);
                next += 1;
            }
        });
        for number in 1..=EPOCHS {
            epoch(&mut journal, number, 2);
            if number % 3 == 0 {
                journal.sync().unwrap();
            }
            journal
                .retire(Seq(position.load(Ordering::Acquire)))
                .unwrap();
        }
        journal.sync().unwrap();
    });
    journal
        .retire(Seq(position.load(Ordering::Acquire)))
        .unwrap();
    assert!(
        journal.readers().view().segments.len() <= 2,
        "all but the last were retired"
    );
}

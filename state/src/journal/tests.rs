//! What the journal promises, against files that are cut, flipped, holed and left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::dice::Dice;

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
fn r13_a_tail_cut_at_any_byte_loses_no_more_than_what_was_not_durable() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (durable, ends) = with_tail(dir.path());
    for cut in durable..=*ends.last().unwrap() {
        let to = work.path().join(cut.to_string());
        copy(dir.path(), &to);
        let path = segment::path(&to, 1);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(cut).unwrap();
        let mut journal = open(&to);
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(
            epochs(&journal),
            (1..=whole).collect::<Vec<_>>(),
            "cut {cut}"
        );
        assert_eq!(journal.facts()["last"], whole.to_string());
        assert_eq!(journal.next_seq(), Seq(2 * whole + 1));
        epoch(&mut journal, 9, 1);
        assert_eq!(journal.sync().unwrap().seq, Seq(2 * whole + 1));
    }
}

#[test]
fn r13_a_flipped_bit_is_damage_exactly_where_the_bytes_had_been_durable() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (durable, ends) = with_tail(dir.path());
    for at in 0..*ends.last().unwrap() {
        let to = work.path().join(at.to_string());
        copy(dir.path(), &to);
        let path = segment::path(&to, 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at as usize] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        match Journal::open(&to, Options::default()) {
            Err(Error::Damaged { offset, .. }) => assert!(offset <= at && at < durable),
            Err(other) => panic!("byte {at}: {other}"),
            Ok(journal) => {
                assert!(at >= durable, "byte {at} had been durable");
                let whole = ends.iter().filter(|end| **end <= at).count() as u64;
                assert_eq!(epochs(&journal), (1..=whole).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_an_earlier_segment_is_damage_for_every_reader() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_tail(dir.path());
    let mut journal = open(dir.path());
    epoch(&mut journal, 4, 1);
    journal.sync().unwrap();
    let ends = journal.readers().view().segments[0].ends.unwrap();
    assert_eq!(epochs(&journal), [1, 2, 3, 4]);
    drop(journal);
    let path = segment::path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    assert!(ends < whole.len() as u64, "an unproven tail was copied");
    for at in 0..whole.len() {
        let to = work.path().join(at.to_string());
        copy(dir.path(), &to);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(segment::path(&to, 1), bytes).unwrap();
        let read = Journal::open(&to, Options::default()).and_then(|j| read_all(&j));
        match read {
            Err(Error::Damaged { .. }) => assert!((at as u64) < ends, "byte {at}"),
            Err(other) => panic!("byte {at}: {other}"),
            Ok(frames) => assert!(at as u64 >= ends && frames.len() == 7, "byte {at}"),
        }
    }
}

#[test]
fn r13_frames_that_an_open_wrote_anew_are_durable_without_further_proof() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_tail(dir.path());
    drop(open(dir.path()));
    let whole = fs::read(segment::path(dir.path(), 2)).unwrap();
    for at in 0..whole.len() {
        let to = work.path().join(at.to_string());
        copy(dir.path(), &to);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(segment::path(&to, 2), bytes).unwrap();
        let opened = Journal::open(&to, Options::default());
        assert!(matches!(opened, Err(Error::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn r13_a_hole_in_what_was_never_durable_is_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (durable, _) = with_tail(dir.path());
    let path = segment::path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[durable as usize..durable as usize + 20].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(
        epochs(&open(dir.path())),
        [1],
        "epoch 3 is valid, and proves nothing"
    );
}

#[test]
fn r13_bytes_of_a_batch_that_look_like_a_frame_prove_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    epoch(&mut journal, 1, 1);
    journal.sync().unwrap();
    let bad = journal.writer.end();
    let head = Head {
        kind: Kind::Last,
        seq: Seq(9),
        epoch: Epoch(9),
        synced: bad + 1,
    };
    let (body, facts) = (&b"forged"[..], &[][..]);
    let mut forged = Vec::new();
    frame::encode(&mut forged, frame::View { head, body, facts }, 0, 0);
    journal.append(Epoch(2), &forged, Some(&[])).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let path = segment::path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[bad as usize] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(epochs(&open(dir.path())), [1]);
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
fn a_missing_or_shortened_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    for number in 1..=3 {
        epoch(&mut journal, number, 1);
        journal.roll().unwrap();
    }
    drop(journal);
    let path = segment::path(dir.path(), 2);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = Journal::open(dir.path(), Options::default()).unwrap_err();
    assert!(
        error.to_string().contains("0000000002.seg is damaged"),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    let error = Journal::open(dir.path(), Options::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Missing { path: p } if *p == path),
        "{error}"
    );
}

#[test]
fn another_format_version_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = segment::path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 77;
    let end = bytes.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = Journal::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, Error::Version { found: 77, .. }), "{error}");
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
    let segments = segment::list(dir.path()).unwrap();
    assert_eq!(segments.len(), 1);
    let bytes = fs::metadata(segment::path(dir.path(), segments[0])).unwrap();
    assert_eq!(journal.bytes(), bytes.len());
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

/// What the journal must hold: everything, and how much of it a reopen must find.
#[derive(Clone, Default)]
struct Model {
    batches: Vec<(u64, Vec<u8>, bool)>,
    facts: Facts,
    retired: u64,
    epoch: u64,
}

impl Model {
    fn check(&self, journal: &Journal, dice: &mut Dice) {
        let sealed = self.batches.len() as u64;
        assert_eq!(journal.sealed().seq, Seq(sealed));
        let oldest = journal.oldest().0;
        assert!(
            oldest <= self.retired + 1,
            "{oldest} is past {}",
            self.retired
        );
        let position = oldest - 1 + dice.below(sealed + 2 - oldest);
        let mut reader = journal.readers().after(Seq(position)).unwrap();
        for (index, (epoch, body, last)) in self.batches.iter().enumerate() {
            if index as u64 >= position {
                let frame = reader.next().unwrap().expect("sealed");
                assert_eq!(frame.seq, Seq(index as u64 + 1));
                assert_eq!(
                    (frame.epoch.0, &frame.body, frame.last),
                    (*epoch, body, *last)
                );
            }
        }
        assert_eq!(reader.next().unwrap(), None);
    }
}

#[test]
fn model_random_appends_syncs_rolls_retires_and_reopens_agree_with_a_list() {
    let mut dice = Dice::new(11);
    let dir = tempfile::tempdir().unwrap();
    let mut journal = small(dir.path()).unwrap();
    let (mut durable, mut model) = (Model::default(), Model::default());
    for _ in 0..1500 {
        match dice.below(12) {
            0..=4 => {
                let before = model.clone();
                model.epoch += 1 + dice.below(3);
                let batches = 1 + dice.below(3);
                for index in 1..=batches {
                    let body = vec![index as u8; dice.below(200) as usize];
                    let name = format!("fact {}", dice.below(9));
                    let value = (!dice.once_in(3)).then(|| model.epoch.to_string());
                    let end = (index == batches).then(|| vec![(name, value)]);
                    let seq = journal
                        .append(Epoch(model.epoch), &body, end.as_deref())
                        .unwrap();
                    model.batches.push((model.epoch, body, end.is_some()));
                    assert_eq!(seq, Seq(model.batches.len() as u64));
                    facts::apply(&mut model.facts, end.into_iter().flatten());
                    if dice.once_in(6) && index < batches {
                        journal.sync().unwrap();
                        durable = before.clone();
                    }
                }
            }
            5 | 6 => {
                let changes = [fact(&format!("control {}", dice.below(5)), "x")];
                journal.record(&changes).unwrap();
                facts::apply(&mut model.facts, changes);
            }
            7 | 8 => {
                journal.sync().unwrap();
                durable = model.clone();
            }
            9 => {
                journal.roll().unwrap();
                durable = model.clone();
            }
            10 => {
                journal.sync().unwrap();
                let held = model.batches.len() as u64 - model.retired;
                model.retired += dice.below(held + 1);
                durable = model.clone();
                journal.retire(Seq(model.retired)).unwrap();
            }
            _ => {
                let abandoned = dice.once_in(2);
                if abandoned {
                    journal
                        .append(Epoch(model.epoch + 1), b"half", None)
                        .unwrap();
                }
                if dice.once_in(2) {
                    journal.sync().unwrap();
                    durable = model.clone();
                }
                drop(journal);
                journal = small(dir.path()).unwrap();
                // What was not synced was in the buffer only.
                model = durable.clone();
                model.check(&journal, &mut dice);
            }
        }
        assert_eq!(journal.facts(), &model.facts);
        if journal.sealed().seq == Seq(durable.batches.len() as u64) {
            durable.check(&journal, &mut dice);
        }
    }
    journal.sync().unwrap();
    model.check(&journal, &mut dice);
}

//! Files that are cut, flipped, holed and of another format.

use std::fs;

use super::fuzz::{journal_of, written};
use super::power::Power;
use super::*;
use crate::dice::Dice;

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

/// What a frame would have to say that proves damage at `bad`.
fn forged(bad: u64) -> Head {
    Head {
        kind: Kind::Last,
        seq: Seq(9),
        epoch: Epoch(9),
        synced: bad + 1,
    }
}

#[test]
fn r13_bytes_of_a_batch_that_look_like_a_frame_prove_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    epoch(&mut journal, 1, 1);
    journal.sync().unwrap();
    let bad = journal.writer.end();
    let head = forged(bad);
    let (body, facts) = (&b"forged"[..], &[][..]);
    let view = frame::View { head, body, facts };
    let file = journal.dir.read(&segment::name(1)).unwrap();
    let salt = segment::read(&file, 1).unwrap().salt;
    let mut forged = Vec::new();
    frame::encode(&mut forged, view, 0, 0);
    // Its head passes, as one in 16 million does.
    let at = bad + (frame::HEAD_BYTES + forged.len()) as u64;
    frame::encode(&mut forged, view, salt, at);
    *forged.last_mut().unwrap() ^= 1;
    journal.append(Epoch(2), &forged, Some(&[])).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let path = segment::path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[bad as usize] ^= 1;
    let head = bytes[at as usize..].first_chunk().unwrap();
    assert!(frame::head(head, salt, at).is_some());
    fs::write(&path, bytes).unwrap();
    assert_eq!(epochs(&open(dir.path())), [1]);
}

#[test]
fn r13_bytes_of_a_batch_that_look_like_heads_are_not_hashed() {
    let power = Power::new(Dice::new(7));
    let dir = Path::new("journal");
    let open = || Journal::open_on(power.disk(), dir, Options::default()).unwrap();
    let mut journal = open();
    epoch(&mut journal, 1, 1);
    journal.sync().unwrap();
    let bad = journal.writer.end();
    let head = forged(bad);
    // More than is read at once: to hash one of them is to read the file again.
    let (body, facts) = (&vec![b' '; 1 << 20][..], &[][..]);
    let forged = frame::fixed(frame::View { head, body, facts }, 0, 0).repeat(500);
    let forged = [&forged, body].concat();
    epoch(&mut journal, 2, 1);
    journal.append(Epoch(3), &forged, Some(&[])).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let path = segment::path(dir, 1);
    let mut bytes = power.content(&path);
    bytes[bad as usize] ^= 1;
    power.put(&path, bytes);
    let before = power.calls();
    assert_eq!(epochs(&open()), [1]);
    let calls = power.calls() - before;
    assert!(calls < 100, "{calls} calls");
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
fn r13_every_flipped_bit_of_two_segments_is_damage_where_the_bytes_had_been_durable() {
    let written = written();
    let (proven, batches) = written.proven;
    let [first, second] = &written.files;
    let ends = u64::from_le_bytes(second[32..40].try_into().unwrap()) as usize;
    assert!(
        ends < first.len() && proven < second.len(),
        "some of both is not proven"
    );
    for (file, limit, least) in [(0, ends, written.frames.len()), (1, proven, batches)] {
        for bit in 0..8 * written.files[file].len() {
            let mut files = written.files.clone();
            files[file][bit / 8] ^= 1 << (bit % 8);
            let journal = journal_of([Some(&files[0]), Some(&files[1])]);
            match journal.and_then(|journal| read_all(&journal)) {
                Ok(frames) => {
                    assert!(bit / 8 >= limit, "file {file}, bit {bit}: had been durable");
                    assert!(written.frames.starts_with(&frames) && frames.len() >= least);
                }
                Err(Error::Damaged { .. }) => assert!(bit / 8 < limit, "file {file}, bit {bit}"),
                Err(other) => panic!("file {file}, bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn r13_every_truncation_of_a_segment_is_damage_or_loses_what_nothing_proves() {
    let written = written();
    let [first, second] = &written.files;
    let ends = u64::from_le_bytes(second[32..40].try_into().unwrap()) as usize;
    let base = u64::from_le_bytes(second[56..64].try_into().unwrap()) as usize;
    for cut in 0..first.len() {
        let read = journal_of([Some(&first[..cut]), Some(second)]).and_then(|j| read_all(&j));
        match read {
            Ok(frames) => assert!(cut >= ends && frames == written.frames, "cut {cut}"),
            Err(error) => assert!(
                cut < ends && matches!(error, Error::Damaged { .. }),
                "cut {cut}: {error}"
            ),
        }
    }
    let mut most = 0;
    for cut in 0..second.len() {
        let read = journal_of([Some(first), Some(&second[..cut])]).and_then(|j| read_all(&j));
        match read {
            Ok(frames) => {
                assert!(
                    cut >= base && written.frames.starts_with(&frames),
                    "cut {cut}"
                );
                // Whole epochs, and never fewer of more bytes.
                assert!(
                    frames.last().unwrap().last && frames.len() >= most,
                    "cut {cut}"
                );
                most = frames.len();
            }
            Err(error) => assert!(
                cut < base && matches!(error, Error::Damaged { .. }),
                "cut {cut}: {error}"
            ),
        }
    }
    assert_eq!(most, written.proven.1, "all but the last epoch");
}

#[test]
fn a_segment_that_is_something_else_is_damage_and_one_that_is_gone_is_missed() {
    let written = written();
    let [first, second] = &written.files;
    let zeros = vec![0; first.len()];
    let text =
        b"certainly not a segment, although it is longer than the shortest header is".repeat(9);
    for other in [&[][..], &zeros, &text] {
        for files in [
            [Some(other), Some(&second[..])],
            [Some(&first[..]), Some(other)],
        ] {
            let error = journal_of(files).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }
    for files in [[Some(second), Some(second)], [Some(first), Some(first)]] {
        let error = journal_of(files.map(|file| file.map(Vec::as_slice))).unwrap_err();
        assert!(
            error.to_string().contains("that of another segment"),
            "{error}"
        );
    }
    // Without the first it is a journal that was retired: who is not that far finds out (R16).
    let journal = journal_of([None, Some(second)]).unwrap();
    let error = journal.readers().after(Seq(0)).unwrap_err();
    assert!(
        matches!(error, Error::Position { first: Seq(2), .. }),
        "{error}"
    );
    // Without the last it is an older journal: who was further finds out (R16).
    let journal = journal_of([Some(first), None]).unwrap();
    let end = Seq(written.frames.len() as u64);
    assert!(journal.sealed().seq < end);
    let error = journal.readers().after(end).unwrap_err();
    assert!(matches!(error, Error::Position { .. }), "{error}");
}

//! Frames of any length, written alone or together, are read in their order.

use super::*;
use crate::dice::Dice;

#[test]
fn frames_of_any_length_are_read_one_after_another() {
    const LENGTHS: [usize; 9] = [
        300 << 10,
        3 << 20,
        10,
        1 << 20,
        0,
        (256 << 10) - 48,
        (256 << 10) - 47,
        3 << 19,
        700 << 10,
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let body = |index: usize| {
        let mut dice = Dice::from(index as u64);
        let words = (0..=LENGTHS[index] / 8).flat_map(|_| dice.word().to_le_bytes());
        words.take(LENGTHS[index]).collect::<Vec<u8>>()
    };
    let mut reader = journal.readers().after(Seq(0)).unwrap();
    let mut read = Vec::new();
    for (index, number) in (0..LENGTHS.len()).zip(1..) {
        journal
            .append(Epoch(number), &body(index), Some(&[]))
            .unwrap();
        // Some alone, some of them together.
        if index % 4 != 1 {
            journal.sync().unwrap();
            read.extend(std::iter::from_fn(|| reader.next().unwrap()));
        }
    }
    let all: Vec<Vec<u8>> = (0..LENGTHS.len()).map(body).collect();
    for frames in [read, read_all(&journal).unwrap()] {
        let bodies: Vec<Vec<u8>> = frames.into_iter().map(|frame| frame.body).collect();
        assert!(bodies == all, "a body is another");
    }
}

#[test]
fn frames_stand_in_order_whether_they_were_gathered_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let full = segment::BUFFER_BYTES - frame::HEAD_BYTES;
    let lengths = [3, full, full - 1, 5, full + 1, full, full / 2, 0];
    let facts = [fact("large", &"x".repeat(full))];
    let mut expected = Vec::new();
    for (length, epoch) in lengths.into_iter().cycle().zip(1..=25) {
        let body: Vec<u8> = (0..length).map(|at| (at + epoch) as u8).collect();
        let facts = if epoch % 6 == 0 { &facts[..] } else { &[] };
        let epoch = Epoch(epoch as u64);
        journal.append(epoch, &body, Some(facts)).unwrap();
        if epoch.0.is_multiple_of(4) {
            journal.sync().unwrap();
        }
        let path = segment::path(dir.path(), journal.writer.number());
        let gathered = journal.writer.end() - fs::metadata(path).unwrap().len();
        assert!(gathered < segment::BUFFER_BYTES as u64, "{gathered}");
        expected.push((epoch, body));
    }
    journal.sync().unwrap();
    for _ in 0..2 {
        let read = read_all(&journal).unwrap().into_iter();
        let read: Vec<_> = read.map(|frame| (frame.epoch, frame.body)).collect();
        assert!(read == expected);
        assert_eq!(journal.facts()["large"].len(), full);
        drop(journal);
        journal = open(dir.path());
    }
}

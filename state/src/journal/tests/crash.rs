//! The journal on a disk that forgets: power cuts, kills and errors at every call and at random ones.
//!
//! What was done is a list of events: whole epochs and control frames. After a reopen the journal must
//! be what the first `k` of them make, `k` being no less than what a sync returned for, or an earlier
//! reopen showed; and never less than that, however the disk forgot.

use std::io::ErrorKind;

use super::power::{Power, Trouble};
use super::*;
use crate::dice::Dice;

const DIR: &str = "journal";
/// Operations of the workload in which there is trouble at each call in turn.
const OPERATIONS: usize = 80;
const OPTIONS: Options = Options { segment_bytes: 700 };

/// A whole epoch, or a control frame, which has no batches.
#[derive(Clone, Debug)]
struct Event {
    epoch: u64,
    bodies: Vec<Vec<u8>>,
    facts: Vec<FactChange>,
}

/// What was done to a journal, and how much of it must be there.
struct World {
    power: Power,
    dice: Dice,
    events: Vec<Event>,
    /// So many events are durable.
    floor: usize,
    /// Everything up to this may be gone.
    retired: u64,
}

/// What one operation of a workload came to.
type Outcome = Result<(), Error>;

impl World {
    fn new(dice: &mut Dice) -> World {
        World {
            power: Power::new(dice.fork()),
            dice: dice.fork(),
            events: Vec::new(),
            floor: 0,
            retired: 0,
        }
    }

    fn open(&self) -> Result<Journal, Error> {
        Journal::open_on(self.power.disk(), Path::new(DIR), OPTIONS)
    }

    fn batches(&self, events: usize) -> u64 {
        let bodies = self.events[..events].iter().map(|event| event.bodies.len());
        bodies.sum::<usize>() as u64
    }

    /// Opens, and finds what must be there; what is found is durable from now on.
    fn reopen(&mut self) -> Journal {
        let journal = self.open().expect("nothing that was durable is damaged");
        self.check(&journal);
        journal
    }

    fn check(&mut self, journal: &Journal) {
        let found = journal
            .facts()
            .get("serial")
            .map_or(0, |s| s.parse().unwrap());
        assert!(
            self.floor <= found && found <= self.events.len(),
            "{found} events of {} to {}",
            self.floor,
            self.events.len()
        );
        self.events.truncate(found);
        self.floor = found;
        let mut facts = Facts::new();
        for event in &self.events {
            facts::apply(&mut facts, event.facts.iter().cloned());
        }
        assert_eq!(journal.facts(), &facts);
        let sealed = journal.sealed();
        assert_eq!(sealed.seq, Seq(self.batches(found)), "no half of an epoch");
        let (oldest, position) = (journal.oldest().0, position(&facts));
        assert!(
            oldest <= self.retired + 1 && oldest <= position + 1,
            "{oldest}: {position}"
        );
        assert!(position <= sealed.seq.0, "a position beyond the end");
        let mut read = read_all(journal).unwrap().into_iter();
        let mut seq = 0;
        for event in &self.events {
            for (index, body) in event.bodies.iter().enumerate() {
                seq += 1;
                if seq >= oldest {
                    let frame = read.next().expect("sealed");
                    let last = index + 1 == event.bodies.len();
                    let expected = (seq, event.epoch, last, body);
                    assert_eq!(
                        (frame.seq.0, frame.epoch.0, frame.last, &frame.body),
                        expected
                    );
                }
            }
        }
        assert_eq!(read.next(), None);
        journal.readers().after(Seq(position)).expect("R16");
    }

    fn serial(&self) -> FactChange {
        fact("serial", &(self.events.len() + 1).to_string())
    }

    fn append(&mut self, journal: &mut Journal) -> Outcome {
        let last = self.events.iter().map(|event| event.epoch).max();
        let epoch = last.unwrap_or(0) + 1 + self.dice.below(3);
        let batches = 1 + self.dice.below(3) as usize;
        // Now and then more than what is gathered before it is written.
        let bytes = if self.dice.once_in(40) {
            1_500_000
        } else {
            150
        };
        let body = |dice: &mut Dice| vec![dice.word() as u8; dice.below(bytes) as usize];
        let bodies: Vec<_> = (0..batches).map(|_| body(&mut self.dice)).collect();
        let name = format!("fact {}", self.dice.below(6));
        let value = (!self.dice.once_in(3)).then(|| epoch.to_string());
        let facts = vec![self.serial(), (name, value)];
        for (index, body) in bodies.iter().enumerate() {
            let end = index + 1 == batches;
            if end {
                // Before the call: what fails may be there all the same.
                let (bodies, facts) = (bodies.clone(), facts.clone());
                self.events.push(Event {
                    epoch,
                    bodies,
                    facts,
                });
            }
            journal.append(Epoch(epoch), body, end.then_some(&facts[..]))?;
            if !end && self.dice.once_in(5) {
                journal.sync()?;
                self.floor = self.events.len();
            }
        }
        Ok(())
    }

    fn record(&mut self, journal: &mut Journal, more: FactChange) -> Outcome {
        let facts = vec![self.serial(), more];
        let (epoch, bodies) = (0, Vec::new());
        self.events.push(Event {
            epoch,
            bodies,
            facts: facts.clone(),
        });
        journal.record(&facts)
    }

    fn sync(&mut self, journal: &mut Journal) -> Outcome {
        let sealed = journal.sync()?;
        self.floor = self.events.len();
        assert_eq!(sealed.seq, Seq(self.batches(self.floor)));
        Ok(())
    }

    /// One random operation.
    fn act(&mut self, journal: &mut Journal) -> Outcome {
        match self.dice.below(10) {
            0..=4 => self.append(journal),
            5 => {
                let name = format!("fact {}", self.dice.below(6));
                self.record(journal, fact(&name, "control"))
            }
            6 | 7 => self.sync(journal),
            8 => {
                journal.roll()?;
                self.floor = self.events.len();
                Ok(())
            }
            _ => {
                // As the ledger does it: a position that is sealed, then what it no longer needs.
                self.sync(journal)?;
                let (sealed, from) = (journal.sealed().seq.0, position(journal.facts()));
                let to = from + self.dice.below(sealed - from + 1);
                self.record(journal, fact("position", &to.to_string()))?;
                self.retired = to;
                let before = journal.oldest();
                journal.retire(Seq(to))?;
                if journal.oldest() > before {
                    self.floor = self.events.len();
                }
                Ok(())
            }
        }
    }

    /// Acts until something fails, or so often.
    fn work(&mut self, journal: &mut Journal, operations: usize) -> Outcome {
        for _ in 0..operations {
            self.act(journal)?;
        }
        self.sync(journal)
    }
}

fn position(facts: &Facts) -> u64 {
    facts
        .get("position")
        .map_or(0, |text| text.parse().unwrap())
}

#[test]
fn crash_r12_r13_r14_power_cuts_and_kills_at_random_moments_lose_nothing_that_was_sealed() {
    let mut dice = Dice::new(51);
    for _ in 0..120 {
        let mut world = World::new(&mut dice);
        for _ in 0..12 {
            world.power.trouble_in(1 + dice.below(60), Trouble::End);
            let worked = world.open().and_then(|mut journal| {
                world.power.no_trouble();
                world.check(&journal);
                world.power.trouble_in(1 + dice.below(80), Trouble::End);
                world.work(&mut journal, 40)
            });
            assert!(
                worked.is_ok() || matches!(worked, Err(Error::Io { .. })),
                "{worked:?}"
            );
            // A kill first, as often as not: what it leaves in the cache may yet be lost.
            if dice.once_in(2) {
                world.power.restart();
                drop(world.reopen());
            }
            if !dice.once_in(3) {
                world.power.cut();
            }
            world.power.restart();
        }
        let mut journal = world.reopen();
        world.work(&mut journal, 10).unwrap();
        world.check(&journal);
    }
}

/// The same workload each time, and how many calls it makes.
fn fixed() -> (World, Journal) {
    let mut world = World::new(&mut Dice::from(52));
    let mut journal = world.reopen();
    world.work(&mut journal, 25).unwrap();
    drop(journal);
    let journal = world.reopen();
    (world, journal)
}

fn calls_of_open() -> u64 {
    let (world, journal) = fixed();
    drop(journal);
    let before = world.power.calls();
    world.open().unwrap();
    world.power.calls() - before
}

fn calls_of_fixed() -> u64 {
    let (mut world, mut journal) = fixed();
    let before = world.power.calls();
    world.work(&mut journal, OPERATIONS).unwrap();
    let calls = world.power.calls() - before;
    assert!(calls > 100, "{calls}: enough to be worth it");
    calls
}

#[test]
fn crash_r12_r13_r14_a_power_cut_at_any_call_and_at_any_call_of_the_reopen_loses_nothing() {
    for call in 1..=calls_of_fixed() {
        for again in 1.. {
            let (mut world, mut journal) = fixed();
            world.power.trouble_in(call, Trouble::End);
            world.work(&mut journal, OPERATIONS).unwrap_err();
            drop(journal);
            world.power.cut();
            world.power.trouble_in(again, Trouble::End);
            let opened = world.open();
            world.power.cut();
            let mut journal = world.reopen();
            world.work(&mut journal, 5).unwrap();
            drop(journal);
            world.power.cut();
            world.reopen();
            if opened.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn crash_r14_a_kill_at_any_call_then_a_power_cut_takes_nothing_that_the_reopen_showed() {
    for call in 1..=calls_of_fixed() {
        let (mut world, mut journal) = fixed();
        world.power.trouble_in(call, Trouble::End);
        world.work(&mut journal, OPERATIONS).unwrap_err();
        drop(journal);
        world.power.restart();
        drop(world.reopen());
        world.power.cut();
        world.reopen();
    }
}

/// Two opens that died may both have named a segment, of which the power cut takes the first only.
#[test]
fn crash_r14_kills_of_two_opens_then_a_power_cut_leave_no_gap() {
    // The last calls are those that name it; each segment makes some more.
    let calls = calls_of_open();
    let last = calls - 2..=calls + 10;
    for (first, second) in last.clone().flat_map(|a| last.clone().map(move |b| (a, b))) {
        for luck in 0..40 {
            let (mut world, mut journal) = fixed();
            world.append(&mut journal).unwrap();
            journal.writer.write().unwrap();
            drop(journal);
            world.power.luck(luck);
            for call in [first, second] {
                world.power.trouble_in(call, Trouble::End);
                let _ = world.open();
                world.power.restart();
            }
            world.power.cut();
            world.reopen();
        }
    }
}

#[test]
fn r15_after_an_error_at_any_call_every_later_call_fails_and_the_reopen_goes_on() {
    let kinds = [
        ErrorKind::StorageFull,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::Other,
    ];
    for (call, kind) in (1..=calls_of_fixed()).zip(kinds.into_iter().cycle()) {
        for lasting in [false, true] {
            let (mut world, mut journal) = fixed();
            let trouble = if lasting {
                Trouble::Lasting(kind)
            } else {
                Trouble::Error(kind)
            };
            world.power.trouble_in(call, trouble);
            let error = world.work(&mut journal, OPERATIONS).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
            let same = |later: Option<Error>| {
                let later = later.expect("no later call succeeds").to_string();
                assert_eq!(later, error.to_string(), "call {call}");
            };
            same(journal.sync().err());
            same(journal.retire(Seq(u64::MAX - 1)).err());
            if journal.state.open.is_none() {
                same(journal.record(&[]).err());
                same(journal.roll().err());
                same(journal.append(Epoch(u64::MAX), b"", Some(&[])).err());
            }
            drop(journal);
            world.power.restart();
            if world.dice.once_in(2) {
                world.power.cut();
            }
            let mut journal = world.reopen();
            world.work(&mut journal, 5).unwrap();
            drop(journal);
            world.power.cut();
            world.reopen();
        }
    }
}

#[test]
fn r15_after_a_failed_fsync_nothing_is_said_to_be_durable_that_a_power_cut_takes() {
    for lost in 0..20 {
        let mut world = World::new(&mut Dice::from(60 + lost));
        let mut journal = world.reopen();
        world.append(&mut journal).unwrap();
        // The write is the first call.
        world.power.trouble_in(2, Trouble::Error(ErrorKind::Other));
        journal.sync().unwrap_err();
        let said = journal.sync().unwrap_or_default();
        let seen = read_all(&journal).unwrap().len() as u64;
        drop(journal);
        world.power.cut();
        let sealed = world.reopen().sealed();
        assert!(
            said.seq <= sealed.seq && seen <= sealed.seq.0,
            "{said:?} {seen} {sealed:?}"
        );
    }
}

#[test]
fn an_error_while_opening_names_the_file_and_changes_nothing() {
    for call in 1..=calls_of_open() {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::StorageFull] {
            let (mut world, journal) = fixed();
            drop(journal);
            world.power.trouble_in(call, Trouble::Error(kind));
            let error = world.open().unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
            let text = error.to_string();
            assert!(
                text.starts_with("cannot ") && text.contains(" journal"),
                "{text}"
            );
            world.power.restart();
            world.reopen();
        }
    }
}

#[test]
fn a_journal_that_cannot_be_written_to_is_a_clear_error() {
    let (world, journal) = fixed();
    drop(journal);
    let kind = ErrorKind::ReadOnlyFilesystem;
    world.power.trouble_in(1, Trouble::Lasting(kind));
    let error = world.open().unwrap_err().to_string();
    assert!(
        error.starts_with("cannot create journal/00000000"),
        "{error}"
    );
    assert!(error.ends_with(&format!(".seg.new: {kind}")), "{error}");
}

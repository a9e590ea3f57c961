//! Two passes over the durable steps of the journal and of the store. Pass one runs a fixed workload and
//! counts the steps; pass two has the process abort at each in turn, restarts it, aborts that at a step
//! of the opening, and compares what is there with what was acknowledged.
//!
//! The process is this program itself, told by `DELTAPOLL_CHILD` which directory to work on.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use deltapoll_state::dice::Dice;
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::store::{PageStore, SledStore};
use deltapoll_state::word::{Epoch, Seq};

const CHILD: &str = "DELTAPOLL_CHILD";
const EPOCHS: u64 = 30;
const ROUNDS: u64 = 14;

/// Every step that the journal's module names.
const JOURNAL_STEPS: [&str; 18] = [
    "journal.batch",
    "journal.control",
    "journal.open.surveyed",
    "journal.open.synced",
    "journal.open.temporary",
    "journal.retire.before",
    "journal.retire.removed",
    "journal.retire.synced",
    "journal.sealed",
    "journal.segment.created",
    "journal.segment.published",
    "journal.segment.renamed",
    "journal.segment.synced",
    "journal.segment.written",
    "journal.sync.after",
    "journal.sync.before",
    "journal.write.after",
    "journal.write.before",
];

/// Every step that the store's module names.
const STORE_STEPS: [&str; 17] = [
    "store.apply.after",
    "store.apply.before",
    "store.copy.before",
    "store.copy.made",
    "store.copy.removed",
    "store.copy.switched",
    "store.copy.synced",
    "store.current.renamed",
    "store.current.synced",
    "store.current.written",
    "store.flush.before",
    "store.flush.flushed",
    "store.flush.synced",
    "store.open.created",
    "store.open.removed",
    "store.open.synced",
    "store.open.verified",
];

/// What a workload acknowledges: the last number in the file `acknowledged`.
fn acknowledge(dir: &Path, number: u64) {
    fs::write(dir.join("acknowledged.new"), number.to_string()).unwrap();
    fs::rename(dir.join("acknowledged.new"), dir.join("acknowledged")).unwrap();
}

fn acknowledged(dir: &Path) -> u64 {
    let text = fs::read_to_string(dir.join("acknowledged"));
    text.map_or(0, |text| text.parse().unwrap())
}

fn batches(epoch: u64) -> Vec<Vec<u8>> {
    let mut dice = Dice::from(epoch);
    let body = |dice: &mut Dice| vec![dice.word() as u8; dice.below(300) as usize];
    (0..1 + epoch % 3).map(|_| body(&mut dice)).collect()
}

fn seq_of(epoch: u64) -> u64 {
    (1..=epoch).map(|epoch| batches(epoch).len() as u64).sum()
}

fn open_journal(dir: &Path) -> Journal {
    Journal::open(
        &dir.join("journal"),
        Options {
            segment_bytes: 1500,
        },
    )
    .unwrap()
}

fn fact(name: &str, value: u64) -> (String, Option<String>) {
    (name.to_owned(), Some(value.to_string()))
}

fn use_journal(dir: &Path) {
    // A start that was not finished.
    fs::create_dir_all(dir.join("journal")).unwrap();
    fs::write(dir.join("journal/0000000099.seg.new"), b"half").unwrap();
    let mut journal = open_journal(dir);
    for epoch in journal.sealed().epoch.0 + 1..=EPOCHS {
        let batches = batches(epoch);
        for (index, body) in batches.iter().enumerate() {
            let facts = [fact("epoch", epoch)];
            let end = (index + 1 == batches.len()).then_some(&facts[..]);
            journal.append(Epoch(epoch), body, end).unwrap();
        }
        if epoch.is_multiple_of(2) {
            let sealed = journal.sync().unwrap();
            acknowledge(dir, sealed.epoch.0);
            let position = seq_of(epoch.saturating_sub(5));
            journal.record(&[fact("position", position)]).unwrap();
            journal.retire(Seq(position)).unwrap();
        }
    }
}

fn check_journal(dir: &Path) {
    let journal = open_journal(dir);
    let sealed = journal.sealed();
    assert!(sealed.epoch.0 >= acknowledged(dir), "{sealed:?}");
    assert_eq!(sealed.seq.0, seq_of(sealed.epoch.0));
    let number = |name: &str| {
        journal
            .facts()
            .get(name)
            .map_or(0, |text| text.parse().unwrap())
    };
    assert_eq!(
        number("epoch"),
        sealed.epoch.0,
        "facts change with their epoch"
    );
    // R16: what a follower is past may be gone, and nothing else.
    let mut reader = journal.readers().after(Seq(number("position"))).unwrap();
    for epoch in 1..=sealed.epoch.0 {
        let before = seq_of(epoch - 1);
        for (seq, body) in (before + 1..).zip(batches(epoch)) {
            if seq > number("position") {
                let frame = reader.next().unwrap().expect("sealed");
                assert_eq!((frame.seq.0, frame.epoch.0, frame.body), (seq, epoch, body));
            }
        }
    }
    assert_eq!(reader.next().unwrap(), None);
}

type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What a round writes; its number is in it.
fn round(number: u64) -> Batch {
    let mut dice = Dice::from(number);
    let mut batch = vec![(b"round".to_vec(), Some(number.to_le_bytes().to_vec()))];
    for key in 0..300_u32 {
        if dice.once_in(2) {
            let value = (!dice.once_in(9)).then(|| vec![number as u8; 4000]);
            batch.push((key.to_be_bytes().to_vec(), value));
        }
    }
    batch
}

fn open_store(dir: &Path) -> SledStore {
    let store = SledStore::open(&dir.join("state"), 1 << 20).unwrap();
    store.copying_from(0)
}

fn round_of(store: &SledStore) -> u64 {
    let bytes = store.get(b"round").unwrap();
    bytes.map_or(0, |bytes| u64::from_le_bytes((*bytes).try_into().unwrap()))
}

fn use_store(dir: &Path) {
    let store = open_store(dir);
    for number in round_of(&store) + 1..=ROUNDS {
        store.apply(round(number)).unwrap();
        if number.is_multiple_of(2) {
            store.flush().unwrap();
            acknowledge(dir, number);
        }
    }
}

fn check_store(dir: &Path) {
    let store = open_store(dir);
    let last = round_of(&store);
    assert!(last >= acknowledged(dir), "round {last}");
    let mut expected = BTreeMap::new();
    for number in 1..=last {
        for (key, value) in round(number) {
            match value {
                Some(value) => expected.insert(key, value),
                None => expected.remove(&key),
            };
        }
    }
    let pairs = store.range(b"", &[0xfe; 8]).map(Result::unwrap);
    let found: BTreeMap<_, _> = pairs
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    assert!(
        found == expected,
        "round {last}: {} pairs of {}",
        found.len(),
        expected.len()
    );
}

/// A workload, how to check what it left, and the steps that it has to reach.
struct Plan {
    /// The test that is the process.
    name: &'static str,
    steps: &'static [&'static str],
    check: fn(&Path),
}

/// Runs the workload of `plan` in `dir` in a process of its own, until its end or until it aborts.
fn run(plan: &Plan, dir: &Path, variable: (&str, &str)) -> bool {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", plan.name])
        .env(CHILD, dir)
        .env(variable.0, variable.1)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let ended = output.status.success();
    assert!(ended || !text.contains("panicked"), "{variable:?}: {text}");
    ended
}

/// Pass one: how often each step is reached.
fn count(plan: &Plan) -> BTreeMap<String, u64> {
    let (dir, steps) = (
        tempfile::tempdir().unwrap(),
        tempfile::NamedTempFile::new().unwrap(),
    );
    // Twice, so that the second finds something to open.
    for _ in 0..2 {
        assert!(run(
            plan,
            dir.path(),
            ("DELTAPOLL_STEPS", steps.path().to_str().unwrap())
        ));
        (plan.check)(dir.path());
    }
    let mut counts = BTreeMap::new();
    for step in fs::read_to_string(steps.path()).unwrap().lines() {
        *counts.entry(step.to_owned()).or_default() += 1;
    }
    counts
}

/// Pass two: at each step, the first time and another.
fn crash_at_every_step(plan: &Plan) {
    let counts = count(plan);
    let known: BTreeSet<&str> = plan.steps.iter().copied().collect();
    let unknown: Vec<_> = counts
        .keys()
        .filter(|step| !known.contains(step.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "steps that are not in the list: {unknown:?}"
    );
    let opening = plan.steps.iter().filter(|step| step.contains(".open"));
    let mut opening = opening.cycle();
    let mut dice = Dice::new(61);
    let (mut crashes, mut again) = (0, 0);
    for step in plan.steps {
        let most = counts.get(*step).copied().unwrap_or(1);
        let other = 2 + dice.below(most.saturating_sub(1).max(1));
        for n in BTreeSet::from([1, other]) {
            let dir = tempfile::tempdir().unwrap();
            let first = format!("{step}:{n}");
            let second = format!("{}:1", opening.next().expect("there are some"));
            crashes += u32::from(!run(plan, dir.path(), ("DELTAPOLL_CRASH", &first)));
            again += u32::from(!run(plan, dir.path(), ("DELTAPOLL_CRASH", &second)));
            println!("{}: {first}, then {second}", plan.name);
            (plan.check)(dir.path());
            assert!(run(plan, dir.path(), ("DELTAPOLL_CRASH", "")));
            (plan.check)(dir.path());
        }
    }
    let steps = plan.steps.len() as u32;
    assert!(
        crashes >= steps - 2 && again > steps / 2,
        "{crashes} and {again} of {steps}"
    );
}

/// The process, if this is one; otherwise the workload has to come to its end here.
fn workload(work: fn(&Path), check: fn(&Path)) {
    if let Some(dir) = std::env::var_os(CHILD) {
        return work(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    work(dir.path());
    check(dir.path());
}

#[test]
fn workload_of_the_journal_comes_to_its_end() {
    workload(use_journal, check_journal);
}

#[test]
fn workload_of_the_store_comes_to_its_end() {
    workload(use_store, check_store);
}

#[test]
fn crash_r12_r14_r30_at_every_step_of_the_journal_loses_nothing_that_was_acknowledged() {
    crash_at_every_step(&Plan {
        name: "workload_of_the_journal_comes_to_its_end",
        steps: &JOURNAL_STEPS,
        check: check_journal,
    });
}

#[test]
fn crash_r28_at_every_step_of_the_store_leaves_a_batch_whole_or_absent() {
    crash_at_every_step(&Plan {
        name: "workload_of_the_store_comes_to_its_end",
        steps: &STORE_STEPS,
        check: check_store,
    });
}

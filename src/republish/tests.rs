//! Republish on a real journal and a real store.

use super::*;
use crate::change::Batch;
use crate::config::parse;
use crate::dataflow::replay::replay;
use crate::fault::Exit;
use crate::follower::Logs;
use crate::io::json::hash;
use crate::io::kafka::topics::Topic;
use crate::snapshot::Plan;

const KEYS: [&str; 3] = ["x:a", "x:b", "x:c"];
const SEED: u64 = 11;

fn config(more: &str) -> Config {
    let text = format!(
        "name = \"n\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\nrecord_key = \"x:{{key}}\"\n\
         {more}\n[source.other]\nurl = \"http://h\"\nkey = [\"/id\"]\n"
    );
    parse(&text, "test").unwrap()
}

fn kafka(more: &str) -> Config {
    let mut config = config(more);
    let text = "name = \"n\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\n[kafka]\n\
                bootstrap = \"k:9092\"\n";
    config.kafka = parse(text, "test").unwrap().kafka;
    config
}

fn print(canon: u64) -> Fingerprint {
    Fingerprint {
        raw: 7,
        canon,
        rule: 1,
    }
}

/// A directory that polled under `config`, with every follower at the end.
fn polled(config: &Config, at: &std::path::Path) -> (CellId, CellId) {
    let directory = Directory::open(at).unwrap();
    let ledger = &directory.ledger;
    let cells = identity::assign(config, ledger).unwrap().cells;
    let lineage = lineage::open(ledger).unwrap();
    let pages = directory.pages(&lineage.id, Seq(0)).unwrap();
    let id = |source: &str| cells.iter().find(|(_, c)| c.source == source).unwrap().0;
    let (s, other) = (id("s"), id("other"));
    let keeps = config.source["s"].removed != Removed::Ignore;
    let mut hashes: Vec<_> = KEYS
        .iter()
        .map(|key| (hash::key(SEED, key.as_bytes()), *key))
        .collect();
    hashes.sort();
    let updates: Vec<_> = (1..)
        .zip(&hashes)
        .map(|(canon, (hash, key))| Update {
            hash: *hash,
            print: Some(print(canon)),
            key: if keeps { key.as_bytes() } else { b"" },
        })
        .collect();
    pages.merge(s, Range::ALL, &updates).unwrap();
    pages.merge(other, Range::ALL, &updates[..1]).unwrap();
    let mut writer = Writer::new(&directory);
    let mut builder = Builder::new(&Head {
        cell: s,
        polled_at: 1,
        topic: config.topic("s").to_owned(),
        source: "s".into(),
        label: String::new(),
    });
    for (canon, (hash, key)) in (1..).zip(&hashes) {
        builder.push(&Change {
            kind: Kind::Added,
            partition: 0,
            hash: *hash,
            print: print(canon),
            key,
            value: Some(b"{}"),
            silent: false,
        });
    }
    writer.push(builder.take());
    let topic = Topic {
        id: Some("t1".into()),
        partitions: 3,
        max_message_bytes: 1,
    };
    let topic = serde_json::to_string(&topic).unwrap();
    let mut facts = vec![
        (validators_fact(s), Some("old".to_owned())),
        (Place::fact(s), Some("1".to_owned())),
        (Place::fact(other), Some("1".to_owned())),
        (topics::fact("s"), Some(topic.clone())),
        (topics::fact("other"), Some(topic)),
    ];
    for who in [Who::Remember, Who::Publish] {
        facts.push((who.fact().to_owned(), Some("1".to_owned())));
    }
    writer.finish(facts).unwrap();
    crate::directory::flush_pages(&pages, Seq(1)).unwrap();
    (s, other)
}

fn unasked(_: &[&str], _: &dyn Facts) -> Result<Vec<Seen>, Fault> {
    panic!("the local topic log is not asked for")
}

fn seen(id: &str, partitions: u32) -> impl Fn(&[&str], &dyn Facts) -> Result<Vec<Seen>, Fault> {
    let topic = Topic {
        id: Some(id.to_owned()),
        partitions,
        max_message_bytes: 0,
    };
    move |names: &[&str], _: &dyn Facts| Ok(vec![Some(topic.clone()); names.len()])
}

fn again(config: &Config, directory: &Directory, look: Look<'_>) -> Result<Done, Fault> {
    republish(config, directory, &["s".to_owned()], look)
}

/// What was sealed after batch 1: topic, key, partition, whether it is silent.
fn sealed(directory: &Directory) -> Vec<(String, String, u32, bool)> {
    let mut log = directory.ledger.after(Seq(1)).unwrap();
    let mut all = Vec::new();
    while let Some(frame) = log.next().unwrap() {
        assert!(frame.last, "a small epoch is one batch");
        let batch = Batch::read(&frame.body).unwrap();
        for change in batch.changes() {
            let change = change.unwrap();
            assert_eq!((change.kind, change.value), (Kind::Removed, None));
            all.push((
                batch.head.topic.clone(),
                change.key.to_owned(),
                change.partition,
                change.silent,
            ));
        }
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

fn remembered(directory: &Directory, cell: CellId) -> Vec<Fingerprint> {
    let lineage = lineage::open(&directory.ledger).unwrap();
    let pages = directory.pages(&lineage.id, Seq(1)).unwrap();
    in_pages(&pages, cell)
}

fn in_pages(pages: &Pages, cell: CellId) -> Vec<Fingerprint> {
    let state = RangeState::new(pages.clone(), Range::ALL);
    let mut all: Vec<_> = state
        .walk(cell)
        .unwrap()
        .map(|one| one.unwrap().1)
        .collect();
    all.sort_by_key(|print| print.canon);
    all
}

#[test]
fn r32_another_topic_gets_one_epoch_of_tombstones_to_the_old_one_and_empty_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (s, other) = polled(&config(""), dir.path());
    let new = config("topic = \"t2\"");
    let directory = Directory::open(dir.path()).unwrap();
    let refused = identity::assign(&new, &directory.ledger).unwrap_err();
    assert!(refused.message.contains("state republish s"), "{refused}");
    let done = again(&new, &directory, &unasked).unwrap();
    assert_eq!((done.forgotten, done.tombstones["s"]), (3, 3));
    let wanted = KEYS.map(|key| ("s".to_owned(), key.to_owned(), 0, false));
    assert_eq!(sealed(&directory), wanted);
    drop(directory);

    let directory = Directory::open(dir.path()).unwrap();
    let ledger = &directory.ledger;
    assert_eq!(directory.start.seq, Seq(2));
    assert_eq!(
        identity::assign(&new, ledger).unwrap().cells.len(),
        2,
        "accepted now"
    );
    assert_eq!(ledger.get(&validators_fact(s)), None);
    assert_eq!(ledger.under(PENDING), []);
    assert_eq!(old_topics(ledger, Seq(1)).unwrap(), ["s"]);
    assert_eq!(old_topics(ledger, Seq(2)).unwrap(), [""; 0], "published");
    assert_eq!(remembered(&directory, s), []);
    assert_eq!(remembered(&directory, other).len(), 1, "another source's");
}

#[test]
fn r32_a_follower_that_is_behind_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = polled(&config(""), dir.path());
    let new = config("records = \"/list\"");
    let directory = Directory::open(dir.path()).unwrap();
    let behind = vec![(Who::Publish.fact().to_owned(), Some("0".to_owned()))];
    directory.ledger.set(behind, true).unwrap();
    let refused = again(&new, &directory, &unasked).unwrap_err();
    assert_eq!(refused.exit, Exit::Directory);
    assert!(refused.message.contains("`deltapoll --once`"), "{refused}");
    assert_eq!(sealed(&directory), []);
    assert_eq!(remembered(&directory, s).len(), 3);
    identity::assign(&config(""), &directory.ledger).unwrap();
}

#[test]
fn r32_crash_between_the_seal_and_the_pages_is_finished_on_open() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = polled(&config(""), dir.path());
    let mut new = config("");
    new.source.get_mut("s").unwrap().record_key = "y:{key}".into();
    let directory = Directory::open(dir.path()).unwrap();
    drop(seal(&new, &directory, &["s".to_owned()], &unasked).unwrap());
    drop(directory);

    let directory = Directory::open(dir.path()).unwrap();
    assert_eq!(directory.ledger.under(PENDING).len(), 1);
    let lineage = lineage::open(&directory.ledger).unwrap();
    let pages = directory.pages(&lineage.id, Seq(1)).unwrap();
    assert_eq!(
        in_pages(&pages, s).len(),
        3,
        "sealed, and not yet in the pages"
    );
    finish(&directory, &pages).unwrap();
    assert_eq!(in_pages(&pages, s), []);
    assert_eq!(directory.ledger.under(PENDING), []);
    // What the journal says after the last position brings nothing back.
    let mut state = RangeState::new(pages.clone(), Range::ALL);
    let plan = Plan {
        cells: Vec::new(),
        seed: SEED,
        rules: Arc::default(),
    };
    for position in [0, 1] {
        replay(&mut state, &plan, &directory.ledger, Seq(position)).unwrap();
        assert_eq!(state.walk(s).unwrap().count(), 0);
    }
}

#[test]
fn r32_only_another_way_of_removal_publishes_again_without_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = polled(&config(""), dir.path());
    let new = config("removed = \"event\"");
    let directory = Directory::open(dir.path()).unwrap();
    let (done, pages) = seal(&new, &directory, &["s".to_owned()], &unasked).unwrap();
    assert_eq!((done.rechecked, done.forgotten), (1, 0));
    assert_eq!(sealed(&directory), []);
    assert_eq!(
        in_pages(&pages, s)[0],
        print(1),
        "not before the facts are sealed"
    );
    finish(&directory, &pages).unwrap();
    let marked = in_pages(&pages, s);
    assert!(
        marked
            .iter()
            .all(|print| print.rule == 0 && print.raw == !print.canon)
    );
    let hash = hash::key(SEED, KEYS[1].as_bytes());
    let key = pages.keys(s, &[hash]).unwrap().pop().flatten();
    assert_eq!(
        key.unwrap(),
        KEYS[1].as_bytes(),
        "keys stay for removals to come"
    );
    recheck(&pages, s).unwrap();
    assert_eq!(in_pages(&pages, s), marked, "it may be done twice");
    identity::assign(&new, &directory.ledger).unwrap();
}

#[test]
fn r32_keys_that_were_not_kept_are_forgotten_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = polled(&config("removed = \"ignore\""), dir.path());
    let directory = Directory::open(dir.path()).unwrap();
    let done = again(&config(""), &directory, &unasked).unwrap();
    assert_eq!((done.forgotten, done.tombstones.len()), (3, 0));
    assert!(
        sealed(&directory)
            .iter()
            .all(|(_, key, _, silent)| key.is_empty() && *silent)
    );
    drop(directory);
    let directory = Directory::open(dir.path()).unwrap();
    assert_eq!(remembered(&directory, s), []);
}

#[test]
fn r32_a_topic_that_was_made_again_gets_no_tombstones_and_a_raised_one_does() {
    for (id, partitions, tombstones) in [("t2", 3, 0), ("t1", 3, 0), ("t1", 5, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let (s, _) = polled(&kafka(""), dir.path());
        let directory = Directory::open(dir.path()).unwrap();
        let done = again(&kafka(""), &directory, &seen(id, partitions)).unwrap();
        let case = format!("{id} {partitions}");
        assert_eq!(done.tombstones.values().sum::<u64>(), tombstones, "{case}");
        let same = (id, partitions) == ("t1", 3);
        assert_eq!(done.rechecked, u64::from(same), "{case}");
        let fact = directory.ledger.get(&topics::fact("s"));
        assert_eq!(
            fact.is_some(),
            same,
            "recorded anew by the next run: {case}"
        );
        for (_, key, partition, silent) in sealed(&directory) {
            assert_eq!(silent, tombstones == 0, "{case}");
            assert_eq!(
                partition,
                partition_of(key.as_bytes(), 3),
                "where it is: {case}"
            );
        }
        let left = if same { 3 } else { 0 };
        drop(directory);
        let directory = Directory::open(dir.path()).unwrap();
        assert_eq!(remembered(&directory, s).len(), left, "{case}");
    }
}

#[test]
fn r32_a_source_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    polled(&config(""), dir.path());
    let directory = Directory::open(dir.path()).unwrap();
    let told = |config: &Config, source: &str| {
        republish(config, &directory, &[source.to_owned()], &unasked).unwrap_err()
    };
    let unknown = told(&config(""), "t");
    assert_eq!(unknown.exit, Exit::Usage);
    assert!(
        unknown.message.ends_with("there are: other, s"),
        "{unknown}"
    );
    let mut new = config("");
    let source = new.source["s"].clone();
    new.source.insert("new".into(), source);
    assert_eq!(told(&new, "new").exit, Exit::Directory);
}

#[test]
fn r32_cells_that_are_no_longer_configured_leave_with_what_only_the_journal_has_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (s, other) = polled(&config(""), dir.path());
    let text = "name = \"n\"\non_cell_removed = \"tombstone\"\n\
                [source.other]\nurl = \"http://h\"\nkey = [\"/id\"]\n";
    let new = parse(text, "test").unwrap();
    let mut directory = Directory::open(dir.path()).unwrap();
    // Sealed after the pages were written: "x:a" left, "x:d" came.
    let mut writer = Writer::new(&directory);
    let mut builder = Builder::new(&Head {
        cell: s,
        polled_at: 2,
        topic: "s".into(),
        source: "s".into(),
        label: String::new(),
    });
    for (key, kind) in [("x:a", Kind::Removed), ("x:d", Kind::Added)] {
        builder.push(&Change {
            kind,
            partition: 0,
            hash: hash::key(SEED, key.as_bytes()),
            print: print(9),
            key,
            value: (kind == Kind::Added).then_some(b"{}"),
            silent: false,
        });
    }
    writer.push(builder.take());
    let before = writer.finish(vec![]).unwrap();
    directory.start = before;

    let gone = identity::assign(&new, &directory.ledger).unwrap().gone;
    assert_eq!(gone.len(), 1);
    let lineage = lineage::open(&directory.ledger).unwrap();
    let pages = directory.pages(&lineage.id, Seq(1)).unwrap();
    let plan = Plan {
        cells: Vec::new(),
        seed: SEED,
        rules: Arc::default(),
    };
    let removed = remove_cells(&new, &mut directory, &pages, &plan, Seq(1), gone, |_| 3);
    assert_eq!(removed.unwrap(), 3);
    let mut log = directory.ledger.after(before.seq).unwrap();
    let frame = log.next().unwrap().unwrap();
    let mut keys: Vec<(String, u32)> = Batch::read(&frame.body)
        .unwrap()
        .changes()
        .map(|change| change.unwrap())
        .inspect(|change| assert_eq!((change.kind, change.value), (Kind::Removed, None)))
        .map(|change| (change.key.to_owned(), change.partition))
        .collect();
    keys.sort();
    let wanted = ["x:b", "x:c", "x:d"].map(|key| (key.into(), partition_of(key.as_bytes(), 3)));
    assert_eq!(keys, wanted);
    assert_eq!(
        directory.start,
        Sealed {
            seq: frame.seq,
            epoch: frame.epoch
        },
        "what is sealed next comes after it"
    );
    assert_eq!(in_pages(&pages, s), []);
    assert_eq!(in_pages(&pages, other).len(), 1, "a cell that stays");
    let after = identity::assign(&new, &directory.ledger).unwrap();
    assert_eq!((after.gone.len(), after.cells.len()), (0, 1));
    assert_eq!(directory.ledger.get(&validators_fact(s)), None);
    assert_eq!(directory.ledger.get(&Place::fact(s)), None);
    assert!(directory.ledger.get(&Place::fact(other)).is_some());
}

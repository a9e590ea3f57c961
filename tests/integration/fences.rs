//! Who may write: starts, fences, takeovers and stale copies (R17-R19), on a real broker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::cluster::end;
use crate::support::memory::Memory;
use crate::support::publisher::{Case, bootstrap, send, transactional};
use crate::support::wait::{PATIENCE, wait_until};
use deltapoll::change::Seq;
use deltapoll::fault::{Exit, Fault};
use deltapoll::follower::{Facts, Follower, Log, Logs, SealedBatch};
use deltapoll::io::kafka::{self, KafkaPublisher};
use rdkafka::producer::Producer;

#[test]
fn r19_a_second_instance_takes_over_and_the_first_ends_fenced() {
    let case = Case::new("fence");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut first = case.start(&journal, Seq(0));
    first.advance(upto).unwrap();
    let copy = journal.copy();
    let mut second = case.start(&copy, upto);
    assert_eq!(second.start().unwrap(), upto);
    let next = journal.seal(&case.topic, &[("b", Some("first's"))]);
    let fault = first.advance(next).unwrap_err();
    assert_eq!(fault.exit, Exit::Fenced, "{fault}");
    assert!(fault.message.contains("took over"), "{fault}");
    let next = copy.seal(&case.topic, &[("b", Some("\"second's\""))]);
    assert_eq!(second.advance(next).unwrap(), next);
    assert_eq!(case.pairs(), ["a=1", "b=\"second's\""]);
    assert_eq!(case.progress().seq, 2);
}

#[test]
fn r18_a_stale_copy_of_the_directory_is_refused_and_fences_nobody() {
    let case = Case::new("stale");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut first = case.start(&journal, Seq(0));
    first.advance(upto).unwrap();
    let copy = journal.copy();
    let upto = journal.seal(&case.topic, &[("a", Some("2"))]);
    first.advance(upto).unwrap();
    let mut stale = case.start(&copy, Seq(1));
    let fault = stale.start().unwrap_err();
    assert_eq!(fault.exit, Exit::Directory, "{fault}");
    assert!(fault.message.contains("nothing was fenced"), "{fault}");
    let upto = journal.seal(&case.topic, &[("a", Some("3"))]);
    assert_eq!(first.advance(upto).unwrap(), upto);
    assert_eq!(
        first.metrics().sessions.load(Ordering::Relaxed),
        1,
        "it was never fenced"
    );
    assert_eq!(case.pairs(), ["a=1", "a=2", "a=3"]);
}

/// A journal that holds back its second batch until the broker has given up on the transaction that
/// the first one is in: until an abort marker follows the record.
struct Slow {
    journal: Memory,
    topic: String,
    held: Arc<AtomicBool>,
}

impl Logs for Slow {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        Ok(Box::new(SlowLog {
            inner: self.journal.after(position)?,
            topic: self.topic.clone(),
            held: self.held.clone(),
            given: 0,
        }))
    }
}

struct SlowLog {
    inner: Box<dyn Log>,
    topic: String,
    held: Arc<AtomicBool>,
    given: u32,
}

impl Log for SlowLog {
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault> {
        if self.given == 1 && !self.held.swap(true, Ordering::Relaxed) {
            wait_until("the transaction expired", PATIENCE, || {
                (end(&bootstrap(), &self.topic, false) == Some(2)).then_some(())
            });
        }
        self.given += 1;
        self.inner.next()
    }
}

#[test]
fn r19_an_expired_transaction_is_done_again_once() {
    let case = Case::with("expired", &[("transaction.timeout.ms", "1000")]);
    let journal = Memory::default();
    journal.seal(&case.topic, &[("a", Some("1"))]);
    let upto = journal.seal(&case.topic, &[("b", Some("2"))]);
    let held = Arc::new(AtomicBool::new(false));
    let mut setup = case.setup(&journal, Seq(0));
    setup.logs = Arc::new(Slow {
        journal: journal.clone(),
        topic: case.topic.clone(),
        held: held.clone(),
    });
    let mut publisher = KafkaPublisher::new(setup);
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    assert!(held.load(Ordering::Relaxed));
    assert_eq!(publisher.metrics().sessions.load(Ordering::Relaxed), 2);
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
}

#[test]
fn r19_a_rival_that_never_commits_is_fenced_in_turn() {
    let case = Case::new("rival");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut publisher = case.start(&journal, Seq(0));
    publisher.advance(upto).unwrap();
    let rival = case.rival();
    let upto = journal.seal(&case.topic, &[("b", Some("2"))]);
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    assert_eq!(publisher.metrics().sessions.load(Ordering::Relaxed), 2);
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
    drop(rival);
}

/// Facts that do something of their own before they answer.
struct Haunted<F> {
    journal: Memory,
    spook: F,
}

/// What the publisher asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Table,
    Fencing,
    Other,
}

impl<F: Fn(Ask) + Send + Sync> Facts for Haunted<F> {
    fn get(&self, name: &str) -> Option<String> {
        self.journal.get(name)
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        (self.spook)(Ask::Table);
        self.journal.under(prefix)
    }

    fn set(&self, facts: Vec<(String, Option<String>)>, sync: bool) -> Result<(), Fault> {
        let texts = || facts.iter().filter_map(|(_, text)| text.as_ref());
        let fencing = texts().any(|text| text.contains("\"fencing\":true"));
        (self.spook)(if fencing { Ask::Fencing } else { Ask::Other });
        self.journal.set(facts, sync)
    }
}

#[test]
fn r19_three_fences_before_the_first_commit_end_it() {
    let case = Case::new("haunted");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    case.start(&journal, Seq(0)).advance(upto).unwrap();
    let mut setup = case.setup(&journal, upto);
    let rivals = Mutex::new(Vec::new());
    let haunting = case.changed(|_| ());
    setup.facts = Arc::new(Haunted {
        journal: journal.clone(),
        spook: move |ask| {
            if ask == Ask::Table {
                rivals.lock().unwrap().push(haunting.rival());
            }
        },
    });
    let mut publisher = KafkaPublisher::new(setup);
    let fault = publisher.start().unwrap_err();
    assert_eq!(fault.exit, Exit::Fenced, "{fault}");
    assert_eq!(publisher.metrics().sessions.load(Ordering::Relaxed), 3);
}

#[test]
fn r17_r19_after_a_fence_another_start_of_the_same_directory_is_another_instance() {
    let case = Case::new("twice");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut first = case.start(&journal, Seq(0));
    first.advance(upto).unwrap();
    // As where a lock does not hold: both have the journal, and so the whole table.
    let mut second = case.start(&journal, upto);
    assert_eq!(second.start().unwrap(), upto);
    let next = journal.seal(&case.topic, &[("b", Some("2"))]);
    let fault = first.advance(next).unwrap_err();
    assert_eq!(fault.exit, Exit::Fenced, "{fault}");
    assert!(fault.message.contains("start 2"), "{fault}");
    assert_eq!(second.advance(next).unwrap(), next);
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
}

#[test]
fn r17_who_may_be_in_kafka_is_known_after_a_power_cut() {
    let case = Case::new("cut");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    case.start(&journal, Seq(0)).advance(upto).unwrap();
    let journal = journal.crash();
    let upto = journal.seal(&case.topic, &[("b", Some("2"))]);
    let mut publisher = case.start(&journal, Seq(0));
    assert_eq!(publisher.advance(upto), Ok(upto));
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
}

#[test]
fn r18_who_commits_between_the_look_and_the_fence_is_found() {
    let case = Case::new("between");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let first = Arc::new(Mutex::new(case.start(&journal, Seq(0))));
    first.lock().unwrap().advance(upto).unwrap();
    let copy = journal.copy();
    let mut setup = case.setup(&copy, upto);
    let (other, original, topic) = (first.clone(), journal.clone(), case.topic.clone());
    setup.facts = Arc::new(Haunted {
        journal: copy,
        spook: move |ask| {
            if ask == Ask::Fencing {
                let upto = original.seal(&topic, &[("a", Some("2"))]);
                other.lock().unwrap().advance(upto).unwrap();
            }
        },
    });
    let fault = KafkaPublisher::new(setup).start().unwrap_err();
    assert_eq!(fault.exit, Exit::Directory, "{fault}");
    assert!(fault.message.contains("nothing was committed"), "{fault}");
    let upto = journal.seal(&case.topic, &[("a", Some("3"))]);
    let mut first = first.lock().unwrap();
    assert_eq!(first.advance(upto).unwrap(), upto, "the one way back");
    assert_eq!(case.pairs(), ["a=1", "a=2", "a=3"]);
}

#[test]
fn r18_a_record_behind_an_open_transaction_of_somebody_else_is_waited_for() {
    for known in [Seq(0), Seq(2)] {
        let case = Case::new("behind");
        let journal = Memory::default();
        let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
        let mut first = case.start(&journal, Seq(0));
        first.advance(upto).unwrap();
        let other = transactional(case.bootstrap(), &format!("{}-other", case.config.name));
        other.begin_transaction().unwrap();
        send(&other, &case.config.progress_topic(), "other/0", "junk");
        let upto = journal.seal(&case.topic, &[("a", Some("2"))]);
        first.advance(upto).unwrap();
        drop(first);
        // Readers of committed records see seq 1 now.
        assert_eq!(case.progress().seq, 1);
        let upto = journal.seal(&case.topic, &[("a", Some("3"))]);
        let mut second = case.start(&journal, known);
        let metrics = second.metrics();
        let publishing = thread::spawn(move || second.advance(upto));
        wait_until("the fence", PATIENCE, || {
            (metrics.sessions.load(Ordering::Relaxed) == 1).then_some(())
        });
        other.abort_transaction(PATIENCE).unwrap();
        assert_eq!(publishing.join().unwrap(), Ok(upto));
        assert_eq!(case.pairs(), ["a=1", "a=2", "a=3"]);
    }
}

#[test]
fn r18_known_topics_do_not_wait_for_kafka_and_new_ones_do() {
    let case = Case::new("away");
    let journal = Memory::default();
    let there = case.prepare(&journal).unwrap();
    // Nobody listens on the discard port.
    let away = case.changed(|config| {
        config.kafka.as_mut().unwrap().bootstrap = "127.0.0.1:9".into();
    });
    let topics = [case.topic.clone()];
    let stop = AtomicBool::new(false);
    let plan = kafka::prepare(&away.config, &topics, &journal, &stop)
        .unwrap()
        .expect("a plan");
    assert!(!plan.confirmed);
    assert_eq!(plan.topics, there.topics);
    stop.store(true, Ordering::Relaxed);
    let unknown = [case.topic.clone(), "unknown".into()];
    assert_eq!(
        kafka::prepare(&away.config, &unknown, &journal, &stop).unwrap(),
        None
    );
}

//! The Kafka publisher against a real broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::cluster::end;
use crate::support::memory::{Memory, POLLED_AT};
use crate::support::publisher::{Case, Hands, bootstrap, outcome, send};
use deltapoll::change::Seq;
use deltapoll::config::quantity::Bytes;
use deltapoll::fault::{Exit, Fault};
use deltapoll::follower::{Facts, Follower, Log, Logs, SealedBatch};
use deltapoll::io::kafka::KafkaPublisher;
use rdkafka::producer::Producer;

#[test]
fn kafka_sealed_epochs_are_published_in_order_with_all_that_is_known_of_them() {
    let case = Case::new("order");
    let journal = Memory::default();
    let plan = case.prepare(&journal).unwrap();
    assert!(plan.confirmed);
    assert_eq!(plan.topics[&case.topic].partitions, 1);
    journal.seal(
        &case.topic,
        &[("a", Some("{\"lp\":1}")), ("b", Some("{\"lp\":2}"))],
    );
    journal.seal(&case.topic, &[("a", Some("{\"lp\":3}"))]);
    let upto = journal.seal(&case.topic, &[("b", None)]);
    let mut publisher = case.start(&journal, Seq(0));
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    let expected = ["a={\"lp\":1}", "b={\"lp\":2}", "a={\"lp\":3}", "b=null"];
    assert_eq!(case.pairs(), expected);
    let lines = case.committed();
    assert_eq!(lines[3]["change"], "removed");
    assert_eq!(lines[3]["seq"], 3);
    assert_eq!(lines[3]["epoch"], 1_002);
    assert_eq!(lines[3]["polled_at"], POLLED_AT);
    let metrics = publisher.metrics();
    assert_eq!(metrics.records.load(Ordering::Relaxed), 4);
    assert_eq!(
        metrics.transactions.load(Ordering::Relaxed),
        1,
        "one transaction when behind"
    );
    let shown = case.progress();
    assert_eq!((shown.seq, shown.epoch), (3, 1_002));
    assert_eq!(shown.partitions, BTreeMap::from([(case.topic.clone(), 1)]));
}

#[test]
fn kafka_a_commit_takes_milliseconds() {
    let case = Case::new("latency");
    let journal = Memory::default();
    let mut publisher = case.start(&journal, Seq(0));
    publisher.start().unwrap();
    let mut fastest = u64::MAX;
    for _ in 0..10 {
        let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
        assert_eq!(publisher.advance(upto).unwrap(), upto);
        let took = publisher.metrics().commit_micros.load(Ordering::Relaxed);
        fastest = fastest.min(took);
    }
    assert!(
        fastest < 80_000,
        "{fastest} us: deliveries were not drained before the commit"
    );
}

#[test]
fn kafka_crash_in_mid_transaction_loses_nothing_and_repeats_nothing() {
    let case = Case::new("crash");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut publisher = case.start(&journal, Seq(0));
    publisher.advance(upto).unwrap();
    // A producer of ours that died after its records arrived and before it committed.
    drop(publisher);
    let dead = case.rival();
    dead.begin_transaction().unwrap();
    send(&dead, &case.topic, "b", "2");
    let upto = journal.seal(&case.topic, &[("b", Some("2"))]);
    let journal = journal.crash();
    let mut publisher = case.start(&journal, Seq(0));
    assert_eq!(
        publisher.start().unwrap(),
        Seq(1),
        "progress tells what was committed"
    );
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
    drop(dead);
}

#[test]
fn r20_a_record_that_is_too_large_stops_naming_key_limit_and_remedy() {
    let case = Case::new("large");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let value = format!("\"{}\"", "x".repeat(2_000_000));
    let small = ("small", Some("1"));
    let upto = journal.seal(
        &case.topic,
        &[small, ("whale", Some(value.as_str())), small],
    );
    let fault = outcome(case.setup(&journal, Seq(0)), upto).unwrap_err();
    assert_eq!(fault.exit, Exit::Failed, "{fault}");
    for part in ["'whale'", "1048588", "max.message.bytes"] {
        assert!(fault.message.contains(part), "{fault}");
    }
    assert_eq!(case.pairs(), [""; 0], "nothing of the epoch is seen");
}

#[test]
fn r20_a_full_queue_is_back_pressure() {
    let keys: Vec<String> = (0..500).map(|n| format!("k{n}")).collect();
    let entries: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("1"))).collect();
    let expected: Vec<_> = keys.iter().map(|key| format!("{key}=1")).collect();
    for headers in [true, false] {
        let case = Case::with("queue", &[("queue.buffering.max.messages", "10")]);
        let case = case.changed(|config| config.kafka.as_mut().unwrap().headers = headers);
        let journal = Memory::default();
        let upto = journal.seal(&case.topic, &entries);
        assert_eq!(outcome(case.setup(&journal, Seq(0)), upto), Ok(upto));
        assert_eq!(case.pairs(), expected, "headers: {headers}");
    }
}

#[test]
fn r20_a_queue_that_is_smaller_than_a_record_stops_naming_it() {
    let case = Case::with("tiny", &[("queue.buffering.max.kbytes", "1")]);
    let journal = Memory::default();
    let value = format!("\"{}\"", "x".repeat(5_000));
    let upto = journal.seal(&case.topic, &[("a", Some("1")), ("whale", Some(&value))]);
    let fault = outcome(case.setup(&journal, Seq(0)), upto).unwrap_err();
    assert_eq!(fault.exit, Exit::Failed, "{fault}");
    for part in ["'whale'", "5007 bytes", "queue.buffering.max.kbytes"] {
        assert!(fault.message.contains(part), "{fault}");
    }
    assert_eq!(case.pairs(), [""; 0], "nothing of the epoch is seen");
}

#[test]
fn r20_a_topic_that_is_missing_for_a_moment_is_not_gone() {
    let case = Case::new("moment");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    // As brokers without topic ids have it: the one that comes back is the same.
    let name = format!("topic/{}", case.topic);
    let fact = "{\"id\":null,\"partitions\":1,\"max_message_bytes\":1048588}".to_owned();
    journal.set(vec![(name, Some(fact))], true).unwrap();
    let hands = Hands::on(case.bootstrap());
    hands.delete(&case.topic);
    let topic = case.topic.clone();
    let back = thread::spawn(move || hands.create(&topic, 1, "compact"));
    let plan = case.prepare(&journal);
    back.join().unwrap();
    assert!(plan.unwrap().confirmed);
}

/// A journal that looks, before it gives the next batch, at what readers see of `topic`.
struct Watched {
    journal: Memory,
    topic: String,
    seen: Arc<AtomicU64>,
}

impl Logs for Watched {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        Ok(Box::new(WatchedLog {
            inner: self.journal.after(position)?,
            topic: self.topic.clone(),
            seen: self.seen.clone(),
        }))
    }
}

struct WatchedLog {
    inner: Box<dyn Log>,
    topic: String,
    seen: Arc<AtomicU64>,
}

impl Log for WatchedLog {
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault> {
        let end = end(&bootstrap(), &self.topic, true).unwrap();
        self.seen.fetch_max(end.cast_unsigned(), Ordering::Relaxed);
        self.inner.next()
    }
}

#[test]
fn r21_nobody_sees_half_an_epoch() {
    let case = Case::new("half");
    let journal = Memory::default();
    let entry = [("k", Some("1"))];
    let upto = journal.seal_epoch(&case.topic, &[&entry[..]; 3], false);
    let mut setup = case.setup(&journal, Seq(0));
    let seen = Arc::new(AtomicU64::new(0));
    setup.logs = Arc::new(Watched {
        journal: journal.clone(),
        topic: case.topic.clone(),
        seen: seen.clone(),
    });
    assert_eq!(KafkaPublisher::new(setup).advance(upto).unwrap(), upto);
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    assert_eq!(case.pairs().len(), 3);
}

#[test]
fn r21_a_large_epoch_goes_in_several_transactions_and_small_ones_share_one() {
    let case = Case::new("sizes").changed(|config| config.limits.transaction_bytes = Bytes(4_000));
    let journal = Memory::default();
    let value = format!("\"{}\"", "x".repeat(1_497));
    let entry = [("k", Some(value.as_str()))];
    let mut publisher = case.start(&journal, Seq(0));
    publisher.start().unwrap();
    let transactions = || {
        let metrics = publisher.metrics();
        move || metrics.transactions.load(Ordering::Relaxed)
    };
    let transactions = transactions();
    // 3000 bytes an epoch: never cut.
    journal.seal_epoch(&case.topic, &[&entry, &entry], false);
    let upto = journal.seal_epoch(&case.topic, &[&entry, &entry], false);
    publisher.advance(upto).unwrap();
    assert_eq!(transactions(), 2);
    // 9000 bytes: cut at batches after 4500.
    let upto = journal.seal_epoch(&case.topic, &[&entry[..]; 6], false);
    publisher.advance(upto).unwrap();
    assert_eq!(transactions(), 4);
    let small = [("s", Some("1"))];
    for _ in 0..9 {
        journal.seal(&case.topic, &small);
    }
    publisher.advance(journal.last()).unwrap();
    assert_eq!(transactions(), 5);
    assert_eq!(case.committed().len(), 19);
    assert_eq!(case.progress().seq, journal.last().0);
}

/// Longer than a transaction takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seals the next of `coming` epochs when the newest batch is read: while its transaction is under way.
#[derive(Clone)]
struct Busy {
    journal: Memory,
    topic: String,
    coming: u64,
    batches: Vec<String>,
}

struct BusyLog {
    inner: Box<dyn Log>,
    busy: Busy,
}

impl Busy {
    fn publisher(self, case: &Case, open_max: Duration) -> KafkaPublisher {
        let mut setup = case.setup(&self.journal, Seq(0));
        setup.open_max = open_max;
        setup.logs = Arc::new(self);
        let mut publisher = KafkaPublisher::new(setup);
        publisher.start().unwrap();
        publisher
    }
}

impl Logs for Busy {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        Ok(Box::new(BusyLog {
            inner: self.journal.after(position)?,
            busy: self.clone(),
        }))
    }
}

impl Log for BusyLog {
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault> {
        let batch = self.inner.next()?;
        let busy = &mut self.busy;
        if busy.coming > 0 && batch.as_ref().is_some_and(|b| b.seq == busy.journal.last()) {
            busy.coming -= 1;
            let batches: Vec<_> = busy
                .batches
                .iter()
                .map(|v| [("k", Some(v.as_str()))])
                .collect();
            let batches: Vec<_> = batches.iter().map(|batch| &batch[..]).collect();
            busy.journal.seal_epoch(&busy.topic, &batches, false);
        }
        Ok(batch)
    }
}

#[test]
fn r21_epochs_sealed_while_a_transaction_is_under_way_share_it() {
    let case = Case::new("busy");
    let journal = Memory::default();
    let busy = Busy {
        journal: journal.clone(),
        topic: case.topic.clone(),
        coming: 3,
        batches: vec!["2".into()],
    };
    let mut publisher = busy.publisher(&case, PATIENCE);
    let upto = journal.seal(&case.topic, &[("k", Some("1"))]);
    assert_eq!(publisher.advance(upto).unwrap(), Seq(4));
    let metrics = publisher.metrics();
    assert_eq!(metrics.transactions.load(Ordering::Relaxed), 1);
    assert_eq!(case.progress().seq, 4, "of the last");
    assert_eq!(case.pairs(), ["k=1", "k=2", "k=2", "k=2"]);
    assert_eq!(publisher.advance(Seq(3)).unwrap(), Seq(4), "no way back");
}

#[test]
fn r21_epochs_without_end_do_not_put_off_a_commit() {
    // Long enough for one of them on any machine.
    let open_max = Duration::from_millis(200);
    let case = Case::new("endless");
    let journal = Memory::default();
    let busy = Busy {
        journal: journal.clone(),
        topic: case.topic.clone(),
        coming: u64::MAX,
        batches: vec!["2".into()],
    };
    let mut publisher = busy.publisher(&case, open_max);
    let upto = journal.seal(&case.topic, &[("k", Some("1"))]);
    let reached = publisher.advance(upto).unwrap();
    assert!(upto < reached && reached < journal.last());
    assert_eq!(case.progress().seq, reached.0);
    assert_eq!(case.pairs().len() as u64, reached.0);
}

#[test]
fn r21_a_large_epoch_that_comes_along_is_brought_to_its_end() {
    let case = Case::new("along").changed(|config| config.limits.transaction_bytes = Bytes(4_000));
    let journal = Memory::default();
    let busy = Busy {
        journal: journal.clone(),
        topic: case.topic.clone(),
        coming: 1,
        batches: vec![format!("\"{}\"", "x".repeat(1_497)); 6],
    };
    let mut publisher = busy.publisher(&case, PATIENCE);
    let upto = journal.seal(&case.topic, &[("k", Some("1"))]);
    assert_eq!(publisher.advance(upto).unwrap(), Seq(7));
    let metrics = publisher.metrics();
    assert_eq!(metrics.transactions.load(Ordering::Relaxed), 2);
    assert_eq!(case.progress().seq, 7);
}

#[test]
fn r21_a_silent_epoch_is_proven_by_its_progress_record() {
    let case = Case::new("silent");
    let journal = Memory::default();
    let upto = journal.seal_epoch(&case.topic, &[&[("a", None)]], true);
    let mut publisher = case.start(&journal, Seq(0));
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    assert_eq!(case.pairs(), [""; 0]);
    assert_eq!(case.progress().seq, upto.0);
}

#[test]
fn r31_a_stop_ends_the_wait_for_kafka_at_the_last_position() {
    let case = Case::on("127.0.0.1:9", "stop", &[]);
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let setup = case.setup(&journal, Seq(0));
    setup.stop.store(true, Ordering::Relaxed);
    let mut publisher = KafkaPublisher::new(setup);
    assert_eq!(publisher.advance(upto).unwrap(), Seq(0));
}

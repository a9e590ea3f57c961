//! The Kafka publisher against a real broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::kafka::Broker;
use crate::support::memory::{Memory, POLLED_AT};
use deltapoll::change::Seq;
use deltapoll::clock;
use deltapoll::config::Config;
use deltapoll::config::secret::Text;
use deltapoll::fault::{Exit, Fault};
use deltapoll::follower::{Facts, Follower, Log, Logs, SealedBatch};
use deltapoll::io::kafka::{self, KafkaPublisher, Setup, TopicPlan, incarnation, progress};
use deltapoll::io::lineage;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// One test's own names, on the shared broker.
struct Case {
    config: Arc<Config>,
    topic: String,
}

impl Case {
    fn new(name: &str) -> Case {
        Case::with(name, &[])
    }

    fn with(name: &str, properties: &[(&str, &str)]) -> Case {
        let name = format!("{name}-{:016x}", rand::random::<u64>());
        let text = format!(
            "name = '{name}'\n[source]\n[kafka]\nbootstrap = '{}'\n",
            bootstrap()
        );
        let mut config: Config = toml::from_str(&text).unwrap();
        for (option, value) in properties {
            let kafka = config.kafka.as_mut().unwrap();
            kafka.properties.insert((*option).into(), Text::new(*value));
        }
        Case {
            config: Arc::new(config),
            topic: format!("{name}-topic"),
        }
    }

    fn prepare(&self, journal: &Memory) -> Result<TopicPlan, Fault> {
        let never = AtomicBool::new(false);
        let topics = [self.topic.clone()];
        let plan = kafka::prepare(&self.config, &topics, journal, &never)?;
        Ok(plan.expect("nobody stops it"))
    }

    /// A start of a process on `journal`, whose publisher knows `position`.
    fn start(&self, journal: &Memory, position: Seq) -> KafkaPublisher {
        KafkaPublisher::new(self.setup(journal, position))
    }

    fn setup(&self, journal: &Memory, position: Seq) -> Setup {
        let lineage = lineage::open(journal).unwrap();
        let incarnation = incarnation::open(journal, journal.last()).unwrap();
        Setup {
            config: self.config.clone(),
            topics: vec![self.topic.clone()],
            logs: Arc::new(journal.clone()),
            facts: Arc::new(journal.clone()),
            lineage,
            incarnation,
            position,
            stop: Arc::default(),
            late: Arc::default(),
        }
    }

    /// What a reader of committed records sees.
    fn committed(&self) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        let never = AtomicBool::new(false);
        kafka::tail(&self.config, &self.topic, true, false, &mut out, &never).unwrap();
        let lines = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// The committed keys and values, as text.
    fn pairs(&self) -> Vec<String> {
        let one = |line: &serde_json::Value| {
            format!("{}={}", line["key"].as_str().unwrap(), line["value"])
        };
        self.committed().iter().map(one).collect()
    }

    fn progress(&self) -> progress::Progress {
        progress::read_committed(&self.config)
            .unwrap()
            .expect("a record")
    }
}

fn bootstrap() -> String {
    Broker::shared().bootstrap()
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .create()
        .unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn create(topic: &str, partitions: i32, policy: &str) {
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let topics = [topic.set("cleanup.policy", policy)];
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let made = block_on(admin().create_topics(&topics, &options)).unwrap();
    made[0].as_ref().unwrap();
}

fn delete(topic: &str) {
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let gone = block_on(admin().delete_topics(&[topic], &options)).unwrap();
    gone[0].as_ref().unwrap();
}

/// A producer that shares the case's transactional id, for foul play.
fn rival(config: &Config) -> BaseProducer {
    let id = format!("deltapoll-{}-0", config.name);
    let rival: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("transactional.id", id)
        .create()
        .unwrap();
    rival.init_transactions(Duration::from_secs(20)).unwrap();
    rival
}

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
    let dead = rival(&case.config);
    dead.begin_transaction().unwrap();
    dead.send(
        BaseRecord::to(&case.topic)
            .key("b")
            .payload("2")
            .partition(0),
    )
    .unwrap();
    dead.flush(Duration::from_secs(10)).unwrap();
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
    let mut publisher = case.start(&journal, Seq(0));
    let fault = publisher.advance(upto).unwrap_err();
    assert_eq!(fault.exit, Exit::Failed, "{fault}");
    for part in ["'whale'", "1048588", "max.message.bytes"] {
        assert!(fault.message.contains(part), "{fault}");
    }
    assert_eq!(case.pairs(), [""; 0], "nothing of the epoch is seen");
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
            wait_until("the transaction expired", || end(&self.topic) == 2);
        }
        self.given += 1;
        self.inner.next()
    }
}

/// The true end of partition 0.
fn end(topic: &str) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap();
    consumer
        .fetch_watermarks(topic, 0, Duration::from_secs(10))
        .unwrap()
        .1
}

fn wait_until(what: &str, probe: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(30);
    while !probe() {
        assert!(clock::now() < deadline, "not within 30 s: {what}");
        clock::pause(Duration::from_millis(20));
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
    let rival = rival(&case.config);
    let upto = journal.seal(&case.topic, &[("b", Some("2"))]);
    assert_eq!(publisher.advance(upto).unwrap(), upto);
    assert_eq!(publisher.metrics().sessions.load(Ordering::Relaxed), 2);
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
    drop(rival);
}

/// Facts whose table of incarnations is never read without a rival taking the transactional id.
struct Haunted {
    journal: Memory,
    config: Arc<Config>,
    rivals: Mutex<Vec<BaseProducer>>,
}

impl Facts for Haunted {
    fn get(&self, name: &str) -> Option<String> {
        self.journal.get(name)
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        self.rivals.lock().unwrap().push(rival(&self.config));
        self.journal.under(prefix)
    }

    fn set(&self, facts: Vec<(String, Option<String>)>, sync: bool) -> Result<(), Fault> {
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
    setup.facts = Arc::new(Haunted {
        journal: journal.clone(),
        config: case.config.clone(),
        rivals: Mutex::default(),
    });
    let mut publisher = KafkaPublisher::new(setup);
    let fault = publisher.start().unwrap_err();
    assert_eq!(fault.exit, Exit::Fenced, "{fault}");
    assert_eq!(publisher.metrics().sessions.load(Ordering::Relaxed), 3);
}

#[test]
fn r21_a_large_epoch_goes_in_several_transactions_and_small_ones_share_one() {
    let mut case = Case::new("sizes");
    let mut config = Config::clone(&case.config);
    config.limits.transaction_bytes = deltapoll::config::quantity::Bytes(4_000);
    case.config = Arc::new(config);
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
fn r23_a_progress_topic_that_forgets_is_refused() {
    let case = Case::new("policy");
    create(&case.config.progress_topic(), 1, "compact,delete");
    let fault = case.prepare(&Memory::default()).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("cleanup.policy"), "{fault}");
}

#[test]
fn r23_a_progress_topic_that_the_journal_remembers_must_be_there() {
    let case = Case::new("forgotten");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    delete(&case.config.progress_topic());
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("is gone"), "{fault}");
}

#[test]
fn r23_damage_and_strangers_in_the_progress_topic_are_told_apart() {
    let case = Case::new("damage");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .create()
        .unwrap();
    let topic = case.config.progress_topic();
    stranger
        .send(BaseRecord::to(&topic).key("other/0").payload("junk"))
        .unwrap();
    stranger.flush(Duration::from_secs(10)).unwrap();
    let mut publisher = case.start(&journal, Seq(0));
    assert_eq!(
        publisher.start().unwrap(),
        Seq(0),
        "a stranger's record is not ours to read"
    );
    let key = progress::key(&case.config.name);
    stranger
        .send(BaseRecord::to(&topic).key(&key).payload("junk"))
        .unwrap();
    stranger.flush(Duration::from_secs(10)).unwrap();
    let mut publisher = case.start(&journal, Seq(0));
    let fault = publisher.start().unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("damaged"), "{fault}");
}

#[test]
fn r22_a_topic_that_was_made_again_is_refused() {
    let case = Case::new("again");
    create(&case.topic, 2, "compact");
    let journal = Memory::default();
    let plan = case.prepare(&journal).unwrap();
    assert_eq!(plan.topics[&case.topic].partitions, 2);
    delete(&case.topic);
    create(&case.topic, 2, "compact");
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    let was = plan.topics[&case.topic]
        .id
        .clone()
        .expect("brokers have topic ids");
    assert!(fault.message.contains(&was), "{fault}");
    assert!(fault.message.contains("republish"), "{fault}");
}

#[test]
fn r22_a_raised_partition_count_keeps_the_old_mapping() {
    let case = Case::new("raised");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let partitions = [NewPartitions::new(&case.topic, 4)];
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    block_on(admin().create_partitions(&partitions, &options)).unwrap();
    let plan = case.prepare(&journal).unwrap();
    assert_eq!(plan.topics[&case.topic].partitions, 1);
}

#[test]
fn r18_known_topics_do_not_wait_for_kafka_and_new_ones_do() {
    let case = Case::new("away");
    let journal = Memory::default();
    let there = case.prepare(&journal).unwrap();
    let mut config = Config::clone(&case.config);
    // Nobody listens on the discard port.
    config.kafka.as_mut().unwrap().bootstrap = "127.0.0.1:9".into();
    let topics = [case.topic.clone()];
    let stop = AtomicBool::new(false);
    let plan = kafka::prepare(&config, &topics, &journal, &stop)
        .unwrap()
        .expect("a plan");
    assert!(!plan.confirmed);
    assert_eq!(plan.topics, there.topics);
    stop.store(true, Ordering::Relaxed);
    let unknown = [case.topic.clone(), "unknown".into()];
    assert_eq!(
        kafka::prepare(&config, &unknown, &journal, &stop).unwrap(),
        None
    );
}

#[test]
fn r32_another_cluster_is_refused() {
    let case = Case::new("cluster");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let other = vec![("kafka/cluster".to_string(), Some("\"other\"".to_string()))];
    journal.set(other, true).unwrap();
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("'other'"), "{fault}");
}

#[test]
fn r31_a_stop_ends_the_wait_for_kafka_at_the_last_position() {
    let case = Case::new("stop");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut config = Config::clone(&case.config);
    config.kafka.as_mut().unwrap().bootstrap = "127.0.0.1:9".into();
    let case = Case {
        config: Arc::new(config),
        topic: case.topic,
    };
    let setup = case.setup(&journal, Seq(0));
    setup.stop.store(true, Ordering::Relaxed);
    let mut publisher = KafkaPublisher::new(setup);
    assert_eq!(publisher.advance(upto).unwrap(), Seq(0));
}

//! A publisher alone: its journal in memory, its Kafka real.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use deltapoll::change::Seq;
use deltapoll::config::Config;
use deltapoll::config::secret::Text;
use deltapoll::fault::Fault;
use deltapoll::follower::Follower;
use deltapoll::io::kafka::{
    self, KafkaPublisher, OPEN_MAX, Setup, TopicPlan, incarnation, progress,
};
use deltapoll::io::lineage;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::kafka::Broker;
use super::memory::Memory;
use super::wait::{PATIENCE, wait_until};

/// One test's own names.
pub struct Case {
    pub config: Arc<Config>,
    pub topic: String,
}

impl Case {
    /// A case on the shared broker.
    pub fn new(name: &str) -> Case {
        Case::with(name, &[])
    }

    /// The same with properties of the producer.
    pub fn with(name: &str, properties: &[(&str, &str)]) -> Case {
        Case::on(&bootstrap(), name, properties)
    }

    /// The same on the brokers at `bootstrap`.
    pub fn on(bootstrap: &str, name: &str, properties: &[(&str, &str)]) -> Case {
        let name = format!("{name}-{:016x}", rand::random::<u64>());
        let text = format!("name = '{name}'\n[source]\n[kafka]\nbootstrap = '{bootstrap}'\n");
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

    /// The same case with its configuration changed.
    pub fn changed(&self, change: impl FnOnce(&mut Config)) -> Case {
        let mut config = Config::clone(&self.config);
        change(&mut config);
        Case {
            config: Arc::new(config),
            topic: self.topic.clone(),
        }
    }

    pub fn bootstrap(&self) -> &str {
        &self.config.kafka.as_ref().unwrap().bootstrap
    }

    pub fn prepare(&self, journal: &Memory) -> Result<TopicPlan, Fault> {
        let never = AtomicBool::new(false);
        let topics = [self.topic.clone()];
        let plan = kafka::prepare(&self.config, &topics, journal, &never)?;
        Ok(plan.expect("nobody stops it"))
    }

    /// A start of a process on `journal`, whose publisher knows `position`.
    pub fn start(&self, journal: &Memory, position: Seq) -> KafkaPublisher {
        KafkaPublisher::new(self.setup(journal, position))
    }

    pub fn setup(&self, journal: &Memory, position: Seq) -> Setup {
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
            open_max: OPEN_MAX,
            stop: Arc::default(),
            late: Arc::default(),
        }
    }

    /// What a reader of committed records sees.
    pub fn committed(&self) -> Vec<serde_json::Value> {
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
    pub fn pairs(&self) -> Vec<String> {
        let one = |line: &serde_json::Value| {
            format!("{}={}", line["key"].as_str().unwrap(), line["value"])
        };
        self.committed().iter().map(one).collect()
    }

    pub fn progress(&self) -> progress::Progress {
        progress::read_committed(&self.config)
            .unwrap()
            .expect("a record")
    }

    /// A producer that takes the case's transactional id, for foul play.
    pub fn rival(&self) -> BaseProducer {
        let id = format!("deltapoll-{}-0", self.config.name);
        transactional(self.bootstrap(), &id)
    }
}

/// What `advance` of such a publisher comes to; one that is still at it after a while is stopped, and
/// fails.
pub fn outcome(setup: Setup, upto: Seq) -> Result<Seq, Fault> {
    let flags = [setup.stop.clone(), setup.late.clone()];
    let (sender, ended) = channel();
    let publishing = thread::spawn(move || {
        let mut publisher = KafkaPublisher::new(setup);
        // The receiver may have lost patience.
        let _ = sender.send(publisher.advance(upto));
    });
    let outcome = ended.recv_timeout(PATIENCE / 2);
    for flag in flags {
        flag.store(true, Ordering::Relaxed);
    }
    publishing.join().unwrap();
    outcome.expect("it comes to an end")
}

/// Where the shared broker is.
pub fn bootstrap() -> String {
    Broker::shared().bootstrap()
}

/// A producer with this transactional id, ready to begin.
pub fn transactional(bootstrap: &str, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id)
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    producer
}

/// Sends one record and waits until it is there.
pub fn send(producer: &BaseProducer, topic: &str, key: &str, value: &str) {
    let record = BaseRecord::to(topic).key(key).payload(value).partition(0);
    producer.send(record).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// A producer without transactions.
pub fn stranger(bootstrap: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap()
}

/// What anybody may do to topics.
pub struct Hands {
    admin: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

impl Hands {
    pub fn on(bootstrap: &str) -> Hands {
        let admin = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .create()
            .unwrap();
        Hands {
            admin,
            options: AdminOptions::new().operation_timeout(Some(Duration::from_secs(10))),
        }
    }

    pub fn create(&self, topic: &str, partitions: i32, policy: &str) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let topics = [topic.set("cleanup.policy", policy)];
        let made = block_on(self.admin.create_topics(&topics, &self.options)).unwrap();
        made[0].as_ref().unwrap();
    }

    pub fn delete(&self, topic: &str) {
        let gone = block_on(self.admin.delete_topics(&[topic], &self.options)).unwrap();
        gone[0].as_ref().unwrap();
    }

    /// Raises the number of partitions.
    pub fn raise(&self, topic: &str, partitions: usize) {
        let partitions = [NewPartitions::new(topic, partitions)];
        block_on(self.admin.create_partitions(&partitions, &self.options)).unwrap();
    }

    /// Deletes every record of partition 0. Brokers refuse that for a topic that is only compacted: the
    /// policy is another one meanwhile.
    pub fn truncate(&self, topic: &str) {
        self.set_policy(topic, "delete");
        let mut upto = TopicPartitionList::new();
        upto.add_partition_offset(topic, 0, Offset::End).unwrap();
        wait_until("records are deleted", PATIENCE, || {
            let deleted = block_on(self.admin.delete_records(&upto, &self.options)).unwrap();
            deleted.elements()[0].error().ok()
        });
        self.set_policy(topic, "compact");
    }

    fn set_policy(&self, topic: &str, policy: &str) {
        let topic = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let configs = [topic.set("cleanup.policy", policy)];
        let altered = block_on(self.admin.alter_configs(&configs, &self.options)).unwrap();
        altered[0].as_ref().unwrap();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

//! A real Kafka cluster: three brokers and a controller, and a proxy in front of every broker.
//!
//! Brokers and the tests' own clients talk to each other directly; who is given
//! [`Cluster::proxied`] finds the proxies, and stays with them, since each broker names its own.

use std::net::TcpListener;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use tempfile::TempDir;

use super::node::Node;
use super::proxy::{Api, Deed, Proxy};
use super::wait::{PATIENCE, wait_until};

const CONTROLLER: usize = 100;
const ASK: Duration = Duration::from_secs(5);

/// A running cluster.
pub struct Cluster {
    controller: Node,
    brokers: Vec<Broker>,
    _dir: TempDir,
}

struct Broker {
    node: Node,
    external: u16,
    proxy: Proxy,
}

impl Cluster {
    /// The one cluster, whole and undisturbed, for one test at a time.
    pub fn alone() -> MutexGuard<'static, Cluster> {
        static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| Mutex::new(Cluster::start()));
        // A test that failed leaves it as it was; it is made whole below.
        let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.mend();
        cluster
    }

    fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let controller_port = quiet_port();
        let voters = format!("controller.quorum.voters={CONTROLLER}@127.0.0.1:{controller_port}\n");
        let text = format!(
            "process.roles=controller\nnode.id={CONTROLLER}\n\
             listeners=CONTROLLER://127.0.0.1:{controller_port}\n{voters}{COMMON}"
        );
        let controller = Node::new(dir.path().join("controller"), &text, "-Xmx128m");
        let broker = |id: usize| {
            let [internal, external, behind] = [(); 3].map(|()| quiet_port());
            let proxy = Proxy::start(behind);
            let proxied = proxy.port();
            let text = format!(
                "process.roles=broker\nnode.id={id}\n\
                 listeners=INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{external},PROXIED://127.0.0.1:{behind}\n\
                 advertised.listeners=INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{external},PROXIED://127.0.0.1:{proxied}\n\
                 {voters}{COMMON}{BROKER}"
            );
            let node = Node::new(dir.path().join(format!("broker-{id}")), &text, "-Xmx256m");
            Broker {
                node,
                external,
                proxy,
            }
        };
        let mut cluster = Cluster {
            controller,
            brokers: (0..3).map(broker).collect(),
            _dir: dir,
        };
        let mut nodes = vec![&cluster.controller];
        nodes.extend(cluster.brokers.iter().map(|broker| &broker.node));
        Node::format(&nodes);
        cluster.controller.start();
        cluster
    }

    /// Brings back what was killed or paused, lets everything pass, and waits until all is well.
    fn mend(&mut self) {
        for broker in &mut self.brokers {
            broker.proxy.reset();
            broker.node.start();
        }
        self.wait_until_whole();
    }

    /// Waits until every broker is there, knows of the others and follows, and a transaction can begin.
    pub fn wait_until_whole(&self) {
        let what = format!("the cluster, see {}", self.controller.log().display());
        wait_until(&what, PATIENCE, || {
            let whole = |broker: &Broker| {
                let client = consumer(&broker.address(), true);
                let metadata = client.fetch_metadata(None, Duration::from_secs(1)).ok()?;
                let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
                let synced = partitions.all(|p| p.isr().len() == p.replicas().len());
                (metadata.brokers().len() == 3 && synced).then_some(())
            };
            self.brokers.iter().try_for_each(whole)
        });
        wait_until("the coordinator of transactions", PATIENCE, || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", self.bootstrap())
                .set("transactional.id", "ready")
                .create()
                .unwrap();
            producer.init_transactions(ASK).ok()
        });
    }

    /// Past the proxies.
    pub fn bootstrap(&self) -> String {
        let all: Vec<_> = self.brokers.iter().map(Broker::address).collect();
        all.join(",")
    }

    /// Through the proxies.
    pub fn proxied(&self) -> String {
        let address = |broker: &Broker| format!("127.0.0.1:{}", broker.proxy.port());
        let all: Vec<_> = self.brokers.iter().map(address).collect();
        all.join(",")
    }

    /// The proxies of all brokers.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.brokers.iter().map(|broker| &broker.proxy)
    }

    /// Gives every proxy this order, and waits until one of them has met such an answer.
    pub fn withhold(&self, api: Api, deed: Deed) {
        self.proxies().for_each(|proxy| proxy.order(api, deed, 1));
        wait_until(&format!("an answer to {api:?}"), PATIENCE, || {
            let mut met = self.proxies().filter(|proxy| proxy.withheld() > 0);
            met.next().map(drop)
        });
    }

    /// Lets everything pass again.
    pub fn let_pass(&self) {
        self.proxies().for_each(Proxy::reset);
    }

    /// The place of the broker that leads the partition.
    pub fn leader(&self, topic: &str, partition: i32) -> usize {
        wait_until(
            &format!("a leader of {topic}/{partition}"),
            PATIENCE,
            || {
                let client = consumer(&self.bootstrap(), true);
                let metadata = client.fetch_metadata(Some(topic), ASK).ok()?;
                let partitions = metadata.topics()[0].partitions();
                let found = partitions.iter().find(|found| found.id() == partition)?;
                usize::try_from(found.leader()).ok()
            },
        )
    }

    /// The place of the broker that coordinates transactions.
    pub fn coordinator(&self) -> usize {
        self.leader("__transaction_state", 0)
    }

    pub fn kill9(&mut self, broker: usize) {
        self.brokers[broker].node.kill9();
    }

    pub fn kill9_all(&mut self) {
        (0..3).for_each(|broker| self.kill9(broker));
    }

    /// Starts what was killed; it is not waited for.
    pub fn start_all(&mut self) {
        for broker in &mut self.brokers {
            broker.node.start();
        }
    }

    pub fn signal(&self, broker: usize, signal: &str) {
        self.brokers[broker].node.signal(signal);
    }
}

impl Broker {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.external)
    }
}

/// The ends of all partitions of `topic` together: of what is committed, or of all.
pub fn end(bootstrap: &str, topic: &str, committed: bool) -> Option<i64> {
    let client = consumer(bootstrap, committed);
    let metadata = client.fetch_metadata(Some(topic), ASK).ok()?;
    let partitions = metadata.topics()[0].partitions().iter();
    let ends = partitions.map(|partition| {
        let ends = client.fetch_watermarks(topic, partition.id(), ASK);
        ends.ok().map(|(_, end)| end)
    });
    ends.sum()
}

/// A free port that no outgoing connection takes while its broker is dead.
fn quiet_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| rand::random_range(10_000..32_000));
    ports.find(is_free).unwrap()
}

fn consumer(bootstrap: &str, committed: bool) -> BaseConsumer {
    let isolation = ["read_uncommitted", "read_committed"][usize::from(committed)];
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("isolation.level", isolation)
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
        .create()
        .unwrap()
}

const COMMON: &str = "\
controller.listener.names=CONTROLLER
listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
";

const BROKER: &str = "\
inter.broker.listener.name=INTERNAL
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
replica.lag.time.max.ms=5000
log.cleaner.dedupe.buffer.size=2097152
";

//! A real Apache Kafka: one node, on free ports, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use tempfile::TempDir;

use super::node::Node;
use super::process::free_port;
use super::wait::{PATIENCE, wait_until};

const USER: &str = "test";
pub const PASSWORD: &str = "broker-secret-of-the-tests";
const STORE_PASSWORD: &str = "store-secret";

/// A running broker.
pub struct Broker {
    node: Node,
    external: u16,
    secure: u16,
    _dir: TempDir,
}

impl Broker {
    /// The one that tests share unless they harm it.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// Starts a broker and waits until it takes transactions.
    pub fn start() -> Broker {
        let dir = tempfile::tempdir().unwrap();
        let [internal, external, controller, secure] = [(); 4].map(|()| free_port());
        let place = dir.path().join("broker");
        let text = properties(&place, internal, external, controller, secure);
        let node = Node::new(place, &text, "-Xmx384m");
        certificate(node.dir());
        Node::format(&[&node]);
        let mut broker = Broker {
            node,
            external,
            secure,
            _dir: dir,
        };
        broker.node.start();
        wait_until(
            &format!("Kafka, see {}", broker.node.log().display()),
            PATIENCE,
            || broker.ready(),
        );
        broker
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.external)
    }

    /// The listener that speaks SASL over TLS.
    pub fn secure_bootstrap(&self) -> String {
        format!("localhost:{}", self.secure)
    }

    /// Whom its certificate is signed by, as PEM.
    pub fn authority(&self) -> PathBuf {
        self.node.dir().join("ca.pem")
    }

    /// A throw-away transaction can be begun: the coordinator is there.
    fn ready(&self) -> Option<()> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("transactional.id", "ready");
        let producer: BaseProducer = config.create().ok()?;
        producer.init_transactions(Duration::from_secs(5)).ok()
    }
}

/// A key for the broker, and the certificate for its clients.
fn certificate(dir: &Path) {
    let keytool = |arguments: &[&str]| {
        let mut keytool = Command::new("keytool");
        keytool
            .args(arguments)
            .args(["-keystore", "broker.p12", "-storepass", STORE_PASSWORD]);
        let output = keytool.current_dir(dir).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    };
    keytool(&[
        "-genkeypair",
        "-alias",
        "broker",
        "-keyalg",
        "RSA",
        "-keysize",
        "2048",
        "-validity",
        "3650",
        "-storetype",
        "PKCS12",
        "-dname",
        "CN=localhost",
        "-ext",
        "bc:c",
        "-ext",
        "san=dns:localhost,ip:127.0.0.1",
    ]);
    keytool(&["-exportcert", "-rfc", "-alias", "broker", "-file", "ca.pem"]);
}

fn properties(dir: &Path, internal: u16, external: u16, controller: u16, secure: u16) -> String {
    let store = dir.join("broker.p12");
    let store = store.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{external},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:{secure}
advertised.listeners=INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{external},SECURE://localhost:{secure}
listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
inter.broker.listener.name=INTERNAL
sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.secure.ssl.keystore.type=PKCS12
listener.name.secure.ssl.keystore.location={store}
listener.name.secure.ssl.keystore.password={STORE_PASSWORD}
listener.name.secure.ssl.key.password={STORE_PASSWORD}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=4
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"
    )
}

//! Every librdkafka option that we set, with its reason; the user's `properties` beneath them.
//!
//! Options that exactly-once depends on are refused in `properties`. Values may be secrets: they are
//! revealed when a client is made and left out of every message.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::config::Config;
use crate::fault::Fault;

/// Options that are ours alone, with the reason.
const REFUSED: [(&str, &str); 20] = [
    ("bootstrap.servers", "set [kafka].bootstrap"),
    ("metadata.broker.list", "set [kafka].bootstrap"),
    ("transactional.id", "it is made of the name"),
    ("enable.idempotence", "exactly-once needs it"),
    ("enable.gapless.guarantee", "transactions replace it"),
    ("acks", "exactly-once needs all"),
    ("request.required.acks", "exactly-once needs all"),
    ("max.in.flight", "the order of changes depends on it"),
    (
        "max.in.flight.requests.per.connection",
        "the order of changes depends on it",
    ),
    ("retries", "a record is tried until its transaction ends"),
    (
        "message.send.max.retries",
        "a record is tried until its transaction ends",
    ),
    ("message.timeout.ms", "it follows transaction.timeout.ms"),
    ("delivery.timeout.ms", "it follows transaction.timeout.ms"),
    ("message.max.bytes", "it follows the topics' limits"),
    ("isolation.level", "open transactions must stay invisible"),
    ("enable.auto.commit", "progress is in the progress topic"),
    (
        "enable.auto.offset.store",
        "progress is in the progress topic",
    ),
    ("auto.offset.reset", "we say where to start"),
    ("enable.partition.eof", "we read to known ends"),
    ("delivery.report.only.error", "every delivery is counted"),
];

/// librdkafka's own default for a batch of records.
const BATCH_BYTES: u64 = 1_000_000;
/// librdkafka's own default for a record; a smaller value brings nothing.
const MESSAGE_BYTES_MIN: u64 = 1_000_000;
/// What librdkafka and we take.
const MESSAGE_BYTES_MAX: u64 = 1_000_000_000;

/// What the topics allow (R11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The largest `max.message.bytes` among our topics.
    pub(crate) largest: u64,
    /// The smallest of them.
    pub(crate) smallest: u64,
}

/// The configuration of every client, secrets revealed.
#[derive(Clone)]
pub struct Settings {
    name: String,
    bootstrap: String,
    properties: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Settings {
    /// Reads what `config` says of Kafka; refuses options that are ours, and reveals secrets.
    ///
    /// # Errors
    /// Names the option; never its value.
    pub fn read(config: &Config) -> Result<Settings, Fault> {
        let kafka = config
            .kafka
            .as_ref()
            .ok_or_else(|| Fault::usage("[kafka] is missing in the configuration"))?;
        let mut properties = Vec::new();
        let mut secrets = Vec::new();
        for (option, text) in &kafka.properties {
            if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == option) {
                return Err(Fault::usage(format!(
                    "[kafka].properties must not set '{option}': {why}; remove it"
                )));
            }
            let value = text
                .reveal()
                .map_err(|why| Fault::usage(format!("[kafka].properties '{option}': {why}")))?;
            if text.written().contains("${") || is_secret(option) {
                secrets.push(value.clone());
            }
            properties.push((option.clone(), value));
        }
        Ok(Settings {
            name: config.name.clone(),
            bootstrap: kafka.bootstrap.clone(),
            properties,
            secrets,
        })
    }

    /// Where the cluster is, for messages.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The id that lets one instance write: one per name, and (from now on) per process.
    pub(crate) fn transactional_id(&self) -> String {
        format!("deltapoll-{}-0", self.name)
    }

    /// What all clients share.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Lets the broker's operator see who we are.
        config.set("client.id", format!("deltapoll-{}", self.name));
        // The default of 10 s is most of the outage when a broker restarts in two.
        config.set("reconnect.backoff.max.ms", "500");
        // Idle connections are closed by brokers; that is no news.
        config.set("log.connection.close", "false");
        for (option, value) in &self.properties {
            config.set(option, value);
        }
        // IMPORTANT: what follows the user's properties must not be overridden by them.
        config.set("bootstrap.servers", &self.bootstrap);
        // What is worth a line is decided where it arrives (context.rs).
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// The one transactional producer.
    pub(crate) fn producer(&self, sizes: Sizes) -> ClientConfig {
        let mut config = self.client();
        let mut default = |option: &str, value: &str| {
            if config.get(option).is_none() {
                config.set(option, value);
            }
        };
        // How long readers of committed data wait for us after a crash; an outage that is longer
        // costs one way back (R19), nothing more.
        default("transaction.timeout.ms", "60000");
        // A broker that hangs without closing the connection is given up after 60 s by default;
        // librdkafka wants this below the transaction's timeout.
        default("socket.timeout.ms", "20000");
        // Batches that linger less hold some dozen records each, and to publish a million takes twice the
        // time. The end of a transaction does not wait for it: it is flushed (session.rs).
        default("linger.ms", "5");
        // With Nagle's algorithm a request that ends in a small segment waits for the broker's delayed
        // acknowledgement, tens of milliseconds.
        default("socket.nagle.disable", "true");
        // Bounds what librdkafka holds; a full queue is back-pressure (R20). Its defaults, 100,000
        // records and 1 GiB, leave memory to whatever waits; a record costs 500 bytes beside its own.
        default("queue.buffering.max.messages", "20000");
        let buffer_kib = (2 * message_bytes(sizes) / 1024).max(16 * 1024);
        default("queue.buffering.max.kbytes", &buffer_kib.to_string());
        // Topics were seen before anything is produced: one that stays unknown is gone (30 s by
        // default).
        default("topic.metadata.propagation.max.ms", "15000");
        // A batch is refused as a whole by the topic with the smallest limit.
        let batch = config.get("batch.size").and_then(|text| text.parse().ok());
        let batch = batch.unwrap_or(BATCH_BYTES).min(sizes.smallest).max(1);
        config.set("batch.size", batch.to_string());
        let number = |option| config.get(option).and_then(|text| text.parse::<u64>().ok());
        if let (Some(transaction), Some(socket)) = (
            number("transaction.timeout.ms"),
            number("socket.timeout.ms"),
        ) {
            config.set("socket.timeout.ms", socket.min(transaction).to_string());
        }
        config.set("transactional.id", self.transactional_id());
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        // R11: what a topic takes, the producer takes.
        config.set("message.max.bytes", message_bytes(sizes).to_string());
        config
    }

    /// A reader of committed records (`committed`), or of the log's true end.
    pub(crate) fn consumer(&self, committed: bool) -> ClientConfig {
        let mut config = self.client();
        if config.get("group.id").is_none() {
            // Partitions are assigned, never subscribed to: the group is never joined.
            config.set("group.id", format!("deltapoll-{}", self.name));
        }
        let isolation = if committed {
            "read_committed"
        } else {
            "read_uncommitted"
        };
        config.set("isolation.level", isolation);
        config.set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true");
        config.set("allow.auto.create.topics", "false");
        // The reading starts at an absolute offset; if that is cut off meanwhile, at the next one.
        config.set("auto.offset.reset", "earliest");
        // A fetch at the end of the log answers at once: start-up reads the progress topic twice.
        config.set("fetch.wait.max.ms", "10");
        config
    }

    /// A client that cannot be made: the configuration is wrong. Never shows a value.
    pub(crate) fn fault(&self, error: &KafkaError) -> Fault {
        let message = match error {
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, option, _) => {
                format!("[kafka].properties '{option}': librdkafka knows no such option")
            }
            KafkaError::ClientConfig(_, _, option, _) => {
                format!("[kafka].properties '{option}': librdkafka does not accept the value")
            }
            other => format!(
                "librdkafka cannot be set up, check [kafka].properties: {}",
                self.redact(&other.to_string())
            ),
        };
        Fault::usage(message)
    }

    /// `text` without any secret value.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "(secret)");
        }
        text
    }
}

fn message_bytes(sizes: Sizes) -> u64 {
    sizes.largest.clamp(MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX)
}

/// Options whose literal value must not be shown either.
fn is_secret(option: &str) -> bool {
    ["password", "secret", "pem", "token", "oauthbearer.config"]
        .iter()
        .any(|word| option.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Text;

    const SIZES: Sizes = Sizes {
        largest: 5_000_000,
        smallest: 200_000,
    };

    fn config(properties: &[(&str, &str)]) -> Config {
        let text = "name = 'league'\n[source]\n[kafka]\nbootstrap = 'broker:9092'\n";
        let mut config: Config = toml::from_str(text).expect("sound");
        let kafka = config.kafka.as_mut().expect("there");
        for (option, value) in properties {
            kafka.properties.insert((*option).into(), Text::new(*value));
        }
        config
    }

    #[test]
    fn options_that_exactly_once_depends_on_are_refused() {
        for (option, _) in REFUSED {
            let fault = Settings::read(&config(&[(option, "1")])).err();
            let fault = fault.expect("refused");
            assert_eq!(fault.exit, crate::fault::Exit::Usage);
            assert!(fault.message.contains(option), "{fault}");
        }
    }

    #[test]
    fn r11_the_producer_takes_what_the_topics_take() {
        let settings = Settings::read(&config(&[("compression.type", "lz4")])).expect("sound");
        let producer = settings.producer(SIZES);
        assert_eq!(producer.get("message.max.bytes"), Some("5000000"));
        assert_eq!(producer.get("batch.size"), Some("200000"));
        assert_eq!(producer.get("transactional.id"), Some("deltapoll-league-0"));
        assert_eq!(producer.get("compression.type"), Some("lz4"));
        producer
            .create_native_config()
            .expect("librdkafka knows all of it");
        let consumer = settings.consumer(true);
        consumer
            .create_native_config()
            .expect("librdkafka knows all of it");
    }

    #[test]
    fn no_message_shows_a_secret() {
        let properties = [("sasl.password", "hunter2"), ("linger.ms", "hunter2")];
        let settings = Settings::read(&config(&properties)).expect("sound");
        let error = settings.client().create_native_config().err();
        let error = error.expect("linger.ms is no number");
        assert!(error.to_string().contains("hunter2"), "librdkafka shows it");
        let fault = settings.fault(&error);
        assert!(fault.message.contains("linger.ms"), "{fault}");
        assert!(!fault.message.contains("hunter2"), "{fault}");
        assert_eq!(settings.redact("x hunter2 y"), "x (secret) y");
    }
}

//! Questions about the cluster and its topics, in bounded time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use deltapoll_state::fail;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::clock;
use crate::fault::Fault;
use crate::io::kafka::context::Context;
use crate::io::kafka::describe::{self, Described};
use crate::io::kafka::error::{Error, of_question};
use crate::io::kafka::settings::Settings;

/// The longest that one question takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// A known topic is gone when brokers have said so for so long: one that was away for a while may not
/// have heard of it yet.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// The part of a topic's configuration that we depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    pub(crate) max_message_bytes: u64,
    pub(crate) cleanup_policy: String,
    /// A younger record is not compacted away.
    pub(crate) compaction_lag_ms: u64,
}

/// How a missing topic is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creation<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: u32,
    pub(crate) replication: u16,
    pub(crate) config: &'a [(&'a str, &'a str)],
}

/// A client that asks.
pub(crate) struct Admin<'a> {
    client: AdminClient<Context>,
    settings: &'a Settings,
    stop: &'a AtomicBool,
}

impl<'a> Admin<'a> {
    pub(crate) fn open(settings: &'a Settings, stop: &'a AtomicBool) -> Result<Admin<'a>, Error> {
        let client = settings.client().create_with_context(Context::default());
        let client = client.map_err(|error| settings.fault(&error))?;
        Ok(Admin {
            client,
            settings,
            stop,
        })
    }

    /// The cluster's id; the first question, and so the one that finds Kafka unreachable.
    pub(crate) fn cluster_id(&self) -> Result<String, Error> {
        const STEP: Duration = Duration::from_millis(500);
        let until = clock::now() + PATIENCE;
        while clock::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            if let Some(id) = self.client.inner().fetch_cluster_id(STEP) {
                return Ok(id);
            }
        }
        Err(Error::Retry(format!(
            "no answer from {} within {}s",
            self.settings.bootstrap(),
            PATIENCE.as_secs()
        )))
    }

    /// What the topics are; `None`: there is no such topic.
    pub(crate) fn describe(&self, topics: &[&str]) -> Result<Vec<Option<Described>>, Error> {
        let answers = describe::describe_topics(self.client.inner(), topics, PATIENCE)
            .map_err(|code| of_question("describing topics", code))?;
        let one = |topic: &&str| {
            let answer = answers.iter().find(|(name, _)| name == topic);
            match answer.map(|(_, answer)| answer) {
                Some(Ok(described)) => Ok(Some(described.clone())),
                Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => Ok(None),
                Some(Err(code)) => Err(of_question(&format!("describing topic '{topic}'"), *code)),
                None => Err(Error::Retry(format!("no description of topic '{topic}'"))),
            }
        };
        topics.iter().map(one).collect()
    }

    /// The same, asking again for a while where one that `is_known` is missing.
    pub(crate) fn describe_known(
        &self,
        topics: &[&str],
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Vec<Option<Described>>, Error> {
        const STEP: Duration = Duration::from_millis(200);
        let until = clock::now() + GONE_AFTER;
        loop {
            let described = self.describe(topics)?;
            let mut pairs = topics.iter().zip(&described);
            let missing = pairs.any(|(topic, found)| found.is_none() && is_known(topic));
            if !missing || clock::now() > until {
                return Ok(described);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            clock::pause(STEP);
        }
    }

    /// The configuration of topics that exist.
    pub(crate) fn configs(&self, topics: &[&str]) -> Result<Vec<TopicConfig>, Error> {
        let resources: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
        let answer = self.client.describe_configs(&resources, &options());
        let doing = "reading the topics' configuration";
        let mut found = BTreeMap::new();
        for resource in self.wait(doing, answer)? {
            let resource = resource.map_err(|code| of_question(doing, code))?;
            if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                found.insert(name.clone(), resource);
            }
        }
        let read = |topic: &&str| {
            let resource = found.get(*topic);
            let value = |name: &str| resource?.get(name)?.value.clone();
            let limit = value("max.message.bytes").and_then(|text| text.parse().ok());
            let lag = value("min.compaction.lag.ms").and_then(|text| text.parse().ok());
            match (limit, value("cleanup.policy")) {
                (Some(max_message_bytes), Some(cleanup_policy)) => Ok(TopicConfig {
                    max_message_bytes,
                    cleanup_policy,
                    compaction_lag_ms: lag.unwrap_or(0),
                }),
                _ => Err(Error::Retry(format!("{doing}: nothing about '{topic}'"))),
            }
        };
        topics.iter().map(read).collect()
    }

    /// Makes a topic; that it exists already is no error.
    pub(crate) fn create(&self, creation: &Creation<'_>) -> Result<(), Error> {
        let name = creation.name;
        let partitions = i32::try_from(creation.partitions).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(i32::from(creation.replication));
        let mut topic = NewTopic::new(name, partitions, replication);
        for (option, value) in creation.config {
            topic = topic.set(option, value);
        }
        let doing = format!("creating topic '{name}'");
        let topics = [topic];
        let answer = self.client.create_topics(&topics, &options());
        match self.wait(&doing, answer)?.pop() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) => {
                fail::step("kafka.topic.made");
                Ok(())
            }
            Some(Err((_, code))) if is_permanent(code) => Err(Error::Stop(Fault::failed(format!(
                "{doing} with {} partitions and replication {}: {code}; check [kafka].create and \
                 the rights, or create it by hand",
                creation.partitions, creation.replication
            )))),
            Some(Err((_, code))) => Err(of_question(&doing, code)),
            None => Err(Error::Retry(format!("{doing}: no answer"))),
        }
    }

    /// Waits for a request that librdkafka ends within [`PATIENCE`], unless the program stops.
    fn wait<T>(
        &self,
        what: &str,
        future: impl Future<Output = KafkaResult<T>>,
    ) -> Result<T, Error> {
        const STEP: Duration = Duration::from_millis(2);
        let mut future = pin!(future);
        let mut task = TaskContext::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut task) {
                Poll::Ready(Ok(answer)) => return Ok(answer),
                Poll::Ready(Err(KafkaError::AdminOp(code))) => {
                    return Err(of_question(what, code));
                }
                Poll::Ready(Err(error)) => {
                    return Err(Error::Retry(format!("{what}: {error}")));
                }
                Poll::Pending if self.stop.load(Ordering::Relaxed) => return Err(Error::Stopped),
                Poll::Pending => clock::pause(STEP),
            }
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

/// A topic that cannot be made like this, today or tomorrow. Too few brokers may be a matter of time,
/// but nobody should wait for that unasked.
fn is_permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::InvalidReplicationFactor
            | Code::InvalidPartitions
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

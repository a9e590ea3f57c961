//! What both programs are told, and how both publish.

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

/// The end of a program that does nothing about errors.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How long a step of a transaction may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// `PROGRAM URL BOOTSTRAP TOPIC POLLS [--transactions] [--headers]`.
pub struct Args {
    pub url: String,
    pub bootstrap: String,
    pub topic: String,
    pub polls: u64,
    /// One transaction a poll.
    pub transactions: bool,
    /// Each record gets the headers that Deltapoll's have.
    pub headers: bool,
}

impl Args {
    /// Those of the process.
    pub fn read() -> Result<Args, Failure> {
        let mut args: Vec<String> = env::args().skip(1).collect();
        let mut flag = |name| {
            let at = args.iter().position(|arg| arg == name);
            at.map(|at| args.remove(at)).is_some()
        };
        let (transactions, headers) = (flag("--transactions"), flag("--headers"));
        let Ok([url, bootstrap, topic, polls]) = <[String; 4]>::try_from(args) else {
            return Err(
                "use: PROGRAM URL BOOTSTRAP TOPIC POLLS [--transactions] [--headers]".into(),
            );
        };
        Ok(Args {
            url,
            bootstrap,
            topic,
            polls: polls.parse()?,
            transactions,
            headers,
        })
    }
}

/// Sends without waiting for one record after the other, and waits at the end of each poll.
pub struct Publisher {
    producer: FutureProducer,
    topic: String,
    transactions: bool,
    open: bool,
    under_way: VecDeque<DeliveryFuture>,
    /// What the records of a poll share, if they get headers.
    shared: Option<OwnedHeaders>,
}

impl Publisher {
    pub fn new(args: &Args) -> Result<Publisher, Failure> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &args.bootstrap);
        config.set("acks", "all");
        config.set("compression.type", "lz4");
        if args.transactions {
            config.set("transactional.id", &args.topic);
        }
        let producer: FutureProducer = config.create()?;
        if args.transactions {
            producer.init_transactions(PATIENCE)?;
        }
        Ok(Publisher {
            producer,
            topic: args.topic.clone(),
            transactions: args.transactions,
            open: false,
            under_way: VecDeque::new(),
            shared: args.headers.then(OwnedHeaders::new),
        })
    }

    /// What is sent from here on is of poll `number`, which has just arrived.
    pub fn polled(&mut self, number: u64) -> Result<(), Failure> {
        if let Some(shared) = &mut self.shared {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
            let (now, number) = (now.to_string(), number.to_string());
            *shared = OwnedHeaders::new_with_capacity(6)
                .insert(header("epoch", &now))
                .insert(header("seq", &number))
                .insert(header("polled_at", &now))
                .insert(header("source", "challenger"))
                .insert(header("cell", ""));
        }
        Ok(())
    }

    /// `change`: whether it is new, in the word of the header.
    pub async fn send(&mut self, key: &str, value: &str, change: &str) -> Result<(), Failure> {
        if self.transactions && !self.open {
            self.producer.begin_transaction()?;
            self.open = true;
        }
        let mut record = FutureRecord::to(&self.topic).key(key).payload(value);
        if let Some(shared) = &self.shared {
            record = record.headers(shared.clone().insert(header("change", change)));
        }
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => {
                    self.under_way.push_back(delivery);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    oldest(&mut self.under_way).await?;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Everything that was sent is acknowledged, and committed.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            oldest(&mut self.under_way).await?;
        }
        if self.open {
            self.producer.commit_transaction(PATIENCE)?;
            self.open = false;
        }
        Ok(())
    }
}

fn header<'a>(key: &'a str, value: &'a str) -> Header<'a, &'a str> {
    Header {
        key,
        value: Some(value),
    }
}

/// Waits for the acknowledgement of what was sent first.
async fn oldest(under_way: &mut VecDeque<DeliveryFuture>) -> Result<(), Failure> {
    if let Some(delivery) = under_way.pop_front() {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}

//! The program's own publisher, over a journal that a bench has made.

use std::sync::Arc;

use deltapoll::change::Seq;
use deltapoll::config::{self, Config};
use deltapoll::fault::Fault;
use deltapoll::io::kafka::{self, KafkaPublisher, OPEN_MAX, Setup, incarnation};
use deltapoll::io::lineage;
use deltapoll::ledger::Ledger;
use deltapoll::stop::Stop;

/// A configuration of one source, whose topic is called as the instance.
pub fn config(name: &str, bootstrap: &str, partitions: u32, headers: bool) -> Config {
    let text = format!(
        "name = {name:?}\n\
         [source.challenger]\n\
         url = \"http://127.0.0.1:1/\"\n\
         key = [\"/puuid\"]\n\
         topic = {name:?}\n\
         [kafka]\n\
         bootstrap = {bootstrap:?}\n\
         headers = {headers}\n\
         properties = {{ \"compression.type\" = \"lz4\" }}\n\
         create = {{ partitions = {partitions}, replication = 1 }}\n"
    );
    config::parse(&text, "bench").expect("a configuration")
}

/// Makes the topics where they are missing, and a publisher that has not spoken to Kafka yet.
pub fn publisher(config: Config, ledger: &Ledger) -> Result<KafkaPublisher, Fault> {
    let stop = Stop::default();
    let lineage = lineage::open(ledger)?;
    let incarnation = incarnation::open(ledger, Seq(0))?;
    let topics = vec![config.topic("challenger").to_owned()];
    let plan = kafka::prepare(&config, &topics, ledger, &stop.flag())?;
    assert!(plan.is_some(), "nobody stops it");
    Ok(KafkaPublisher::new(Setup {
        config: Arc::new(config),
        topics,
        logs: Arc::new(ledger.clone()),
        facts: Arc::new(ledger.clone()),
        lineage,
        incarnation,
        position: Seq(0),
        open_max: OPEN_MAX,
        stop: stop.flag(),
        late: stop.late_flag(),
    }))
}

//! Checks of `[kafka]`: addresses, and the properties that are not the user's to set.

use crate::config::Kafka;

use super::Problems;

/// Properties that deltapoll sets itself, and why.
const OURS: [(&str, &str); 26] = [
    ("bootstrap.servers", "write it as bootstrap"),
    ("metadata.broker.list", "write it as bootstrap"),
    (
        "transactional.id",
        "it is made of the configuration's name, and fences other instances",
    ),
    (
        "enable.idempotence",
        "without it a retried record could appear twice",
    ),
    ("enable.gapless.guarantee", "transactions do not need it"),
    ("acks", "a record that not all replicas have could be lost"),
    (
        "request.required.acks",
        "a record that not all replicas have could be lost",
    ),
    ("retries", "a record that is not retried would be lost"),
    (
        "message.send.max.retries",
        "a record that is not retried would be lost",
    ),
    ("isolation.level", "aborted records must not be read back"),
    ("group.id", "deltapoll joins no group"),
    ("group.instance.id", "deltapoll joins no group"),
    ("group.protocol", "deltapoll joins no group"),
    (
        "enable.auto.commit",
        "progress is kept in the progress topic",
    ),
    (
        "auto.commit.enable",
        "progress is kept in the progress topic",
    ),
    (
        "enable.auto.offset.store",
        "progress is kept in the progress topic",
    ),
    ("auto.offset.reset", "progress is read from where it is"),
    ("enable.partition.eof", "progress is read to its end"),
    (
        "allow.auto.create.topics",
        "missing topics are created as create says",
    ),
    (
        "message.max.bytes",
        "it follows the topic's limit; records are bounded by limits.record_max",
    ),
    (
        "partitioner",
        "partitions are computed by deltapoll, so that the archive has the same ones",
    ),
    (
        "partitioner_cb",
        "partitions are computed by deltapoll, so that the archive has the same ones",
    ),
    ("delivery.report.only.error", "every delivery is awaited"),
    ("dr_msg_cb", "it takes code"),
    ("test.mock.num.brokers", "a mock cluster keeps nothing"),
    (
        "internal.termination.signal",
        "it takes a signal away from the process",
    ),
];
/// Above this librdkafka cannot keep the order of records that it retries.
const IN_FLIGHT_MAX: u64 = 5;

pub(super) fn check(kafka: &Kafka, problems: &mut Problems) {
    if let Some(told) = bootstrap_fault(&kafka.bootstrap) {
        problems.add("bootstrap", told);
    }
    for (name, text) in &kafka.properties {
        let field = format!("properties.{name}");
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
            problems.add(
                &field,
                format!("deltapoll sets this property itself: {why}"),
            );
        }
        if ["max.in.flight.requests.per.connection", "max.in.flight"].contains(&name.as_str())
            && text.is_literal()
            && !text
                .written()
                .parse()
                .is_ok_and(|n: u64| (1..=IN_FLIGHT_MAX).contains(&n))
        {
            let told = format!(
                "must be 1 to {IN_FLIGHT_MAX}: with more, retried records would change their order"
            );
            problems.add(&field, told);
        }
    }
    if kafka.create.partitions == 0 {
        problems.add("create.partitions", "is 0: a topic has at least 1");
    }
    if kafka.create.replication == 0 {
        problems.add("create.replication", "is 0: a topic has at least 1");
    }
}

fn bootstrap_fault(bootstrap: &str) -> Option<String> {
    let example = "write host:port, several separated by commas";
    if bootstrap.trim().is_empty() {
        return Some(format!("is empty: {example}"));
    }
    bootstrap.split(',').map(str::trim).find_map(|server| {
        let sound = !server.contains("://")
            && server.rsplit_once(':').is_some_and(|(host, port)| {
                let bracketed = host.starts_with('[') && host.ends_with(']');
                let host_sound = !host.is_empty()
                    && (bracketed || !host.contains(':'))
                    && !host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
                host_sound && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
        (!sound).then(|| format!("'{server}' is no address of a broker: {example}"))
    })
}

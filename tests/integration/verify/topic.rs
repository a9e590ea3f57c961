//! What is planted in a topic or in the state is found and named; what a topic may forget is not.

use super::*;

#[test]
fn kafka_a_planted_state_page_and_planted_records_are_found_and_named() {
    let case = Case::new("verify-state", &BUSY);
    case.run(&["--rounds", "6"]).good();
    let data = case.dir.path().join("data");
    let records = case.read_topic();
    let key = live_key(&records);
    let (cell, hash, print) = Tampered::open(&data).find(&key);

    let wrong = Fingerprint {
        raw: print.raw ^ 1,
        canon: print.canon ^ 1,
        rule: print.rule,
    };
    Tampered::open(&data).set(cell, hash, Some(wrong), &[]);
    for memory in ["256MiB", "64KiB"] {
        let found = case.run(&["verify", "--memory", memory]);
        let kind = "keys whose last value is not what the state remembers: 1\n";
        disagrees(&found, &[kind, &format!("key {key:?}"), ", offset "]);
        assert_eq!(kinds(&found).len(), 1, "{}", found.out);
    }
    // Another spelling of the same content is the same.
    let respelled = Fingerprint {
        raw: print.raw ^ 1,
        ..print
    };
    Tampered::open(&data).set(cell, hash, Some(respelled), &[]);
    agrees(&case.run(&["verify"]), &[]);

    Tampered::open(&data).set(cell, hash, None, &[]);
    let found = case.run(&["verify"]);
    let kind = "keys of the topic that the state does not have: 1\n";
    disagrees(&found, &[kind, &format!("key {key:?}"), ", offset "]);
    Tampered::open(&data).set(cell, hash, Some(print), key.as_bytes());
    agrees(&case.run(&["verify"]), &[]);

    let tampered = Tampered::open(&data);
    let never = hash::key(tampered.seed, b"never published");
    tampered.set(cell, never, Some(print), b"never published");
    let found = case.run(&["verify"]);
    let kind = "keys of the state that the topic does not have: 1\n";
    disagrees(&found, &[kind, "key \"never published\""]);
    Tampered::open(&data).set(cell, never, None, &[]);
    agrees(&case.run(&["verify"]), &[]);

    Tampered::open(&data).set(CellId(99), hash, Some(print), &[]);
    let found = case.run(&["verify"]);
    disagrees(
        &found,
        &["directory does not know: 1\n  cell 99 has 1 entries\n"],
    );
    Tampered::open(&data).set(CellId(99), hash, None, &[]);

    by_hand(&case, &key, None);
    let found = case.run(&["verify"]);
    let foreign = "records that deltapoll did not write: 1\n";
    let value = "keys whose last value is not what the state remembers: 1\n";
    disagrees(
        &found,
        &[foreign, value, &format!("key {key:?}"), ", offset "],
    );
    // With headers that look right: of a batch that is committed.
    let of_key = |record: &&Value| record["key"] == key.as_str();
    let record = records.iter().rfind(of_key).unwrap();
    by_hand(&case, &key, Some(&record["headers"]));
    let found = case.run(&["verify"]);
    let more = "the topic that were never sealed or are not archived: 1\n";
    let told = ": not in the journal, or less often";
    disagrees(&found, &[foreign, more, told]);
    by_hand(
        &case,
        "somebody else",
        Some(&json!({
            "change": "added", "epoch": record["headers"]["epoch"], "polled_at": "1", "seq": "99999"
        })),
    );
    let found = case.run(&["verify"]);
    let beyond = "records beyond the last committed batch: 1\n";
    disagrees(
        &found,
        &[
            beyond,
            "key \"somebody else\"",
            "batch 99999: committed are",
        ],
    );
    by_hand(
        &case,
        "somebody",
        Some(&json!({
            "change": "added", "epoch": "1", "polled_at": "1", "seq": "1"
        })),
    );
    let found = case.run(&["verify"]);
    let back = "records whose batch or epoch goes back: ";
    disagrees(
        &found,
        &[
            back,
            "the topic that were never sealed or are not archived: ",
        ],
    );
}

#[test]
fn kafka_without_headers_keys_and_values_are_compared() {
    let bootstrap = Broker::shared().bootstrap();
    let lines =
        format!("bootstrap = \"{bootstrap}\"\ncreate = {{ partitions = 3 }}\nheaders = false");
    let case = Case::new("verify-plain", &BUSY).kafka(lines);
    case.run(&["--rounds", "6", "--flush-archive"]).good();
    agrees(&case.run(&["verify"]), &[]);
    agrees(&case.run(&["verify", "--memory", "32KiB"]), &[]);
    let all = case.objects.all();
    let (key, bytes) = all.iter().next().unwrap();
    let (planted, changed_key) = changed(&key.1, bytes, true);
    case.objects.replace(key, Some(planted));
    let found = case.run(&["verify"]);
    disagrees(
        &found,
        &[
            "differ between topic and archive or journal: 1\n",
            &changed_key,
        ],
    );
    case.objects.replace(key, Some(bytes.clone()));
    by_hand(&case, "somebody", None);
    let found = case.run(&["verify"]);
    let more = "the topic that were never sealed or are not archived: 1\n";
    disagrees(
        &found,
        &[more, "keys of the topic that the state does not have: 1\n"],
    );
    contains(&found, &["key \"somebody\""]);
}

#[test]
fn kafka_a_compacted_topic_agrees_within_the_archive_and_must_be_whole_above_the_lag() {
    let case = Case::new("verify-compact", &BUSY);
    let name = case.name.clone();
    administer(async |client, options| {
        let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(1))
            .set("cleanup.policy", "compact")
            .set("min.compaction.lag.ms", "0")
            .set("delete.retention.ms", "0")
            .set("min.cleanable.dirty.ratio", "0.001")
            .set("segment.ms", "500");
        client.create_topics(&[topic], &options).await
    });
    for _ in 0..4 {
        case.run(&["--rounds", "10", "--flush-archive"]).good();
    }
    let archived = || -> usize {
        let objects = case.objects.all();
        let headers = objects.values().map(|bytes| Header::read(bytes).unwrap());
        headers.map(|header| header.records() as usize).sum()
    };
    wait_until("the cleaner", PATIENCE, || {
        (case.read_topic().len() < archived() - 20).then_some(())
    });
    for memory in ["256MiB", "64KiB"] {
        let found = case.run(&["verify", "--memory", memory]);
        agrees(&found, &[" changes are compacted or expired in the topic"]);
    }
    // What is younger than the lag must be there.
    administer(async |client, options| {
        let configs = AlterConfig::new(ResourceSpecifier::Topic(&name))
            .set("cleanup.policy", "compact")
            .set("min.compaction.lag.ms", "604800000");
        client.alter_configs(&[configs], &options).await
    });
    let found = case.run(&["verify"]);
    disagrees(
        &found,
        &[
            "changes that the topic does not have: ",
            ": in the archive; not in",
        ],
    );

    administer(async |client, options| client.delete_topics(&[&name], &options).await);
    let found = wait_until("the topic to be gone", PATIENCE, || {
        let found = case.run(&["verify"]);
        found.out.contains("directory feeds: 1\n").then_some(found)
    });
    let gone = format!("  topic {name}: it is gone\n");
    disagrees(
        &found,
        &[&gone, "keys of the state that the topic does not have: "],
    );
}

/// Asks the broker's administrator for one thing.
fn administer<T: Debug, E: Debug>(
    ask: impl AsyncFnOnce(
        AdminClient<DefaultClientContext>,
        AdminOptions,
    ) -> KafkaResult<Vec<Result<T, E>>>,
) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Broker::shared().bootstrap());
    let client = config.create().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let answers = runtime.block_on(ask(client, options)).unwrap();
    answers.into_iter().for_each(|answer| drop(answer.unwrap()));
}

/// Publishes a record to the topic, under the partition of `key`'s own records.
fn by_hand(case: &Case, key: &str, headers: Option<&Value>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Broker::shared().bootstrap());
    let producer: BaseProducer = config.create().unwrap();
    let partition = deltapoll::io::kafka::partition_of(key.as_bytes(), 3);
    let mut record = BaseRecord::to(&case.name)
        .key(key)
        .payload("{\"planted\":true}")
        .partition(partition.try_into().unwrap());
    if let Some(headers) = headers {
        let mut all = OwnedHeaders::new();
        for (name, value) in headers.as_object().unwrap() {
            all = all.insert(KafkaHeader {
                key: name,
                value: value.as_str(),
            });
        }
        record = record.headers(all);
    }
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(20)).unwrap();
}

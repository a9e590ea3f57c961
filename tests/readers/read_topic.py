"""Prints what a read_committed consumer sees of a topic, from the start to its end now, as NDJSON.

read_topic.py BOOTSTRAP TOPIC
"""

import json
import sys

from kafka import KafkaConsumer, TopicPartition


def text(data):
    return None if data is None else data.decode("utf-8")


def main():
    bootstrap, topic = sys.argv[1:3]
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or [])]
    if not partitions:
        sys.exit(f"there is no topic {topic}")
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    while any(consumer.position(p) < ends[p] for p in partitions):
        for records in consumer.poll(timeout_ms=500).values():
            for r in records:
                line = {
                    "partition": r.partition,
                    "offset": r.offset,
                    "key": text(r.key),
                    "value": text(r.value),
                    "headers": {name: text(value) for name, value in r.headers},
                    "timestamp": r.timestamp,
                }
                print(json.dumps(line))
    consumer.close()


main()

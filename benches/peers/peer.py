"""What is quickly written in Python with its fastest parts: orjson, a dict, confluent-kafka.

Nothing is durable: a restart publishes everything again. What is gone is not noticed.

    peer.py URL BOOTSTRAP TOPIC POLLS
"""

import sys

import orjson
import requests
from confluent_kafka import KafkaException, Producer


def main(url, bootstrap, topic, polls):
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "compression.type": "lz4",
            # A callback of Python's for each record costs more than the record.
            "delivery.report.only.error": True,
            "on_delivery": failed,
        }
    )
    session = requests.Session()
    seen = {}
    for _ in range(int(polls)):
        answer = session.get(url, timeout=60)
        answer.raise_for_status()
        for entry in orjson.loads(answer.content)["entries"]:
            key = entry["puuid"]
            if seen.get(key) != entry:
                send(producer, topic, key, orjson.dumps(entry))
                seen[key] = entry
        producer.flush()


def send(producer, topic, key, value):
    while True:
        try:
            return producer.produce(topic, value, key)
        except BufferError:  # full: wait for room
            producer.poll(0.1)


def failed(error, _message):
    if error:
        raise KafkaException(error)


if __name__ == "__main__":
    main(*sys.argv[1:])

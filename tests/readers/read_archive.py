"""Prints every Avro object below a directory as NDJSON: a line for the object, then one per record.

read_archive.py DIR
"""

import json
import os
import sys

import fastavro


def main():
    root = sys.argv[1]
    names = []
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), root)
            if path.endswith(".avro"):
                names.append(path)
    for name in sorted(names):
        with open(os.path.join(root, name), "rb") as file:
            reader = fastavro.reader(file)
            metadata = {k: v for k, v in reader.metadata.items() if k.startswith("deltapoll.")}
            print(json.dumps({"object": name, "metadata": metadata}))
            for record in reader:
                at = record["polled_at"]
                record["polled_at"] = at if isinstance(at, int) else round(at.timestamp() * 1000)
                print(json.dumps({"record": record}))


main()

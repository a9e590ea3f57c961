"""Checks what was published and archived against what the simulated API served.

check.py --versions FILE --topic FILE [--archive FILE] [--not-last] [--only-cell CELL]
check.py --self-test

The claim (removed_after = 1): for each cell there are served versions v1 < v2 < ... such that the
cell's changes in its n-th epoch are exactly the difference from v(n-1) to v(n), and the last version is
the API's; per key in order, nothing twice, tombstones right; the archive has the topic's records, each
once, in order. Nothing of deltapoll is used here.
"""

import argparse
import collections
import json
import sys


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def parts(cell):
    return frozenset(cell.split(","))


class Checker:
    def __init__(self):
        self.errors = []

    def say(self, error):
        if len(self.errors) < 50:
            self.errors.append(error)

    def check(self, versions, topic, archive=None, last=True, only_cell=None, dense=True):
        served = collections.OrderedDict()
        for line in versions:
            entries = {key: json.loads(text) for key, text in line["entries"].items()}
            served.setdefault(parts(line["cell"]), []).append((line["version"], entries))
        epochs = {}
        self.records(topic, epochs, only_cell)
        summary = {}
        for cell, changes in epochs.items():
            if cell not in served:
                self.say(f"cell {sorted(cell)} was never served")
                continue
            summary[",".join(sorted(cell))] = self.cell(cell, changes, served[cell], last)
        for cell in served:
            if cell not in epochs and any(entries for _, entries in served[cell]):
                self.say(f"nothing was published of cell {sorted(cell)}")
        if dense:
            self.dense(topic)
        if archive is not None:
            self.archive(topic, archive)
        return {"ok": not self.errors, "errors": self.errors, "cells": summary, "records": len(topic)}

    def records(self, topic, epochs, only_cell):
        """Order within partitions and keys; groups changes by cell and epoch."""
        partition_of, last_of_key, last_seq, last_offset = {}, {}, {}, {}
        for r in sorted(topic, key=lambda r: (r["partition"], r["offset"])):
            key, p, h = r["key"], r["partition"], r["headers"]
            where = f"partition {p} offset {r['offset']} key {key}"
            epoch, seq = int(h["epoch"]), int(h["seq"])
            if last_offset.get(p, -1) >= r["offset"]:
                self.say(f"{where}: the offset comes twice")
            last_offset[p] = r["offset"]
            if partition_of.setdefault(key, p) != p:
                self.say(f"{where}: the key is in partition {partition_of[key]} too")
            if seq < last_seq.get(p, 0):
                self.say(f"{where}: seq {seq} after {last_seq[p]}")
            last_seq[p] = seq
            value = None if r["value"] is None else json.loads(r["value"])
            if key in last_of_key:
                old_epoch, old = last_of_key[key]
                if epoch <= old_epoch:
                    self.say(f"{where}: epoch {epoch} after {old_epoch}")
                if old == value:
                    self.say(f"{where}: the same value twice")
            last_of_key[key] = (epoch, value)
            if (value is None) != (h["change"] == "removed"):
                self.say(f"{where}: change {h['change']} with value {r['value']}")
            cell = parts(h["cell"]) if h["cell"] else parts(only_cell)
            puuid = key.rsplit(":", 1)[-1]
            changes = epochs.setdefault(cell, {}).setdefault(epoch, {})
            if puuid in changes:
                self.say(f"{where}: two changes of one key in epoch {epoch}")
            changes[puuid] = (h["change"], value)

    def cell(self, cell, epochs, served, last):
        """Finds versions that explain the epochs, if there are any."""
        state, used = {}, []
        at = -1
        for epoch in sorted(epochs):
            before = dict(state)
            for puuid, (change, value) in epochs[epoch].items():
                expected = "removed" if value is None else ("changed" if puuid in before else "added")
                if change != expected:
                    self.say(f"cell {sorted(cell)} epoch {epoch} key {puuid}: {change}, not {expected}")
                if value is None:
                    if state.pop(puuid, None) is None:
                        self.say(f"cell {sorted(cell)} epoch {epoch} key {puuid}: removed, was not there")
                else:
                    state[puuid] = value
            found = next((i for i in range(at + 1, len(served)) if served[i][1] == state), None)
            if found is None:
                self.say(f"cell {sorted(cell)} epoch {epoch}: no later served version is like this")
                return {"epochs": len(epochs), "versions": used}
            at = found
            used.append(served[found][0])
        if last and served[-1][1] != state:
            self.say(f"cell {sorted(cell)}: the last served version {served[-1][0]} is not published")
        return {"epochs": len(epochs), "versions": [used[0], used[-1]], "served": len(served)}

    def dense(self, topic):
        seqs = sorted({int(r["headers"]["seq"]) for r in topic})
        if seqs and seqs != list(range(1, seqs[-1] + 1)):
            missing = sorted(set(range(1, seqs[-1] + 1)) - set(seqs))[:5]
            self.say(f"batches are missing: {missing}")

    def archive(self, topic, archive):
        by_partition = collections.defaultdict(list)
        for r in sorted(topic, key=lambda r: (r["partition"], r["offset"])):
            h = r["headers"]
            by_partition[r["partition"]].append(
                (r["key"], h["change"], int(h["epoch"]), int(h["seq"]), int(h["polled_at"]), r["value"])
            )
        archived, nexts, partition = collections.defaultdict(list), collections.defaultdict(int), None
        lineages = set()
        for line in archive:
            if "object" in line:
                name, meta = line["object"], line["metadata"]
                folder, file = name.rsplit("/", 1)
                partition = int(folder.rsplit("partition=", 1)[1])
                first = int(file.rsplit("+", 1)[1].split(".")[0])
                lineages.add(meta["deltapoll.lineage"])
                if first != nexts[partition] or int(meta["deltapoll.first"]) != first:
                    self.say(f"{name}: first {first}, expected {nexts[partition]}")
                last = int(meta["deltapoll.last"])
                nexts[partition] = last + 1
                continue
            r = line["record"]
            archived[partition].append(
                (r["key"], r["change"], r["epoch"], r["seq"], r["polled_at"], r["value"])
            )
        if len(lineages) > 1:
            self.say(f"objects of several lineages: {lineages}")
        for p in set(by_partition) | set(archived):
            if len(archived[p]) != nexts[p]:
                self.say(f"partition {p}: objects say {nexts[p]} records, there are {len(archived[p])}")
            for i, (a, b) in enumerate(zip(by_partition[p], archived[p])):
                if a != b:
                    self.say(f"partition {p} record {i}: topic has {a}, archive has {b}")
                    break
            if len(by_partition[p]) != len(archived[p]):
                self.say(
                    f"partition {p}: {len(by_partition[p])} records in the topic,"
                    f" {len(archived[p])} in the archive"
                )


def self_test():
    """Plants what must be found."""
    versions = [
        {"cell": "kr,Q", "version": n, "entries": {k: json.dumps({"v": v}) for k, v in entries.items()}}
        for n, entries in enumerate([{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 2}, {"a": 3, "c": 1}], 1)
    ]
    history = [("a", 1, "added", 1), ("b", 1, "added", 1), ("a", 2, "changed", 2)]
    history += [("b", None, "removed", 3), ("a", 3, "changed", 4), ("c", 1, "added", 4)]

    def records(history):
        made = []
        for offset, (key, value, change, epoch) in enumerate(history):
            headers = {"change": change, "epoch": str(epoch), "seq": str(epoch)}
            headers.update({"polled_at": str(epoch), "source": "s", "cell": "Q,kr"})
            text = None if value is None else json.dumps({"v": value})
            made.append({"partition": 0, "offset": offset, "key": f"kr:{key}", "value": text})
            made[-1]["headers"] = headers
        return made

    def archive(topic):
        meta = {"deltapoll.lineage": "l", "deltapoll.first": "0", "deltapoll.last": str(len(topic) - 1)}
        made = [{"object": "topics/t/partition=0/t+0+0000000000.avro", "metadata": meta}]
        for r in topic:
            h = r["headers"]
            record = {"key": r["key"], "change": h["change"], "epoch": int(h["epoch"])}
            record.update({"seq": int(h["seq"]), "polled_at": int(h["polled_at"]), "value": r["value"]})
            made.append({"record": record})
        return made

    def run(history, objects=None, **how):
        topic = records(history)
        objects = archive(topic) if objects is None else objects(topic)
        return Checker().check(versions, topic, objects, **how)

    sound = run(history)
    assert sound["ok"], sound
    planted = {
        "a duplicate": run(history[:3] + [history[2]] + history[3:]),
        "a lost change": run(history[:2] + history[3:]),
        "another order": run([history[2], history[1], history[0]] + history[3:]),
        "a lost end": run(history[:3]),
        "a wrong tombstone": run(history[:2] + [("a", None, "removed", 2)] + history[4:]),
        "a tombstone that says changed": run(history[:3] + [("b", None, "changed", 3)] + history[4:]),
        "added instead of changed": run(history[:2] + [("a", 2, "added", 2)] + history[3:]),
        "half an epoch": run(history[:4] + [history[5]]),
        "a missing batch": run([(k, v, c, e + (e > 2)) for k, v, c, e in history]),
        "a record that is not archived": run(history, lambda t: archive(t)[:-1]),
        "a record archived twice": run(history, lambda t: archive(t) + archive(t)[-1:]),
        "another value in the archive": run(history, lambda t: archive(t)[:2] + archive(t)[3:]),
    }
    for what, found in planted.items():
        assert not found["ok"], f"{what} was not found"
    print(json.dumps({"ok": True, "planted": len(planted)}))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--versions")
    arguments.add_argument("--topic", action="append", default=[])
    arguments.add_argument("--archive")
    arguments.add_argument("--not-last", action="store_true")
    arguments.add_argument("--only-cell", default="")
    arguments.add_argument("--self-test", action="store_true")
    given = arguments.parse_args()
    if given.self_test:
        return self_test()
    topic = [record for path in given.topic for record in lines(path)]
    archive = lines(given.archive) if given.archive else None
    result = Checker().check(
        lines(given.versions), topic, archive, last=not given.not_last, only_cell=given.only_cell
    )
    print(json.dumps(result))
    sys.exit(0 if result["ok"] else 1)


main()

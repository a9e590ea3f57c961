"""Medians of all runs as a table of Markdown and as JSON.

    report.py --facts FILE --runs FILE --failed FILE --records FILE --out JSON --lines JSONL --into MARKDOWN

--runs has a line of JSON for each run, --failed a peer, when it failed and why, with tabs between them,
--records the ends of the topics (topic:partition:offset). The table goes to standard output and between the
markers in MARKDOWN.
"""

import argparse
import json
import textwrap
from collections import defaultdict
from pathlib import Path
from statistics import median

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
HEADING = "# Benchmarks\n\n## What users would pick instead\n"
US = "deltapoll"
# In the order of the table.
PEERS = {
    US: "**Deltapoll**",
    "deltapoll-no-headers": "the same, `headers = false`",
    "deltapoll-archive": "the same as the first, with an archive in a directory, codec null",
    "deltapoll-archive-no-headers": "with an archive, `headers = false`",
    "tight": "tight Rust",
    "tight-transactions": "tight Rust, one transaction a poll",
    "tight-headers": "tight Rust, one transaction a poll, six headers a record",
    "plain": "plain Rust",
    "python": "Python",
    "bento": "Bento",
}
WORKLOADS = {"0": "unchanged", "0.01": "1 % changed", "1": "all changed"}
MEASURES = ("cpu_seconds_per_million", "entries_per_second", "peak_bytes")
NOTES = """\
What each of them is, and does not do:

- **Deltapoll**: journals each poll that changed anything with an fsync, keeps its state on disk, publishes
  exactly once across restarts, sees removals, and gives each record six headers; the others give none unless
  it is said, nor does it with `headers = false`. With an archive it writes each change a second time, as Avro.
- **tight Rust** (`rust/src/bin/tight.rs`): `reqwest`, slices of the body (`RawValue`), XXH3 hashes, a
  `HashMap`, `FutureProducer`. Nothing is durable: a restart publishes everything again. Sees no removals. Keys
  are never forgotten. Any error ends it. With one transaction a poll, readers of committed records see a poll
  as a whole; a restart publishes everything again all the same. Its headers are the six that Deltapoll gives;
  what a poll's records share is made once and copied for each.
- **plain Rust** (`rust/src/bin/plain.rs`): the same with `serde_json::Value`, whole entries kept and compared;
  the same gaps.
- **Python** (`peer.py`): `requests`, `orjson`, a `dict`, `confluent-kafka`; the same gaps.
- **Bento** (`bento/`): `generate`, `http`, one mapping that compares the snapshot with the one before,
  `kafka_franz`; GOGC=400. Its cache is memory: a restart publishes everything again, and a
  snapshot is remembered before it is published. Sees no removals.
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ("facts", "runs", "failed", "records", "out", "lines", "into"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    facts = json.loads(args.facts.read_text())
    runs = [json.loads(line) for line in args.runs.read_text().splitlines()]
    failed = failures(args.failed.read_text())
    for peer, why in count(runs, args.records.read_text()).items():
        failed.setdefault(peer, why)
    carried = {name: facts[name] for name in ("machine", "versions", "seed", "commit", "date")}
    args.lines.write_text("".join(json.dumps(run | carried) + "\n" for run in runs))
    good = [run for run in runs if run["peer"] not in failed]
    usual = runs[0]["entries"]
    result = summary(run for run in good if run["entries"] == usual)
    large = [run for run in good if run["entries"] != usual]
    medians = {"medians": result, "large": summary(large)}
    args.out.write_text(json.dumps(facts | {"failed": failed} | medians, indent=2) + "\n")
    text = section(facts, runs[0], result, large, failed)
    print(text)
    insert(args.into, text)
    if failed:
        raise SystemExit(f"report: failed, see the table: {', '.join(failed)}")


def failures(lines):
    """Why, by peer: the first time counts."""
    why = {}
    for line in lines.splitlines():
        peer, when, reason = line.split("\t", 2)
        why.setdefault(peer, f"{when}: {reason}")
    return why


def count(runs, ends):
    """What a peer did not publish it did not have to pay for: whose records are too few, and why."""
    short = {}
    records = defaultdict(int)
    for line in ends.splitlines():
        topic, _, offset = line.rsplit(":", 2)
        records[topic] += int(offset)
    for run in runs:
        run["records"] = records[run["topic"]]
        expected = run["entries"] * (1 + float(run["churn"]) * (run["asked"] - 1))
        # Of those that would have changed some leave.
        if run["records"] < 0.98 * expected:
            what = f"{run['records']} records of {expected:.0f}"
            when = f"in run {run['run']}, churn {run['churn']}, {run['entries']} entries"
            short.setdefault(run["peer"], f"{when}: published {what}")
    return short


def summary(runs):
    groups = defaultdict(list)
    for run in runs:
        groups[run["peer"], run["churn"]].append(run)
    result = defaultdict(dict)
    for (peer, churn), group in groups.items():
        cell = {measure: median(run[measure] for run in group) for measure in MEASURES}
        cpu = sorted(run["cpu_seconds_per_million"] for run in group)
        result[peer][churn] = cell | {"runs": len(group), "cpu_range": [cpu[0], cpu[-1]]}
    for churns in result.values():
        for churn, one in churns.items():
            if churn in result.get(US, {}):
                ours = result[US][churn]
                one["times_ours"] = {measure: one[measure] / ours[measure] for measure in MEASURES}
    return result


def section(facts, run, result, large, failed):
    machine = facts["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    how = f"""The same simulated API ({run["entries"]:,} entries of {run["body_bytes"] // run["entries"]} bytes,
        in a new order each time, seed {facts["seed"]}) and the same broker for all; {facts["polls"]} polls back to
        back until all is published, or {4 * facts["polls"]} where one takes less than a fifth of a second, on a
        process that has loaded, settled for {facts["settle"]} polls ({4 * facts["settle"]}), and published what it
        had to until it was idle; acks=all, 4 partitions, lz4. Medians of {facts["runs"]} interleaved runs. CPU:
        seconds (user and system, the peer's process only) per million polled entries. In brackets: how many
        times Deltapoll's; below 1 is cheaper in CPU, and slower in entries/s. Less than 30 % apart is no
        difference on such a machine. What else it does shows in entries/s more than in
        CPU."""
    built = "a binary that was given" if facts["binary_given"] else "a binary of that commit"
    made = f"""Made by `{facts["command"]}` at commit {facts["commit"]} with {built} on
        {facts["date"]}, on {machine["cores"]} shared cores ({machine["cpu"]}) that also run the simulated API and the broker.
        Versions: {versions}."""
    parts = [filled(how), "\n".join(table(result, failed))]
    parts += [filled(unchanged(large))] if large else []
    return "\n\n".join([*parts, NOTES.rstrip(), filled(made)])


def unchanged(runs):
    """One sentence about many entries of which none changed."""
    result = summary(runs)
    peers = [peer for peer in PEERS if peer in result]
    told = [f"{PEERS[peer]} {cell(result, peer, '0').replace(' | ', ' at ')} entries/s" for peer in peers]
    return f"{runs[0]['entries']:,} unchanged entries: CPU s per million {', '.join(told)}."


def filled(text):
    return textwrap.fill(" ".join(text.split()), 110, break_on_hyphens=False, break_long_words=False)


def table(result, failed):
    heads = [f"{name}: CPU | entries/s" for name in WORKLOADS.values()]
    yield f"| | {' | '.join(heads)} | peak memory, all changed |"
    yield "|---|" + "---:|" * (2 * len(WORKLOADS) + 1)
    for peer, name in PEERS.items():
        if peer in failed:
            why = failed[peer].replace("|", "\\|")
            yield f"| {name} | failed {why}" + " |" * (2 * len(WORKLOADS) + 1)
        elif peer in result:
            cells = [cell(result, peer, churn) for churn in WORKLOADS]
            all_changed = result[peer].get("1")
            memory = f"{all_changed['peak_bytes'] / 2**20:,.0f} MiB" if all_changed else ""
            yield f"| {name} | {' | '.join(cells)} | {memory} |"


def cell(result, peer, churn):
    one = result[peer].get(churn)
    if one is None:
        return " | "
    cpu, speed = one["cpu_seconds_per_million"], one["entries_per_second"]
    ratios = ["", ""]
    if peer != US and churn in result.get(US, {}):
        ratios = [f" ({ratio(result, peer, churn, measure)})" for measure in MEASURES[:2]]
    return f"{cpu:.2f}{ratios[0]} | {speed / 1e6:.2f} M{ratios[1]}"


def ratio(result, peer, churn, measure):
    """To ours; of two digits where it is small."""
    times = result[peer][churn][measure] / result[US][churn][measure]
    return f"{times:.1f}x" if times >= 1 else f"{times:.2f}x"


def insert(path, text):
    old = path.read_text() if path.exists() else f"{HEADING}\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        old = f"{old.rstrip()}\n\n## What users would pick instead\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()

"""What every run carries: machine, versions, seed; one JSON object."""

import argparse
import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deltapoll", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--polls", type=int, required=True)
    parser.add_argument("--settle", type=int, required=True)
    parser.add_argument("--given", action="store_true", help="the binary was not built here")
    args = parser.parse_args()
    facts = {
        "command": args.command,
        "commit": said("git", "rev-parse", "--short", "HEAD"),
        "binary_given": args.given,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "runs": args.runs,
        "seed": args.seed,
        "polls": args.polls,
        "settle": args.settle,
        "versions": versions(args.deltapoll),
    }
    print(json.dumps(facts))


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"cpu": model[1] if model else platform.machine(), "cores": os.cpu_count()}


def versions(deltapoll):
    lock = (HERE / "rust/Cargo.lock").read_text()
    versions = {
        "deltapoll": said(deltapoll, "--version").split()[-1],
        "kafka": found(r"^version=(\S+)", (HERE / "../../scripts/kafka-libs").read_text()),
        "rustc": said("rustc", "--version").split()[1],
        "python": platform.python_version(),
        "bento": found(r"bento v(\S+)", (HERE / "bento/go.mod").read_text()),
    }
    for crate in ("reqwest", "serde_json", "rdkafka"):
        versions[crate] = found(rf'name = "{crate}"\nversion = "(.*?)"', lock)
    for line in (HERE / "requirements.txt").read_text().split():
        name, version = line.split("==")
        versions[name] = version
    return versions


def found(pattern, text):
    return re.search(pattern, text, re.MULTILINE)[1]


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()

"""One run of one peer, seen from outside: when it polls, what it costs.

    watch.py --api http://127.0.0.1:PORT --entries N --settle S --polls P [--set NAME=VALUE]... -- COMMAND...

COMMAND polls 1 + S + P times and ends. The first poll loads everything; during the S that follow, what
the load left behind is worked off; the P last ones are the measurement, from the moment their first
request arrives until the process has ended and so has published everything. Polls are counted by the
simulated API, CPU time (user and system) and memory are those of COMMAND's process alone, from /proc.
One JSON object goes to standard output.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

LADDER = "/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5"
LOOK_SECONDS = 0.01
# A peer that takes longer hangs.
PATIENCE_SECONDS = 600
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Look:
    """The process as it was at one time."""

    def __init__(self, pid, requests):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        self.at = time.monotonic()
        self.requests = requests
        self.ended = fields[0] == "Z"
        self.cpu = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


class Api:
    """The simulated API, asked over one connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)

    def get(self, path):
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"watch: the API answers {answer.status}")
        return body

    def requests(self):
        return json.loads(self.get("/sim/stats"))["requests"]


def main():
    args = arguments()
    api = Api(args.api)
    # The ladder is made with the first request.
    body_bytes = len(api.get(LADDER))
    before = api.requests()
    process = subprocess.Popen(args.command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        looks, peak = watch(process, api, before)
    finally:
        process.kill()
        status = process.wait()
    if status != 0:
        raise SystemExit(f"watch: {os.path.basename(args.command[0])} ended with {status}")
    result = dict(pair.split("=", 1) for pair in args.set)
    result |= report(args, looks)
    result |= {"peak_bytes": peak, "body_bytes": body_bytes}
    print(json.dumps(result))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--api", required=True)
    parser.add_argument("--entries", type=int, required=True)
    parser.add_argument("--settle", type=int, required=True)
    parser.add_argument("--polls", type=int, required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def watch(process, api, before):
    """Looks until the process has ended: one that nobody waited for still has its CPU time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    looks, peak = [], 0
    while True:
        look = Look(process.pid, api.requests() - before)
        # What only repeats the look before says nothing.
        if look.ended or not looks or look.requests > looks[-1].requests:
            looks.append(look)
        if look.ended:
            return looks, peak
        peak = max(peak, peak_bytes(process.pid))
        if look.at > deadline:
            raise SystemExit(f"watch: not done after {PATIENCE_SECONDS} s")
        time.sleep(LOOK_SECONDS)


def peak_bytes(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def report(args, looks):
    first = 2 + args.settle
    asked = looks[-1].requests
    if asked < 1 + args.settle + args.polls:
        raise SystemExit(f"watch: only {asked} polls were seen")
    start, end = next(look for look in looks if look.requests >= first), looks[-1]
    last = next(look for look in looks if look.requests >= asked)
    # Two requests within one look: the later one is where the polls begin.
    polls = 1 + asked - start.requests
    millions = polls * args.entries / 1e6
    return {
        "entries": args.entries,
        "polls": polls,
        "asked": asked,
        "cpu_seconds": end.cpu - start.cpu,
        "wall_seconds": end.at - start.at,
        "cpu_seconds_per_million": (end.cpu - start.cpu) / millions,
        "entries_per_second": millions * 1e6 / (end.at - start.at),
        "load_cpu_seconds": start.cpu,
        "last_poll_cpu_seconds": end.cpu - last.cpu,
    }


if __name__ == "__main__":
    main()

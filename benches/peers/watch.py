"""One run of one peer, seen from outside: what its polls cost.

    watch.py --api http://127.0.0.1:PORT --entries N --settle S --polls P [--set NAME=VALUE]... -- COMMAND...

COMMAND polls 1 + S + P times and ends. The first poll loads everything, S more warm it up. Then the API
withholds its answer until the process does nothing any more: who publishes behind its polls has published all
of them by then. The P last polls are the measurement, from the moment they are answered until the process
has ended, and so has published everything. CPU time (user and system) and memory are those of COMMAND's
process alone, from /proc. One JSON object goes to standard output.
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
# Who uses no more than so many ticks in so many seconds does nothing, unless a broker is slow: one that was just
# started takes a second to let the first transaction begin.
IDLE_TICKS, IDLE_SECONDS = 4, 2
# A client that waits for longer gives up.
HOLD_SECONDS = 25


class Api:
    """The simulated API, asked over one connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)

    def ask(self, method, path):
        self.connection.request(method, path)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 204):
            raise SystemExit(f"watch: the API answers {answer.status}")
        return body

    def polls(self):
        """Those that were asked for, and those that were answered."""
        stats = json.loads(self.ask("GET", "/sim/stats"))
        return stats["arrived"], stats["requests"]

    def hold_after(self, requests):
        self.ask("POST", f"/sim/hold?after={requests}")

    def let_go(self):
        self.ask("POST", "/sim/hold")


class Peer:
    """The process, and the most memory that it was seen to have."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        self.deadline = time.monotonic() + PATIENCE_SECONDS
        self.ticks, self.ended, self.peak_bytes = 0, False, 0
        self.look()

    def look(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        # One that nobody waited for still has its CPU time.
        self.ended = fields[0] == "Z"
        self.ticks = int(fields[11]) + int(fields[12])
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)

    def look_until(self, enough):
        while not enough():
            if time.monotonic() > self.deadline:
                raise SystemExit(f"watch: not done after {PATIENCE_SECONDS} s")
            time.sleep(LOOK_SECONDS)
            self.look()

    def look_until_idle(self):
        begun, ticks = time.monotonic(), self.ticks
        since = begun

        def idle():
            nonlocal since, ticks
            if time.monotonic() - begun > HOLD_SECONDS:
                raise SystemExit(f"watch: busy for {HOLD_SECONDS} s after its answers: use fewer polls or entries")
            if self.ticks > ticks + IDLE_TICKS:
                since, ticks = time.monotonic(), self.ticks
            return self.ended or time.monotonic() - since >= IDLE_SECONDS

        self.look_until(idle)


def main():
    args = arguments()
    api = Api(args.api)
    # The ladder is made with the first request.
    body_bytes = len(api.ask("GET", LADDER))
    before, _ = api.polls()
    held = before + 1 + args.settle
    api.hold_after(held)
    peer = Peer(args.command)
    try:
        peer.look_until(lambda: peer.ended or api.polls()[0] > held)
        peer.look_until_idle()
        at, ticks = time.monotonic(), peer.ticks
        api.let_go()
        peer.look_until(lambda: peer.ended)
        wall_seconds = time.monotonic() - at
    finally:
        peer.process.kill()
        status = peer.process.wait()
    if status != 0:
        raise SystemExit(f"watch: {os.path.basename(args.command[0])} ended with {status}")
    asked, answered = api.polls()
    expected = held + args.polls
    if (asked, answered) != (expected, expected):
        raise SystemExit(f"watch: {expected} polls were to be answered, {answered} of {asked} were")
    millions = args.polls * args.entries / 1e6
    cpu_seconds = (peer.ticks - ticks) / TICKS_PER_SECOND
    result = dict(pair.split("=", 1) for pair in args.set)
    result |= {
        "entries": args.entries,
        "polls": args.polls,
        "asked": asked - before,
        "cpu_seconds": cpu_seconds,
        "wall_seconds": wall_seconds,
        "cpu_seconds_per_million": cpu_seconds / millions,
        "entries_per_second": millions * 1e6 / wall_seconds,
        "warm_up_cpu_seconds": ticks / TICKS_PER_SECOND,
        "peak_bytes": peer.peak_bytes,
        "body_bytes": body_bytes,
    }
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


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What 5,000 connections that never speak cost a good NBD client.

    bench/mute.py IMAGE [PROGRAM] [--rounds N] [--mute N] [--seconds S]

One server; `nbdcopy --no-extents` of the whole image to nowhere, alone and while mute connections arrive, by turns.
Mute connections stay open until the round ends. Printed: wall time of each, the ratio of the medians, processor time
that the server used, and its memory at the highest. Exit status 1 below 80 % of the throughput or above 64 MiB more.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

ATTACK = """
import resource, socket, sys, time
path, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held, start, refused = [], time.monotonic(), 0
for number in range(count):
    time.sleep(max(0, start + seconds * number / count - time.monotonic()))
    mute = socket.socket(socket.AF_UNIX)
    mute.settimeout(5)
    try:
        mute.connect(path)
        held.append(mute)
    except OSError:
        refused += 1
print(f"{len(held)} connected, {refused} not, in {time.monotonic() - start:.2f} s", flush=True)
sys.stdin.read()
"""


def of_status(pid, field):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def processor(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("program", nargs="?", default="target/release/imgmount")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mute", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=1.0, help="in which they arrive")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "sock")
        server = subprocess.Popen([args.program, "serve", args.image, "-k", path], stderr=subprocess.DEVNULL)
        try:
            while not os.path.exists(path):
                time.sleep(0.01)
            uri = f"nbd+unix:///?socket={path}"
            subprocess.run(["nbdinfo", "--size", uri], check=True, stdout=subprocess.DEVNULL)
            children = f"/proc/{server.pid}/task/{server.pid}/children"
            worker = int(open(children).read().split()[0])

            def copy():
                used, start = processor(worker), time.monotonic()
                subprocess.run(["nbdcopy", "--no-extents", uri, "null:"], check=True)
                return time.monotonic() - start, processor(worker) - used

            copy()
            before = of_status(worker, "VmHWM:")
            alone, attacked = [], []
            for _ in range(args.rounds):
                alone.append(copy())
                command = [sys.executable, "-c", ATTACK, path, str(args.mute), str(args.seconds)]
                attack = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                attacked.append(copy())
                print(f"  alone {alone[-1][0]:.2f} s, attacked {attacked[-1][0]:.2f} s; mute: ", end="")
                print(attack.stdout.readline().strip(), flush=True)
                attack.communicate()
            after = of_status(worker, "VmHWM:")
        finally:
            server.terminate()
            server.wait()
    wall = [statistics.median(seconds for seconds, _ in rounds) for rounds in (alone, attacked)]
    used = [statistics.median(seconds for _, seconds in rounds) for rounds in (alone, attacked)]
    kept, more = wall[0] / wall[1], (after - before) >> 10
    print(f"copy alone {wall[0]:.2f} s, while {args.mute} mute connections arrive {wall[1]:.2f} s: {kept:.0%} kept")
    print(f"processor time of the server {used[0]:.2f} s, {used[1]:.2f} s; memory +{more} MiB (at most {after >> 10})")
    return 0 if kept >= 0.8 and more <= 64 else 1


if __name__ == "__main__":
    sys.exit(main())

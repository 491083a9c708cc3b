"""Takes figures of imgmount and of others in turn, and prints medians, ratios and verdicts. Started by run.sh."""

import importlib
import os
import signal
import sys

from bench import settings, table
from bench.peers import Absent

# Sections and what they read. `serving` stands for those that hold the serving goals.
GUEST = ["first-byte", "library", "nbd", "remote", "files", "check"]
SERVING = ["nbd-sequential", "nbd-random", "fuse-disk", "fuse-tree", "start", "memory"]
OWN = ["tree"]


def main():
    wanted = sys.argv[1:] or [*GUEST, *OWN, "serving"]
    wanted = [name for one in wanted for name in (SERVING if one == "serving" else [one])]
    for one in wanted:
        name, *of = one.split("=")
        if name not in GUEST + SERVING + OWN:
            sys.exit(f"bench: no section {name}; there are: {' '.join([*GUEST, *OWN, *SERVING])}, and serving for the last {len(SERVING)}")
        if name in GUEST and not os.path.exists(settings.guest("stamp")):
            sys.exit(f"bench: {name} needs the guest in {settings.GUEST}; make it with: sudo make guest")
        if name in SERVING and not os.path.exists(settings.disk("disk-so.vmdk")):
            sys.exit(f"bench: {name} needs the disks in {settings.DISKS}; make them with: sudo bench/image.sh")
    # Asked to end, we unmount first, and show what there is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: stopped"))
    try:
        take(wanted)
    finally:
        table.rest()
        table.summary()


def take(wanted):
    for one in wanted:
        name, *of = one.split("=")
        try:
            importlib.import_module("bench.sections." + name.replace("-", "_")).run(*(row for rows in of for row in rows.split(",")))
        except Absent as why:
            print(f"\n{name}: skipped {why}")


main()

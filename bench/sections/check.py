"""The import check, here and over HTTP."""

import subprocess
import time

from bench.measure import spent, warm
from bench.sections.remote import far_away
from bench.settings import BINARY, PARTITION, RUNS, beside, guest
from bench.table import Table


def run():
    """The import check, beside a script that gets the same files out with debugfs and judges nothing; and over HTTP."""
    warm(guest("disk.raw"), guest("disk.qcow2"))
    script = beside("by_hand.sh")
    who = ["check -p tencent", "debugfs script", "check -p all"]
    table = Table("The import check of a real guest", who, "s")
    for _ in range(RUNS):
        for name in ["disk.raw", "disk.qcow2", "disk-stream.vmdk"]:
            for label, profile in [(who[0], "tencent"), (who[2], "all")]:
                start = time.perf_counter()
                subprocess.run([BINARY, "check", guest(name), "-p", profile], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                table.add(name, label, time.perf_counter() - start)
            if name == "disk.raw":
                table.add(name, who[1], spent([script, guest(name), str(PARTITION)])[0])
    table.show()
    far = [Table("HTTP, 50 ms a request: the import check", ["tencent", "all"], unit) for unit in ("s", "requests", "MiB")]
    with far_away() as (url, count):
        for _ in range(RUNS):
            for name in ["disk.raw", "disk.qcow2", "disk-stream.vmdk"]:
                for profile in ["tencent", "all"]:
                    before, start = (count(), count("bytes")), time.perf_counter()
                    subprocess.run([BINARY, "check", f"{url}/{name}", "-p", profile], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    values = time.perf_counter() - start, count() - before[0], (count("bytes") - before[1]) / (1 << 20)
                    for one, value in zip(far, values):
                        one.add(name, profile, value)
    for one in far:
        one.show()

"""Over HTTP with a wait before each answer, as from far away."""

import contextlib
import os
import subprocess
import sys
import urllib.request

from bench.measure import spent, warm
from bench.sections.first_byte import FORMATS
from bench.settings import BINARY, GUEST, READ, RUNS, beside, guest
from bench.table import Table


@contextlib.contextmanager
def far_away():
    """A web server of the guest's images that waits 50 ms before each answer: its URL, and what tells its counts."""
    argv = [sys.executable, beside("http_server.py"), GUEST, "50"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield url, lambda what="requests": int(urllib.request.urlopen(f"{url}/{what}").read())
    finally:
        process.terminate()
        process.wait()


def run():
    """Over HTTP with 50 ms a request: one file of the guest; and the whole image, beside curl with eight connections."""
    first = Table("HTTP, 50 ms a request: process start to the last byte of /etc/fstab", ["imgmount cat"], "ms")
    asked = Table("HTTP: requests for that", ["imgmount cat"], "requests")
    speed = Table("HTTP, 50 ms a request: the whole image in a row", ["imgmount", "8 curls", "imgmount hash"], "MiB/s")
    processor = Table("HTTP, the whole image in a row: CPU of the client", ["imgmount", "8 curls"], "s/GiB")
    warm(*map(guest, FORMATS))
    with far_away() as (url, requests):
        for _ in range(RUNS):
            for name in FORMATS:
                before = requests()
                wall, _ = spent([BINARY, "cat", f"{url}/{name}:/etc/fstab"])
                first.add(name, "imgmount cat", wall * 1000)
                asked.add(name, "imgmount cat", requests() - before)
            for name in ["disk.raw", "disk.qcow2"]:
                size = os.path.getsize(guest(name))
                mib, part = size / (1 << 20), -(-size // 8)
                ranges = [f"{at}-{min(at + part, size) - 1}" for at in range(0, size, part)]
                curls = " ".join(f"curl -sf -o /dev/null -r {one} {url}/{name} &" for one in ranges)
                # The container's own bytes, all of them, as curl gets them.
                wall, used = spent([READ, f"{url}/{name}", "seq", "600", str(1 << 20), "raw"])
                speed.add(name, "imgmount", mib / wall)
                processor.add(name, "imgmount", used / mib * 1024)
                wall, used = spent(["sh", "-c", curls + " wait"])
                speed.add(name, "8 curls", mib / wall)
                processor.add(name, "8 curls", used / mib * 1024)
                wall, _ = spent([BINARY, "hash", "--format", "raw", f"{url}/{name}"])
                speed.add(name, "imgmount hash", mib / wall)
    for table in (first, asked, speed, processor):
        table.show()

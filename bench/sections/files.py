"""The tree of the guest through a mount."""

import contextlib
import os
import subprocess
import tempfile
import time

from bench.measure import spent, warm
from bench.peers import kernel_mount
from bench.settings import BINARY, PARTITION, RUNS, guest
from bench.table import Table


@contextlib.contextmanager
def our_mount(name, where):
    subprocess.run([BINARY, "-q", guest(name), where], check=True)
    try:
        yield
    finally:
        subprocess.run([BINARY, "-q", "unmount", where], check=True)


def run():
    """The tree of files: ready, find, find again, and every byte through tar."""
    who = ["imgmount", "kernel on loop"]
    table = Table("Files through a mount", who, "s")
    steps = [
        ("find", ["find", ".", "-xdev"]),
        ("find again, with sizes", ["find", ".", "-xdev", "-printf", "%s"]),
        ("tar usr", ["sh", "-c", "tar cf - usr | cat"]),
        ("tar usr again", ["sh", "-c", "tar cf - usr | cat"]),
    ]
    names = ["disk.raw", "disk.vmdk", "disk-stream.vmdk", "disk-zstd.qcow2"]
    warm(*map(guest, names))
    with tempfile.TemporaryDirectory() as where:
        for _ in range(RUNS):
            for name in names:
                mounts = {"imgmount": our_mount, "kernel on loop": lambda name, at: kernel_mount(guest(name), at, PARTITION)}
                if name != "disk.raw":
                    del mounts["kernel on loop"]
                for label, mount in mounts.items():
                    start = time.perf_counter()
                    with mount(name, where):
                        with open(os.path.join(where, "etc/fstab"), "rb") as file:
                            file.read()
                        table.add(f"{name} fstab read", label, time.perf_counter() - start)
                        for step, argv in steps:
                            table.add(f"{name} {step}", label, spent(argv, cwd=where)[0])
    table.show()

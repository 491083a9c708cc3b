"""From the start of a process to the first byte: of a mount, and of an NBD server."""

import contextlib
import os
import subprocess
import tempfile
import time

from bench import nbd_wire
from bench.measure import warm
from bench.peers import NBD, Absent, disk_file, fuse_mount, unmount
from bench.settings import BINARY, RUNS, disk
from bench.table import Table

IMAGES = ["disk.raw", "disk.qcow2", "disk-zlib.qcow2", "disk-sparse.vmdk", "disk-so.vmdk", "disk.vhdx"]
# Who mounts which image as one file, beside us.
MOUNTS = {"disk.raw": "xmount", "disk.qcow2": "qcowmount", "disk-zlib.qcow2": "qcowmount", "disk-sparse.vmdk": "vmdkmount", "disk-so.vmdk": "vmdkmount"}
ROUNDS = RUNS * 2


def ready(image, where):
    """Milliseconds until `imgmount IMAGE DIR` has returned: from then on the mount answers."""
    start = time.perf_counter()
    try:
        subprocess.run([BINARY, "-q", image, where], check=True)
        return (time.perf_counter() - start) * 1000
    finally:
        unmount(where)


def first_byte(argv, sock):
    """Milliseconds until 4 KiB from the second MiB have arrived."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                client = nbd_wire.Client(sock)
                break
            if process.poll() is not None or time.perf_counter() - start > 20:
                raise Absent("-: did not start")
            time.sleep(0.0002)
        client.read(1 << 20, 4096)
        took = (time.perf_counter() - start) * 1000
        client.close()
        return took
    finally:
        process.terminate()
        process.wait()
        with contextlib.suppress(OSError):
            os.unlink(sock)


def run():
    tree = Table("Start to mount ready, the files", ["imgmount"], "ms")
    file = Table("Start to the first block of the disk as a file", ["imgmount", "xmount", "qcowmount", "vmdkmount"], "ms")
    nbd = Table("Start to the first 4 KiB through NBD", list(NBD), "ms")
    warm(*map(disk, IMAGES))
    with tempfile.TemporaryDirectory() as place:
        where, sock = os.path.join(place, "at"), os.path.join(place, "sock")
        os.mkdir(where)
        for _ in range(ROUNDS):
            for name in IMAGES:
                tree.add(name, "imgmount", ready(disk(name), where))
                for who in filter(None, ["imgmount", MOUNTS.get(name)]):
                    try:
                        command, shows = disk_file(who)
                        with fuse_mount(command(disk(name), where), where, shows) as seconds:
                            file.add(name, who, seconds * 1000)
                    except Absent as why:
                        file.note(name, who, str(why))
                for who, command in NBD.items():
                    try:
                        nbd.add(name, who, first_byte(command(disk(name), sock), sock))
                    except Absent as why:
                        nbd.note(name, who, str(why))
    for name in IMAGES:
        tree.limit("must", f"start to mount ready, {name}", name, 30)
        tree.limit("aim", f"start to mount ready, {name}", name, 10)
    for name in IMAGES:
        nbd.limit("must", f"start to first NBD byte, {name}", name, 10)
        nbd.limit("aim", f"start to first NBD byte, {name}", name, 5)
    for table in (tree, file, nbd):
        table.show()

"""A disk as one file over FUSE: a GiB in a row, and 4 KiB here and there, beside others that do it."""

import json
import os
import subprocess
import tempfile

from bench.measure import cpu, spent, warm
from bench.peers import Absent, disk_file, fuse_mount, need, written_pid
from bench.settings import PATIENCE, RUNS, disk
from bench.table import Table, chosen

# Row, image, who else shows it as a file.
CASES = [
    ("raw", "disk.raw", "xmount"),
    ("qcow2", "disk.qcow2", "qcowmount"),
    ("qcow2 zlib", "disk-zlib.qcow2", "qcowmount"),
    ("vmdk sparse", "disk-sparse.vmdk", "vmdkmount"),
    ("vmdk streamOptimized", "disk-so.vmdk", "vmdkmount"),
]
MIB = 1024
SECONDS = 2


def fio(path, seed):
    """Operations a second of four threads that read past the page cache."""
    argv = ["fio", "--name=r", f"--filename={path}", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=psync", "--numjobs=4", "--thread"]
    argv += ["--group_reporting", "--time_based", f"--runtime={SECONDS}", "--size=2G", f"--randseed={seed}", "--output-format=json"]
    with tempfile.TemporaryDirectory() as place:
        out = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd=place).stdout
    return json.loads(out[out.index("{") :])["jobs"][0]["read"]["iops"]


def run(*rows):
    need("fio")
    who = ["imgmount", "xmount", "qcowmount", "vmdkmount"]
    speed = Table(f"FUSE, the disk as a file: {MIB} MiB in a row", who, "MiB/s")
    used = Table(f"FUSE, the disk as a file: {MIB} MiB in a row, CPU of the server", ["imgmount"], "s")
    rate = Table("FUSE, the disk as a file: 4 KiB at random, four threads, past the page cache", who, "operations/s")
    stopped = set()
    with tempfile.TemporaryDirectory() as where:
        for row, name, peer in chosen(CASES, rows):
            warm(disk(name))
            for turn in range(RUNS):
                for label in ["imgmount", peer] if turn % 2 else [peer, "imgmount"]:
                    if (row, label) in stopped:
                        continue
                    try:
                        command, shows = disk_file(label)
                        argv = command(disk(name), where)
                        if label == "imgmount":
                            argv += ["--pid-file", f"{where}.pid"]
                        with fuse_mount(argv, where, shows):
                            path = os.path.join(where, shows)
                            wall, _ = spent(["dd", f"if={path}", "of=/dev/null", "bs=1M", f"count={MIB}"], PATIENCE)
                            if label == "imgmount":
                                used.add(row, label, cpu(written_pid(f"{where}.pid")))
                                os.unlink(f"{where}.pid")
                            speed.add(row, label, MIB / wall)
                            rate.add(row, label, fio(path, turn))
                    except (Absent, subprocess.SubprocessError, ValueError) as why:
                        stopped.add((row, label))
                        text = str(why) if isinstance(why, Absent) else f"> {PATIENCE} s: stopped"
                        for table in (speed, rate):
                            table.note(row, label, text)
    for row, _, peer in CASES[1:]:
        bound = 5 if row in ("qcow2 zlib", "vmdk streamOptimized") else 3
        speed.must(f"FUSE disk file, {row}, sequential", row, peer, bound, least=True)
        rate.must(f"FUSE disk file, {row}, random", row, peer, bound, least=True)
    for table in (speed, used, rate):
        table.show()

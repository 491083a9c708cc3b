"""What the files of the disk are, by the kernel's own reader."""

import hashlib
import json
import os
import random
import subprocess

from bench.peers import kernel_mount
from bench.settings import PARTITION, disk

FILES, LARGEST = 1500, 16 << 20


def write(where, path):
    """Sums of some files, and one sum of all names, sizes and times."""
    with kernel_mount(disk("disk.raw"), where, PARTITION):
        out = subprocess.run(["find", ".", "-xdev", "-printf", r"%P %s %T@\0"], cwd=where, capture_output=True, check=True).stdout
        names = hashlib.sha256(b"\0".join(sorted(out.split(b"\0")))).hexdigest()
        there = subprocess.run(["find", ".", "-xdev", "-type", "f", "-printf", r"%P\0"], cwd=where, capture_output=True, check=True).stdout
        chosen = random.Random(7).sample(sorted(there.split(b"\0")[:-1]), FILES)
        files = []
        for name in map(os.fsdecode, chosen):
            with open(os.path.join(where, name), "rb") as file:
                data = file.read(LARGEST + 1)
            if len(data) <= LARGEST:
                files.append((name, len(data), hashlib.sha256(data).hexdigest()))
    with open(path, "w") as file:
        json.dump({"names": names, "files": files}, file)
    return len(files), out.count(b"\0")

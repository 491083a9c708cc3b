"""What a run is given: the program, the images, how often each figure is taken. Set by run.sh through the environment."""

import os

BINARY = os.environ["BENCH_BINARY"]
# The Debian of `make guest`, and the 4 GiB disk of bench/image.sh.
GUEST = os.environ["BENCH_GUEST"]
DISKS = os.environ["BENCH_DISKS"]
# A Debian 13 whose nbdkit knows the qcow2dec filter, and whose libnbd knows extended headers; may be absent.
TRIXIE = os.environ.get("BENCH_TRIXIE", "")
# The program that reads at the library's own level; only sections that name it need it.
READ = os.environ.get("BENCH_READ", "")
RUNS = int(os.environ.get("RUNS", "5"))
# Seconds after which a step of a peer is stopped, and said to have been.
PATIENCE = int(os.environ.get("PATIENCE", "120"))
# Where the guest's one partition begins.
PARTITION = 2048 * 512


def guest(name):
    return os.path.join(GUEST, name)


def disk(name):
    return os.path.join(DISKS, name)


def beside(name):
    """A program that lies in this folder."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)

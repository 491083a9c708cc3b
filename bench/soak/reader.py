"""One reader of the soak, a process of its own: it reads as its kind does, compares with the raw disk, and reports each second.

    reader.py KIND RAW TARGET SEED

TARGET is a server's socket, a mount point, or for the readers of files MOUNT,LIST. It stands alone, so that it can run in a root
of another Debian. One line of JSON a second: reads, bytes, wrong bytes, errors, and what was wrong.
"""

import collections
import hashlib
import json
import mmap
import os
import random
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import nbd_wire

KIND, RAW, TARGET, SEED = sys.argv[1:5]
RNG = random.Random(int(SEED))
# What a partition's export begins with on the disk.
EXPORTS = {b"": 0, b"disk": 0, b"p1": 2048 * 512}
LONGEST = 1 << 20


class Ledger:
    """What was read and what was wrong with it, told to whoever started us."""

    def __init__(self):
        self.since = time.monotonic()
        self.clear()

    def clear(self):
        self.counts = {"reads": 0, "bytes": 0, "wrong": 0, "errors": 0, "what": []}

    def compare(self, where, got, wanted):
        self.counts["reads"] += 1
        self.counts["bytes"] += len(got)
        if len(got) != len(wanted):
            self.error(f"{where}: {len(got)} bytes instead of {len(wanted)}")
        elif got != wanted:
            wrong = [n for n, (one, other) in enumerate(zip(got, wanted)) if one != other]
            self.counts["wrong"] += len(wrong)
            self.say(f"{where}: {len(wrong)} wrong bytes from {wrong[0]}")
        # At once if something is wrong: a reader that is killed tells no more.
        self.tell(now=self.counts["wrong"] > 0)

    def error(self, what):
        self.counts["errors"] += 1
        self.say(what)
        self.tell(now=True)

    def say(self, what):
        if len(self.counts["what"]) < 5:
            self.counts["what"].append(f"{KIND} {TARGET}: {what}")

    def tell(self, now=False):
        if now or time.monotonic() - self.since > 1:
            print(json.dumps(self.counts), flush=True)
            self.since = time.monotonic()
            self.clear()


LEDGER = Ledger()


def place(size):
    """A random range: small ones and large ones alike, now and then on a sector."""
    length = min(int(512 * 2 ** RNG.uniform(0, 11)), LONGEST, size)
    offset = RNG.randrange(size - length + 1)
    if RNG.random() < 0.5:
        offset, length = offset // 512 * 512, max(length // 512 * 512, 512)
    return offset, length


def wire(raw, structured, depth):
    """Plain sockets: `depth` requests in flight, answers in any order, a new connection now and then."""
    while True:
        export = RNG.choice(list(EXPORTS))
        client = nbd_wire.Client(TARGET, export, structured)
        first, lengths, offsets, cookie = EXPORTS[export], {}, {}, 0
        for _ in range(RNG.randrange(50, 500)):
            while len(lengths) < depth:
                cookie += 1
                offsets[cookie], lengths[cookie] = place(client.size)
                client.ask(cookie, offsets[cookie], lengths[cookie])
            done, got = client.answer(lengths, offsets)
            at = first + offsets.pop(done)
            LEDGER.compare(f"{export.decode()} {at}+{len(got)}", got, raw[at : at + lengths.pop(done)])
        client.close()


def libnbd(raw):
    """libnbd with four connections' worth of requests on one, and what it says of holes held against the disk."""
    import nbd

    handle = nbd.NBD()
    handle.add_meta_context("base:allocation")
    handle.connect_unix(TARGET)
    size, flights = handle.get_size(), collections.deque()
    while True:
        while len(flights) < 16:
            offset, length = place(size)
            buffer = nbd.Buffer(length)
            flights.append((handle.aio_pread(buffer, offset), buffer, offset, length))
        cookie, buffer, offset, length = flights.popleft()
        while not handle.aio_command_completed(cookie):
            handle.poll(-1)
        LEDGER.compare(f"{offset}+{length}", bytes(buffer.to_bytearray()), raw[offset : offset + length])
        if RNG.random() < 0.01:
            holes(handle, raw, size)


def holes(handle, raw, size):
    """Each extent that is said to read as zeros must be zeros."""
    at = RNG.randrange(size - (64 << 20)) // 512 * 512
    extents = []
    handle.block_status(64 << 20, at, lambda context, offset, entries, error: extents.extend(entries) or 0)
    for length, flags in zip(extents[::2], extents[1::2]):
        length = min(length, size - at, 64 << 20)
        if flags & 2:
            LEDGER.compare(f"hole {at}+{length}", bytes(length), raw[at : at + length])
        at += length
        if at >= size:
            break


def file(raw):
    """The disk as a file in a mount, through the page cache and past it."""
    name = os.path.join(TARGET, ".imgmount/disk.raw")
    while True:
        direct = RNG.random() < 0.5
        descriptor = os.open(name, os.O_RDONLY | (os.O_DIRECT if direct else 0))
        try:
            for _ in range(RNG.randrange(50, 500)):
                offset, length = place(len(raw))
                if direct:
                    offset, length = offset // 4096 * 4096, -(-length // 4096) * 4096
                    offset = min(offset, len(raw) - length)
                    buffer = mmap.mmap(-1, length)
                    got = buffer[: os.preadv(descriptor, [buffer], offset)]
                    buffer.close()
                else:
                    got = os.pread(descriptor, length, offset)
                LEDGER.compare(f"{offset}+{length}{' direct' if direct else ''}", got, raw[offset : offset + length])
            if not direct:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def tree():
    """Files of the guest, by the sums that they have through the kernel's own reader."""
    mount, listed = TARGET.split(",")
    with open(listed) as lines:
        sums = json.load(lines)["files"]
    while True:
        name, size, wanted = RNG.choice(sums)
        path = os.path.join(mount, name)
        with open(path, "rb") as opened:
            data = opened.read()
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        LEDGER.compare(f"{name} ({size} bytes)", hashlib.sha256(data).digest(), bytes.fromhex(wanted))
        LEDGER.counts["bytes"] += len(data) - 32


def find():
    """All names."""
    mount, listed = TARGET.split(",")
    with open(listed) as lines:
        wanted = json.load(lines)
    while True:
        out = subprocess.run(["find", ".", "-xdev", "-printf", r"%P %s %T@\0"], cwd=mount, capture_output=True)
        if out.returncode:
            LEDGER.error(out.stderr.decode(errors="replace")[:200])
        names = b"\0".join(sorted(out.stdout.split(b"\0")))
        LEDGER.compare("names, sizes and times", hashlib.sha256(names).digest(), bytes.fromhex(wanted["names"]))
        LEDGER.tell(now=True)


def compare(_):
    """qemu-img over the whole disk."""
    while True:
        url = f"nbd+unix:///?socket={TARGET}"
        said = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", RAW, url], capture_output=True, text=True)
        if said.returncode:
            LEDGER.error((said.stdout + said.stderr)[:200])
            LEDGER.tell(now=True)
        else:
            LEDGER.counts["reads"] += 1
            LEDGER.counts["bytes"] += os.path.getsize(RAW)
            LEDGER.tell(now=True)


def chaos():
    """Clients that break off: mute, with rubbish, in the middle of a request, with answers that nobody takes."""
    while True:
        how = RNG.randrange(5)
        try:
            if how == 0:
                client = socket.socket(socket.AF_UNIX)
                client.connect(TARGET)
                time.sleep(RNG.random())
            elif how == 1:
                client = socket.socket(socket.AF_UNIX)
                client.connect(TARGET)
                client.sendall(RNG.randbytes(RNG.randrange(4096)))
            else:
                opened = nbd_wire.Client(TARGET, structured=how == 4)
                client = opened.socket
                if how == 2:
                    client.sendall(struct.pack(">IHH", nbd_wire.REQUEST, 0, 0))
                else:
                    for cookie in range(64):
                        opened.ask(cookie, RNG.randrange(opened.size - LONGEST), LONGEST)
                    client.recv(RNG.randrange(1, 1 << 16))
            client.close()
        except OSError:
            pass
        LEDGER.counts["reads"] += 1
        LEDGER.tell()
        time.sleep(RNG.random() / 2)


def main():
    with open(RAW, "rb") as opened:
        raw = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    kinds = {
        "simple": lambda: wire(raw, False, 1),
        "structured": lambda: wire(raw, True, 16),
        "libnbd": lambda: libnbd(raw),
        "file": lambda: file(raw),
        "compare": lambda: compare(raw),
        "tree": tree,
        "find": find,
        "chaos": chaos,
    }
    try:
        kinds[KIND]()
    except Exception as why:
        LEDGER.error(f"{type(why).__name__}: {why}")
        LEDGER.tell(now=True)
        sys.exit(1)


main()

"""The soak: sixteen readers over NBD and FUSE at several formats at once, all bytes compared. Started by run.sh."""

import collections
import contextlib
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import zlib

from bench.measure import warm
from bench.peers import fuse_mount, nbd_server, trixie, written_pid
from bench.settings import BINARY, TRIXIE, disk
from bench.soak import expect
from bench.soak.watch import Watch

IMAGES = {"raw": "disk.raw", "qcow2-zlib": "disk-zlib.qcow2", "stream-vmdk": "disk-so.vmdk"}
CACHE = "64M"
# Of the time, what the caches get to fill, at least so many seconds.
WARM_UP, WARM_UP_LEAST = 0.15, 10
# Seconds in which even a reader of the whole disk has come round once.
LONG = 300
LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Reader:
    """A process of reader.py, started again when it was killed."""

    def __init__(self, name, argv, selector):
        self.name, self.argv, self.selector, self.turn = name, argv, selector, 0
        # Those that need a while for one round are not killed: they might never finish one.
        self.slow = name.startswith(("compare", "find"))
        self.counts, self.what, self.rest = collections.Counter(), [], b""
        self.start()

    def start(self):
        self.turn += 1
        self.killed = False
        argv = [*self.argv, str(self.turn * 1000 + zlib.crc32(self.name.encode()) % 1000)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = b""
        self.selector.register(self.process.stdout, selectors.EVENT_READ, self)

    def hear(self):
        """Takes what it reports; at its end, says so unless it was killed by us."""
        data = self.process.stdout.read()
        if data:
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                report = json.loads(line)
                for what in report.pop("what"):
                    print(f"soak: {what}", flush=True)
                    self.what.append(what)
                self.counts.update(report)
        elif data == b"":
            self.selector.unregister(self.process.stdout)
            self.process.wait()
            self.process.stdout.close()
            if not self.killed:
                self.counts["errors"] += 1
                self.what.append(f"{self.name} ended with {self.process.returncode}")
            return False
        return True

    def kill(self):
        self.killed = True
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)


def readers(places, listed, selector, calm):
    """Sixteen that compare, and the one that breaks off."""
    program = [sys.executable, os.path.join(LIBRARY, "soak", "reader.py")]
    have_libnbd = subprocess.run([sys.executable, "-c", "import nbd"], stderr=subprocess.DEVNULL).returncode == 0
    found = []

    def add(kind, image, target, argv=program):
        found.append(Reader(f"{kind} {image}", [*argv, kind, disk("disk.raw"), target], selector))

    for image, (sock, mount) in places.items():
        add("simple", image, sock)
        add("structured", image, sock)
        if image == "qcow2-zlib" and TRIXIE and os.path.exists(f"{TRIXIE}/usr/lib/python3/dist-packages/nbd.py"):
            add("libnbd", image, sock, [*extended(), *program[1:]])
        elif have_libnbd:
            add("libnbd", image, sock)
        else:
            print("soak: libnbd's python module is missing (package python3-libnbd): plain sockets instead")
            add("structured", image, sock)
        add("file", image, mount)
    add("compare", "raw", places["raw"][0])
    for image in ("raw", "qcow2-zlib"):
        add("tree", image, f"{places[image][1]},{listed}")
    add("find", "stream-vmdk", f"{places['stream-vmdk'][1]},{listed}")
    if not calm:
        add("chaos", "raw", places["raw"][0])
        add("chaos", "qcow2-zlib", places["qcow2-zlib"][0])
    return found


def extended():
    """Debian 13's python, whose libnbd asks for extended headers."""
    return ["env", f"PYTHONHOME={TRIXIE}/usr", f"PYTHONPATH={TRIXIE}/usr/lib/python3/dist-packages", *trixie("python3")]


def check(image):
    """The exit code of the import check; it must be the same each time."""
    done = subprocess.run([BINARY, "-q", "check", image, "-p", "tencent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    return done.returncode


def soak(seconds, calm, place, stack):
    """Runs it; what was wrong."""
    wrong, places, watches = [], {}, []
    listed = os.path.join(place, "list.json")
    where = os.path.join(place, "kernel")
    os.mkdir(where)
    print("soak: {} files and {} names by the kernel's reader".format(*expect.write(where, listed)), flush=True)
    for name, file in IMAGES.items():
        warm(disk(file))
        sock, mount, pid_file = (os.path.join(place, f"{name}.{what}") for what in ("sock", "at", "pid"))
        os.mkdir(mount)
        serve = [BINARY, "-q", "serve", disk(file), "-k", sock, "--cache", CACHE]
        watches.append(Watch(f"serve {name}", stack.enter_context(nbd_server(serve, sock))))
        # Links as they are stored, so that all sizes are those that the kernel shows.
        argv = [BINARY, "-q", disk(file), mount, "--cache", CACHE, "--symlinks", "raw", "--pid-file", pid_file]
        stack.enter_context(fuse_mount(argv, mount, "etc/fstab"))
        watches.append(Watch(f"mount {name}", written_pid(pid_file)))
        places[name] = sock, mount
    verdicts = {name: check(disk(file)) for name, file in IMAGES.items()}
    selector, rng, checks = selectors.DefaultSelector(), random.Random(7), 0
    everyone = readers(places, listed, selector, calm)
    print(f"soak: {len(everyone)} readers for {seconds} s{', calm' if calm else ''}", flush=True)
    start = time.monotonic()
    next_look, next_kill, next_check, next_word = start + 1, start + 5, start + 60, start + 30
    checking = None
    try:
        while (now := time.monotonic()) < start + seconds:
            for key, _ in selector.select(0.2):
                reader = key.data
                if not reader.hear() and reader.killed:
                    reader.start()
            if now >= next_look:
                next_look = now + 1
                for watch in watches:
                    watch.look()
                    if not watch.alive():
                        wrong.append(f"{watch.name} has ended")
            if wrong or not selector.get_map():
                break
            if now >= next_kill and not calm:
                next_kill = now + 5
                rng.choice([one for one in everyone if not one.slow]).kill()
            if now >= next_check and checking is None:
                next_check = now + 60
                name = list(IMAGES)[checks % len(IMAGES)]
                argv = [BINARY, "-q", "check", disk(IMAGES[name]), "-p", "tencent"]
                checking = name, subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                checks += 1
            if checking and checking[1].poll() is not None:
                if checking[1].returncode != verdicts[checking[0]]:
                    wrong.append(f"check {checking[0]}: exit code {checking[1].returncode}, before {verdicts[checking[0]]}")
                checking = None
            if now >= next_word:
                next_word = now + 30
                total = sum((reader.counts for reader in everyone), collections.Counter())
                memory = sum(watch.seen[-1][1] for watch in watches)
                print(f"soak: {now - start:.0f} s, {total['reads']} reads, {total['bytes'] >> 20} MiB, {memory:.0f} MiB of ours", flush=True)
    finally:
        for reader in everyone:
            reader.kill()
            reader.process.wait()
            while reader.process.stdout in selector.get_map() and reader.hear():
                pass
        if checking:
            checking[1].wait()
    took = time.monotonic() - start
    total = sum((reader.counts for reader in everyone), collections.Counter())
    print(f"\n{'reader':28}{'reads':>12}{'MiB':>12}{'wrong bytes':>13}{'errors':>8}{'started':>9}")
    for reader in everyone:
        counts = reader.counts
        print(f"{reader.name:28}{counts['reads']:12}{counts['bytes'] >> 20:12}{counts['wrong']:13}{counts['errors']:8}{reader.turn:9}")
        if counts["reads"] == 0 and not (reader.slow and seconds < LONG):
            wrong.append(f"{reader.name} has read nothing")
        if counts["wrong"] or counts["errors"]:
            wrong += reader.what or [f"{reader.name}: {counts['wrong']} wrong bytes, {counts['errors']} errors"]
    print(f"{'all':28}{total['reads']:12}{total['bytes'] >> 20:12}{total['wrong']:13}{total['errors']:8}   in {took:.0f} s, {checks} checks\n")
    time.sleep(3)
    for watch in watches:
        line, complaints = watch.report(max(WARM_UP * seconds, WARM_UP_LEAST))
        print(line)
        wrong += complaints + watch.left_over()
    return wrong


def main():
    seconds, calm = int(sys.argv[1]) if len(sys.argv) > 1 else 600, "calm" in sys.argv[2:]
    print(f"{subprocess.check_output([BINARY, '--version'], text=True).strip()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: stopped"))
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        wrong = soak(seconds, calm, place, stack)
    for one in wrong[:40]:
        print(f"soak: WRONG: {one}")
    print(f"soak: {'failed' if wrong else 'passed: no wrong byte, no error, memory and descriptors flat'}")
    sys.exit(1 if wrong else 0)


main()

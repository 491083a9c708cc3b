#!/usr/bin/env python3
"""Holds the checker's word against reality: makes each variant of the real Debian guest, asks `imgmount check` whether it
would boot on a machine with a BIOS and virtio devices, and boots it there.

    tests/truth/boot.py IMGMOUNT GUEST DIR [-j N] [--table FILE] [--keep] [NAME...]

A machine is qemu's `pc` in software emulation, with one virtio disk, one virtio network card and, as clouds give it, a
second disk with a password for the first user (cloud-init's NoCloud). It counts as started when that user logs in on the
serial console and a shell computes a product. The variants are those of `variant.sh --list`; each is made, checked, booted
and removed. The last line says how many verdicts agree; exit 1 if one does not.
"""

import argparse
import concurrent.futures
import json
import os
import re
import select
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROFILE = "generic-kvm"
USER, PASSWORD = "debian", "imgmount"
# What a machine says when it will not get any further.
ENDS = [
    (rb"No bootable device", "the firmware finds nothing to boot"),
    (rb"grub rescue> ", "GRUB stops at 'grub rescue>'"),
    (rb"Read Error", "GRUB's first sector cannot read the core image"),
    (rb"error: file `[^']*' not found", "GRUB does not find a file"),
    (rb"error: no such device", "GRUB does not find a device"),
    (rb"Kernel panic[^\r\n]*", "kernel panic"),
    (rb"\(initramfs\) ", "the initramfs finds no root and gives a shell"),
    (rb"You are in emergency mode", "systemd stops in emergency mode"),
    (rb"root account is locked", "systemd stops in emergency mode"),
]
# The longest that a machine may take, and may say nothing, in seconds.
LONGEST, SILENT = 1500, 240


class Machine:
    """A running machine and what it said on its serial console."""

    def __init__(self, qemu, disk, seed):
        share = os.path.join(os.path.dirname(os.path.dirname(qemu)), "share")
        self.said = b""
        self.start = self.last = time.monotonic()
        self.process = subprocess.Popen(
            [qemu, "-L", f"{share}/qemu", "-L", f"{share}/seabios", "-machine", "pc,graphics=off", "-accel", "tcg",
             "-cpu", "max", "-m", "768", "-display", "none", "-monitor", "none", "-no-reboot", "-snapshot",
             "-serial", "stdio", "-drive", f"if=virtio,format=raw,file={disk}",
             "-drive", f"if=virtio,format=raw,readonly=on,file={seed}",
             "-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.process.stdout.fileno(), False)

    def listen(self, seconds):
        """Reads for so long, or until something new was said."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return True
        got = self.process.stdout.read()
        if not got:
            return False
        self.said += got
        self.last = time.monotonic()
        return True

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, pattern, mark, seconds):
        """Waits for a pattern behind the byte `mark`; its end, or None."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(pattern, self.said[mark:])
            if found:
                return mark + found.end()
            if not self.listen(1):
                return None
        return None

    def stop(self):
        self.process.kill()
        self.process.wait()


def log_in(machine):
    """Tries to log in, again while cloud-init has not set the password; True when a shell answers."""
    tries_after = 0
    while tries_after < 3:
        if b"Cloud-init" in machine.said and b"finished at" in machine.said or time.monotonic() - machine.start > 600:
            tries_after += 1
        mark = len(machine.said)
        machine.say("")
        mark = machine.wait(rb"login: ", mark, 60)
        if mark is None:
            return False
        machine.say(USER)
        mark = machine.wait(rb"Password: ", mark, 60)
        if mark is None:
            continue
        machine.say(PASSWORD)
        answer = machine.wait(rb"incorrect|\$ ", mark, 90)
        if answer is None:
            continue
        if b"incorrect" not in machine.said[mark:answer]:
            machine.say("echo product $((6*7))")
            return machine.wait(rb"product 42", answer, 60) is not None
        end = time.monotonic() + 10
        while time.monotonic() < end:
            machine.listen(1)
    return False


def boot(qemu, disk, seed):
    """Boots a disk: (did somebody get in, what happened)."""
    machine = Machine(qemu, disk, seed)
    try:
        while True:
            now = time.monotonic()
            if re.search(rb"\w login: ", machine.said):
                if log_in(machine):
                    return True, f"logged in after {time.monotonic() - machine.start:.0f} s"
                return False, "boots to 'login:', and nobody can log in"
            for pattern, words in ENDS:
                found = re.search(pattern, machine.said)
                if found:
                    # The exact words: the last thing that matters is often in front.
                    time.sleep(1)
                    return False, words
            if now - machine.last > SILENT or now - machine.start > LONGEST:
                return False, "says nothing more after: " + last_line(machine.said)
            if not machine.listen(2):
                return False, "the machine ended after: " + last_line(machine.said)
    finally:
        machine.stop()


def last_line(said):
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b.", b"", said).decode("utf-8", "replace")
    lines = [line.strip() for line in plain.replace("\r", "\n").split("\n") if line.strip()]
    return lines[-1][:80] if lines else "nothing"


def check(imgmount, disk):
    """The checker's verdict, and its reasons."""
    done = subprocess.run([imgmount, "check", disk, "-p", PROFILE, "--json"], capture_output=True)
    report = json.loads(done.stdout)["results"][0]
    wrong = {"not-importable": "fail", "undecided": "undecided"}.get(report["verdict"])
    reasons = [f["rule"] for f in report["findings"] if f["level"] == "blocker" and f["result"] == wrong]
    return report["verdict"], reasons


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("imgmount")
    parser.add_argument("guest")
    parser.add_argument("dir")
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--table")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_intermixed_args()
    os.makedirs(args.dir, exist_ok=True)
    qemu = subprocess.run([f"{HERE}/qemu.sh", os.path.join(args.dir, "qemu")], capture_output=True, text=True, check=True)
    qemu = qemu.stdout.strip().split("\n")[-1]
    listed = subprocess.run([f"{HERE}/variant.sh", "--list"], capture_output=True, text=True, check=True).stdout
    variants = [line.split("\t") for line in listed.splitlines()]
    unknown = set(args.names) - {variant[0] for variant in variants}
    if unknown:
        parser.error("no variant " + ", ".join(sorted(unknown)))
    variants = [variant for variant in variants if not args.names or variant[0] in args.names]
    seed = os.path.join(args.dir, "seed.iso")
    for name, text in [("user-data", f"#cloud-config\npassword: {PASSWORD}\nchpasswd: {{expire: false}}\n"),
                       ("meta-data", "instance-id: truth\nlocal-hostname: truth\n")]:
        with open(os.path.join(args.dir, name), "w") as file:
            file.write(text)
    subprocess.run(["genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", seed, "user-data", "meta-data"],
                   cwd=args.dir, check=True)

    def one(variant):
        name, expected, what = variant
        disk = os.path.join(args.dir, f"{name}.raw")
        subprocess.run([f"{HERE}/variant.sh", name, args.guest, disk], check=True)
        verdict, reasons = check(args.imgmount, disk)
        started, happened = boot(qemu, disk, seed)
        if not args.keep:
            os.remove(disk)
        agrees = {"importable": started, "not-importable": not started}.get(verdict, False)
        line = (name, what, verdict, ", ".join(reasons), happened, agrees, (expected == "boots") == started)
        print(f"{'agrees' if agrees else 'DIFFERS'}  {name}: {verdict}"
              f"{' (' + ', '.join(reasons) + ')' if reasons else ''}; {happened}", flush=True)
        return line

    # Variants that share a kept tree are made one after the other.
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        lines = list(pool.map(one, sorted(variants, key=lambda v: v[0] == "root-on-absent-disk")))
    lines.sort(key=lambda line: [variant[0] for variant in variants].index(line[0]))
    if args.table:
        with open(args.table, "w") as file:
            file.write("| variant | what was done | verdict | rules | what happened | agree |\n|---|---|---|---|---|---|\n")
            for name, what, verdict, rules, happened, agrees, _ in lines:
                happened = re.sub(r" after \d+ s$", "", happened)
                file.write(f"| {name} | {what} | {verdict} | {rules} | {happened} | {'yes' if agrees else '**no**'} |\n")
    for name, _, _, _, happened, _, as_made in lines:
        if not as_made:
            print(f"unexpected: {name}: {happened}")
    agreeing = sum(line[5] for line in lines)
    print(f"{agreeing} of {len(lines)} verdicts agree with what happened")
    sys.exit(0 if agreeing == len(lines) and all(line[6] for line in lines) else 1)


if __name__ == "__main__":
    main()

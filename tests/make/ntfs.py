#!/usr/bin/env python3
"""Fills a mounted NTFS with one of everything that a reader of its directories and runs can get wrong.

usage: ntfs.py DIR [large]

Odd sizes are odd for a reason: some 700 bytes are the longest value inside a record of 1 KiB, some 3,800 inside one of
4 KiB; clusters have 512 bytes to 2 MiB.
"""
import os, random, sys

root = sys.argv[1]
large = "large" in sys.argv[2:]
random.seed(1)
os.chdir(root)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


# Directories of a root alone, of one block, of several, and of two levels
for count in (3, 40, 300) + ((6_000,) if large else ()):
    os.mkdir(f"d{count}")
    for n in range(count):
        write(f"d{count}/{'x' * (n % 40)} file {n:06}.txt", b"%d\n" % n if n % 2 else b"")
# One with blocks that are free again
os.mkdir("deleted")
for n in range(400):
    write(f"deleted/{'x' * (n % 50 + 1)}{n}", b"gone")
for n in range(400):
    if n % 40:
        os.unlink(f"deleted/{'x' * (n % 50 + 1)}{n}")
os.makedirs("deep/" + "/".join("d%d" % n for n in range(60)))

# Names: every length in bytes of UTF-8, halves of pairs, letters that differ in case only
os.mkdir("names")
for name in ("n" * 255, "é" * 255, "日本語の名前.txt" * 10, "smile 😀.txt", "😀" * 127, " leading", "trailing ", "trailing.", "...", "a:b", "back\\slash",
             "quo\"te*?<>|", "\x01control\x7f", "Ελληνικά", "ΕΛΛΗΝΙΚΆ", "i ı İ I", "ß", "ẞ", "ſ", "K", "k"):
    write(b"names/" + name.encode(), name.encode())
for name in (b"\xed\xa0\x80", b"\xed\xa0\xbd", b"a\xed\xb0\x80b", b"\xef\xbf\xbf", b"\xed\xbf\xbf\xed\xa0\x80"):
    write(b"names/half " + name, name)
os.mkdir("case")
for name in ("Case", "case", "CASE", "cASE", "Über", "über", "ÜBER", "zebra", "Zebra"):
    write("case/" + name, name.encode())
os.mkdir("case/UPPER")
os.mkdir("case/upper")

# Sizes
os.mkdir("sizes")
for size in (0, 1, 8, 100, 500, 600, 650, 680, 700, 720, 800, 1023, 1024, 1025, 3000, 3700, 3800, 4000, 4095, 4096, 4097, 65535, 65536, 65537, 1_234_567):
    write(f"sizes/{size}", random.randbytes(size))

# Names of one file in several directories; enough that one record does not hold them
os.link("sizes/100", "names/hard")
os.link("sizes/100", "sizes/hard")
os.mkdir("links")
write("links/first", b"linked")
for n in range(40):
    os.link("links/first", f"links/{'link' * 20}{n}")

# Holes, fragments, what was never written
with open("sparse", "wb") as f:
    f.truncate(30 << 20)
    f.seek(17 << 20)
    f.write(random.randbytes(70_001))
    f.seek(25 << 20)
    f.write(random.randbytes(5000))
one, two = open("interleaved-1", "wb", 0), open("interleaved-2", "wb", 0)
for n in range(100):
    for f in (one, two):
        f.write(random.randbytes(4096))
        os.fsync(f.fileno())
if large:
    with open("islands", "wb") as f:
        for n in range(3000):
            f.seek(n * 36864)
            f.write(bytes([n % 251 + 1]) * 4096)
with open("short", "wb") as f:
    f.write(random.randbytes(100_000))
    f.truncate(3000)
    f.truncate(50_000)

os.mkdir("times")
for n, second in enumerate((-(1 << 33), -1, 0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) + 5, 15032385535)):
    write(f"times/{n}", b"t")
    # Before 1970 whole seconds only: ntfs-3g shows others wrongly, fractions going backwards.
    parts = (0, 0) if second < 0 else (123456700, 987654300)
    os.utime(f"times/{n}", ns=(second * 10**9 + parts[0], second * 10**9 + parts[1]))

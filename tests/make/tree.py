#!/usr/bin/env python3
"""Fills a mounted file system with one of everything that a reader can get wrong.

usage: tree.py DIR BLOCK_SIZE [large] [few-names]

Odd sizes are odd for a reason: 59 and 60 bytes are the longest symbolic link inside an inode and the first outside,
60 to 160 the sizes around which data moves out of a 256-byte inode, 12 blocks the end of ext3's direct map.
"""
import os, random, socket, stat, struct, sys

root, block = sys.argv[1], int(sys.argv[2])
large = "large" in sys.argv[3:]
random.seed(1)
os.umask(0)
os.chdir(root)


def write(path, data, mode=0o644):
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)


# Directories of one block, of several, and with an index of two levels
for count in (3, 40, 300):
    os.mkdir(f"d{count}")
    for n in range(count):
        write(f"d{count}/file-{n:06}", b"%d\n" % n)
os.mkdir("d6000")
for n in range(6000):
    os.mknod(f"d6000/{'long-name-' * 15}{n:06}")
# One with holes where names were deleted
os.mkdir("deleted")
for n in range(200):
    write(f"deleted/{'x' * (n % 50 + 1)}{n}", b"gone")
for n in range(0, 200, 3):
    os.unlink(f"deleted/{'x' * (n % 50 + 1)}{n}")

# Names
os.mkdir("names")
for name in (b"n" * 255, b"m" * 254, b"caf\xe9", b"line\nbreak", b"back\\slash", b"\x1b[31mred", "日本語".encode(), b" ", b"-rf", b"\xff" * 255):
    write(b"names/" + name, name)
os.makedirs("deep/" + "/".join("d%d" % n for n in range(60)))

# Sizes
os.mkdir("sizes")
for size in (0, 1, 59, 60, 61, 100, 130, 140, 150, 155, 160, 161, 200, 1023, 1024, 1025, 4095, 4096, 4097, 12 * block, 12 * block + 1,
             300_000, (12 + block // 4) * block + 5, 5_000_000):
    write(f"sizes/{size}", random.randbytes(size))

# Links, devices and the rest
os.mkdir("links")
for length in (1, 58, 59, 60, 61, 200, min(block - 1, 4000)):
    try:
        os.symlink("t" * length, f"links/{length}")
    except OSError as error:
        print("link of", length, "bytes:", error.strerror, file=sys.stderr)
os.symlink("/etc/passwd", "links/absolute")
os.symlink("../sizes/60", "links/relative")
os.link("sizes/60", "links/hard")
os.link("sizes/60", "names/hard")
os.mkfifo("fifo", 0o600)
os.mknod("char-old", stat.S_IFCHR | 0o666, os.makedev(1, 3))
os.mknod("block-old", stat.S_IFBLK | 0o660, os.makedev(254, 255))
os.mknod("char-new", stat.S_IFCHR | 0o600, os.makedev(300, 5))
os.mknod("block-new", stat.S_IFBLK | 0o600, os.makedev(8, 70000))
socket.socket(socket.AF_UNIX).bind("socket")
write("setuid", b"s", 0o4755)
os.mkdir("sticky", 0o1777)
os.chmod("sticky", 0o1777)
write("owner", b"o")
os.chown("owner", 100_000, 4_000_000_000)

# Holes, fragments, preallocation
with open("sparse", "wb") as f:
    f.truncate(50 << 20)
    f.seek(17 << 20)
    f.write(random.randbytes(70_001))
    f.seek(40 << 20)
    f.write(random.randbytes(5000))
with open("islands", "wb") as f:
    for n in range(1500):
        f.seek(n * 16384)
        f.write(bytes([n % 251 + 1]) * 4096)
one, two = open("interleaved-1", "wb", 0), open("interleaved-2", "wb", 0)
for n in range(300):
    for f in (one, two):
        f.write(random.randbytes(4096))
        os.fsync(f.fileno())
try:
    with open("preallocated", "wb", 0) as f:
        os.posix_fallocate(f.fileno(), 0, 1 << 20)
        f.seek(500_000)
        f.write(b"in the middle")
except OSError:
    pass
if large:
    with open("over-4-gib", "wb") as f:
        f.truncate((4 << 30) + 12345)
        for at in (0, (2 << 30) + 17, (4 << 30) + 5):
            f.seek(at)
            f.write(random.randbytes(9000 if at else 100))

# Attributes
os.mkdir("attributes")
sizes = [0, 1, 10, 100, 2500 if block == 4096 else 700]
for n, size in enumerate(sizes):
    write(f"attributes/{n}", b"a")
    os.setxattr(f"attributes/{n}", f"user.size{size}", b"v" * size)
write("attributes/all", b"a")
for name, value in (("user.one", b"1"), ("user.two", b"2" * 50), ("trusted.three", b"3"), ("security.four", b"4\0"),
                    ("security.selinux", b"system_u:object_r:etc_t:s0\0")):
    try:
        os.setxattr("attributes/all", name, value)
    except OSError as error:
        print(name, error, file=sys.stderr)
os.setxattr(".", "user.root", b"r")
os.symlink("all", "attributes/link")
os.setxattr("attributes/link", "trusted.link", b"l", follow_symlinks=False)
if "ea_inode" in sys.argv[3:]:
    write("attributes/large", b"a")
    os.setxattr("attributes/large", "user.large", bytes(range(256)) * 40)


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


NONE = 0xFFFFFFFF
access = acl((1, 6, NONE), (2, 6, 1000), (2, 4, 100_000), (4, 4, NONE), (8, 5, 50), (16, 6, NONE), (32, 4, NONE))
write("acl", b"a")
os.mkdir("acl-dir")
try:
    os.setxattr("acl", "system.posix_acl_access", access)
    os.setxattr("acl-dir", "system.posix_acl_access", access)
    os.setxattr("acl-dir", "system.posix_acl_default", access)
except OSError as error:
    print("acl", error, file=sys.stderr)

# Times: before 1970, the last second of 31 bits, after 2038, after 2106, the last of 34 bits
os.mkdir("times")
for n, second in enumerate((-(1 << 31), -1, 0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) + 5, 15032385535)):
    write(f"times/{n}", b"t")
    try:
        os.utime(f"times/{n}", ns=(second * 10**9 + 123456789, second * 10**9 + 987654321))
    except OSError:
        pass

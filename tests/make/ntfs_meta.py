#!/usr/bin/env python3
"""Fills a directory of an NTFS that ntfs-3g has mounted with what files carry besides their data.

usage: ntfs_meta.py DIRECTORY PART, where PART is links, specials, named, few_named, descriptors or efs
The mount needs streams_interface=xattr; efs needs efs_raw.
"""
import os
import socket
import struct
import sys

SYMLINK, JUNCTION, LX_SYMLINK = 0xA000000C, 0xA0000003, 0xA000001D


def reparse(path, tag, data, is_dir=False):
    """Makes a file or directory with a reparse point of Microsoft's."""
    if is_dir:
        os.mkdir(path)
    else:
        open(path, "x").close()
    os.setxattr(path, "system.ntfs_reparse_data", struct.pack("<IHH", tag, len(data), 0) + data)


def names(target, shown, flags=b""):
    """The data of links: [MS-FSCC] 2.1.2.4 and 2.1.2.5. The name for people stands first."""
    target, shown = (text.encode("utf-16-le", "surrogatepass") for text in (target, shown))
    return struct.pack("<4H", len(shown), len(target), 0, len(shown)) + flags + shown + target


def symlink(path, target, relative, is_dir=False):
    reparse(path, SYMLINK, names(target, "for people", struct.pack("<I", relative)), is_dir)


def links():
    os.makedirs("dir/sub")
    open("dir/file", "w").close()
    open("dir/sub/über 😀", "w").close()
    symlink("dir/sub/relative", "..\\file", 1)
    symlink("relative", "dir\\sub\\über 😀", 1)
    symlink("to dir", "dir\\sub", 1, True)
    symlink("dir/sub/from root", "\\dir\\file", 1)
    symlink("from root", "\\dir\\file", 1)
    symlink("absolute", "\\??\\C:\\not\\there", 0)
    symlink("here", "\\??\\c:\\dir\\file", 0)
    reparse("junction", JUNCTION, names("\\??\\C:\\dir\\sub", "C:\\dir"), True)
    reparse("dir/elsewhere", JUNCTION, names("\\??\\d:\\not\\there", ""), True)
    reparse("volume", JUNCTION, names("\\??\\Volume{3d6b2c6f-0000-0000-0000-100000000000}\\", ""), True)
    reparse("lx", LX_SYMLINK, struct.pack("<I", 2) + "/etc/ä".encode())


def specials():
    os.symlink("../some/where 😀", "link")
    os.symlink("x" * 255, "long")
    os.mkfifo("fifo")
    os.mknod("chr", 0o20600, os.makedev(5, 1))
    os.mknod("blk", 0o60600, os.makedev(259, 65537))
    socket.socket(socket.AF_UNIX).bind("sock")


def few_named():
    named(10)


def named(objects=100):
    os.mkdir("dir")
    for path in ["file", "dir/file", "a long name.text", "linked"]:
        open(path, "w").write("content")
    os.link("linked", "dir/linked")
    for path in ["file", "dir"]:
        os.setxattr(path, "user.short", b"value")
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.Ünï 😀", b"x" * 3000)
    os.setxattr("file", "user.largest", os.urandom(65536))
    os.setxattr("file", "trusted.foreign", b"foreign")
    os.setxattr("dir/file", "system.ntfs_object_id", bytes(range(16)))
    os.setxattr("file", "system.ntfs_object_id", bytes(range(100, 164)))
    for n in range(objects):
        open(f"dir/{n}", "w").close()
        os.setxattr(f"dir/{n}", "system.ntfs_object_id", os.urandom(16) + bytes(48))
    os.setxattr("a long name.text", "system.ntfs_dos_name", b"alongn~1.tex")
    for path, bits in [("file", 0x2023), ("dir", 0x6), ("dir/file", 0x80)]:
        os.setxattr(path, "system.ntfs_attrib_be", struct.pack(">I", bits))
    os.setxattr("file", "system.ntfs_times", struct.pack("<4Q", *range(131000000000000001, 131000000000000041, 10)))
    os.setxattr("file", "system.ntfs_ea", ea(("$LXUID", 1000), ("$LXGID", 1001), ("$LXMOD", 0o100640), ("OTHER", 7)))
    os.setxattr("dir", "system.ntfs_ea", ea(("$LXMOD", 0o41777)))


def ea(*attributes):
    """A list of extended attributes, each with a number of 32 bits: [MS-FSCC] 2.4.16."""
    found = b""
    for name, value in attributes:
        entry = bytes([0, len(name), 4, 0]) + name.encode() + b"\0" + struct.pack("<I", value)
        entry += bytes(-(4 + len(entry)) % 4)
        found += struct.pack("<I", 4 + len(entry)) + entry
    return found


def descriptors():
    """Files with descriptors of their own, so that `$SII` gets blocks and `$SDS` goes past 256 KiB."""
    for n in range(200):
        open(f"{n}", "w").close()
        sid = struct.pack("<BB6s5I", 1, 5, bytes([0, 0, 0, 0, 0, 5]), 21, 1, 2, 3, 1000 + n)
        entries = 1 + n % 100
        entry = struct.pack("<BBHI", 0, 0, 8 + len(sid), 0x1F01FF) + sid
        acl = struct.pack("<BBHHH", 2, 0, 8 + entries * len(entry), entries, 0) + entries * entry
        head = struct.pack("<BBH4I", 1, 0, 0x8004, 20, 20 + len(sid), 0, 20 + 2 * len(sid))
        os.setxattr(f"{n}", "system.ntfs_acl", head + sid + sid + acl)


def efs():
    """An encrypted file with one user: the form of `$EFS` is that of src/fs/ntfs/efs.rs."""
    # The last two bytes say how many before them are padding.
    open("secret", "wb").write(b"s" * 4096 + struct.pack("<H", 4))
    sid = struct.pack("<BB6s2I", 1, 2, bytes([0, 0, 0, 0, 0, 5]), 21, 1001)
    thumbprint = struct.pack("<5I", 20, 20, 0, 0, 0) + bytes(range(1, 21))
    credential = struct.pack("<7I", 28 + 16 + 40, 28, 3, 40, 28 + 16, 0, 0) + sid + thumbprint
    field = struct.pack("<5I", 20 + len(credential), 20, 0, 0, 0) + credential
    length = 0x54 + 4 + len(field)
    head = struct.pack("<4I48s3I8x", length, 0, 2, 0, bytes(48), 0x54, 0, 0)
    os.setxattr("secret", "user.ntfs.efsinfo", head + struct.pack("<I", 1) + field)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    globals()[sys.argv[2]]()

#!/usr/bin/env python3
r"""Makes a disk as Windows lays one out, small: usage: windows.py mbr|gpt DISK [key=value...]

  mbr   p1 System Reserved (NTFS, boot store), p2 the system, p3 a data volume, which the system has as D:
  gpt   p1 EFI system partition (FAT, boot store), p2 Microsoft reserved, p3 the system, p4 a data volume, p5 recovery

  signature=HEX        what the registry and the boot store call the disk; the disk itself has 12345678
  system=HIVE software=HIVE bcd=HIVE   these files instead of hives made here
  start=BYTES size=BYTES   where the system's partition begins and how long the disk is (mbr)
  extra=DIR            the files of this directory, on the system's volume
  second=NAME          another installation in the directory NAME beside the first

The file systems are made by mkntfs and mkfs.vfat and filled by ntfs-3g and mtools, the tables by sfdisk, the hives by
hive.py from texts with the keys and values that Windows has there. Of its programs there are headers only.
"""
import os, shutil, struct, subprocess, sys, tempfile, time, uuid

MIB = 1 << 20
HERE = os.path.dirname(os.path.abspath(__file__))
MANAGER, ENTRY, RESUME = (
    "{9dea862c-5cdd-4e70-acc1-f32b344d4795}",
    "{733b62e5-f608-11eb-825c-c112f60133ab}",
    "{733b62e4-f608-11eb-825c-c112f60133ab}",
)
PARTS = {n: uuid.UUID(f"0b{n}f2c38-e4ea-47ba-b7fc-9d8c74dccf0b") for n in range(1, 6)}
DISK = uuid.UUID("5b0894a9-095e-487d-8d48-719ecd4d78ca")
# What junctions on C: call the volume D: by.
DATA = "{629458e4-0000-0000-0000-010000000000}"


def run(*command, **more):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)


def commas(data):
    return "hex:" + ",".join(f"{byte:02x}" for byte in data)


def hive(path, text):
    run(sys.executable, f"{HERE}/hive.py", "-", path, input=text.encode())


class Disk:
    """Where the partitions are, as both hives write it down."""

    def __init__(self, kind, options):
        self.kind = kind
        self.signature = int(options.get("signature", "12345678"), 16)
        if kind == "mbr":
            start = int(options.get("start", 17 * MIB))
            self.parts = {1: (MIB, min(start, 17 * MIB) - MIB), 2: (start, 48 * MIB), 3: (start + 48 * MIB, 24 * MIB)}
        else:
            self.parts = {1: (MIB, 34 * MIB), 2: (35 * MIB, MIB), 3: (36 * MIB, 48 * MIB), 4: (84 * MIB, 24 * MIB), 5: (108 * MIB, 12 * MIB)}
        self.system, self.data = (2, 3) if kind == "mbr" else (3, 4)
        end = max(start + size for start, size in self.parts.values())
        self.size = int(options.get("size", end + MIB))

    def mounted(self, part):
        """The data of a value in MountedDevices."""
        if self.kind == "gpt":
            return b"DMIO:ID:" + PARTS[part].bytes_le
        return struct.pack("<IQ", self.signature, self.parts[part][0])

    def device(self, part):
        """The data of a device in a boot store."""
        head = bytes(16) + struct.pack("<IIII", 6, 0, 0x48, 0)
        if self.kind == "gpt":
            return (head + PARTS[part].bytes_le + struct.pack("<II", 0, 0) + DISK.bytes_le).ljust(0x58, b"\0")
        return (head + struct.pack("<QQII", self.parts[part][0], 0, 0, 1) + struct.pack("<I", self.signature)).ljust(0x58, b"\0")

    def table(self):
        if self.kind == "gpt":
            types = ["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "e3c9e316-0b5c-4db8-817d-f92df00215ae"]
            types += ["ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"] * 2 + ["de94bba4-06d1-4d40-a16a-bfd50179d6ac"]
            lines = [f"label: gpt\nlabel-id: {DISK}"]
            lines += [
                f"start={start // 512}, size={size // 512}, type={types[n - 1]}, uuid={PARTS[n]}"
                for n, (start, size) in self.parts.items()
            ]
        else:
            lines = ["label: dos\nlabel-id: 0x12345678"]
            lines += [
                f"start={start // 512}, size={size // 512}, type=7" + (", bootable" if n == 1 else "")
                for n, (start, size) in self.parts.items()
            ]
        return "\n".join(lines) + "\n"


def system_text(disk):
    set1 = r"ControlSet001\Control"
    absent = struct.pack("<IQ", 0x002B1BE5, MIB)
    stick = r"\??\USBSTOR#Disk&Ven_X".encode("utf-16le")
    return rf'''
[Select]
"Current"=dword:00000001
"Default"=dword:00000001
"Failed"=dword:00000000
"LastKnownGood"=dword:00000002
[MountedDevices]
"\\DosDevices\\C:"={commas(disk.mounted(disk.system))}
"\\DosDevices\\D:"={commas(disk.mounted(disk.data))}
"\\DosDevices\\F:"={commas(absent)}
"\\DosDevices\\G:"={commas(stick)}
"\\??\\Volume{DATA}"={commas(disk.mounted(disk.data))}
[ControlSet002\Control\ComputerName\ComputerName]
"ComputerName"="OLD-NAME"
[{set1}\ComputerName\ComputerName]
"ComputerName"="DESKTOP-2KGM189"
[{set1}\TimeZoneInformation]
"TimeZoneKeyName"="W. Europe Standard Time"
'''


SOFTWARE = r'''
[Microsoft\Windows NT\CurrentVersion]
"ProductName"="Windows 10 Pro"
"DisplayVersion"="23H2"
"ReleaseId"="2009"
"EditionID"="Professional"
"InstallationType"="Client"
"CurrentVersion"="6.3"
"CurrentMajorVersionNumber"=dword:0000000a
"CurrentMinorVersionNumber"=dword:00000000
"CurrentBuild"="22631"
"CurrentBuildNumber"="22631"
"UBR"=dword:00000b00
"InstallDate"=dword:655f2a00
"SystemRoot"="C:\\Windows"
'''


def bcd_text(disk):
    loader = r"\\EFI\\Microsoft\\Boot\\bootmgfw.efi" if disk.kind == "gpt" else r"\\bootmgr"
    winload = r"\\Windows\\system32\\winload." + ("efi" if disk.kind == "gpt" else "exe")
    device = commas(disk.device(disk.system))
    elements = [
        (MANAGER, "10100002", {"11000001": commas(disk.device(1)), "12000002": f'"{loader}"', "12000004": '"Windows Boot Manager"',
                               "23000003": f'"{ENTRY}"', "24000001": f'multi:"{ENTRY}"'}),
        (RESUME, "10200004", {"11000001": device, "12000004": '"Windows Resume Application"'}),
        (ENTRY, "10200003", {"11000001": device, "12000002": f'"{winload}"', "12000004": '"Windows 11"',
                             "21000001": device, "22000002": r'"\\Windows"', "23000003": f'"{RESUME}"'}),
    ]
    text = ""
    for guid, kind, values in elements:
        text += f"[Objects\\{guid}\\Description]\n\"Type\"=dword:{kind}\n"
        for number, value in values.items():
            text += f"[Objects\\{guid}\\Elements\\{number}]\n\"Element\"={value}\n"
    return text


def program(machine):
    """A program's headers."""
    return b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80) + bytes(0x40) + b"PE\0\0" + struct.pack("<H", machine) + bytes(0x200)


def put(top, path, data):
    path = os.path.join(top, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def reparse(path, substitute, shown, relative=None):
    """Makes an empty directory (or file) a junction, or with `relative` said a symbolic link: [MS-FSCC] 2.1.2.4 and .5."""
    a, b = substitute.encode("utf-16le"), shown.encode("utf-16le")
    names = struct.pack("<HHHH", 0, len(a), len(a) + 2, len(b))
    tag = 0xA0000003
    if relative is not None:
        tag, names = 0xA000000C, names + struct.pack("<I", int(relative))
    data = names + a + b"\0\0" + b + b"\0\0"
    os.setxattr(path, "system.ntfs_reparse_data", struct.pack("<IHH", tag, len(data), 0) + data)


def installation(top, directory, work, options):
    """A Windows in a directory of its volume."""
    for name in ("system", "software"):
        with open(options.get(name, f"{work}/{name}"), "rb") as file:
            put(top, f"{directory}/System32/config/{name.upper()}", file.read())
    put(top, f"{directory}/System32/ntoskrnl.exe", program(0x8664))
    put(top, f"{directory}/SysWOW64/ntoskrnl.exe", program(0x14C))
    for name in ("cmd.exe", "winload.exe", "winload.efi"):
        put(top, f"{directory}/System32/{name}", program(0x8664))
    put(top, f"{directory}/win.ini", b"[fonts]\r\n")


def fill_system(top, work, options):
    installation(top, "Windows", work, options)
    if "second" in options:
        installation(top, options["second"], work, options)
    if "extra" in options:
        shutil.copytree(options["extra"], top, dirs_exist_ok=True)
    put(top, "Users/me/Documents/letter.txt", b"Dear reader\r\n")
    put(top, "Windows.old/Windows/System32/config/SYSTEM", b"regf")
    put(top, "Windows.old/Windows/System32/config/SOFTWARE", b"regf")
    put(top, "Windows.old/Windows/System32/ntoskrnl.exe", program(0x8664))
    put(top, "pagefile.sys", b"")
    for path, target in [
        ("Documents and Settings", r"C:\Users"),
        ("Users/All Users", r"C:\ProgramData"),
        ("Users/me/data", f"Volume{DATA}" + "\\"),
        ("Users/me/shelf", r"D:\shelf"),
    ]:
        os.makedirs(f"{top}/{path}")
        reparse(f"{top}/{path}", "\\??\\" + target, target)
    # What a link to a server must not lead to.
    put(top, "server/share/letter.txt", b"not this one\r\n")
    for path, target, relative in [
        ("Users/me/server", r"UNC\server\share\letter.txt", False),
        ("Users/me/letter", r"Documents\letter.txt", True),
        ("Users/me/up", r"..\..\Windows\win.ini", True),
        ("Users/me/absolute", r"c:\Windows\win.ini", False),
    ]:
        put(top, path, b"")
        reparse(f"{top}/{path}", target if relative else "\\??\\" + target, target, relative)


def fill_data(top):
    put(top, "shelf/book.txt", b"Once upon a time\r\n")
    put(top, "back.txt", b"")
    reparse(f"{top}/back.txt", r"\??\C:\Users\me\Documents\letter.txt", r"C:\Users\me\Documents\letter.txt", False)


def ntfs(path, size, label, fill):
    with open(path, "wb") as file:
        file.truncate(size)
    run("mkntfs", "-F", "-Q", "-q", "-L", label, path, stderr=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as top:
        # All is written when its process has ended.
        server = subprocess.Popen(["ntfs-3g", "-o", "no_detach", path, top])
        while not os.path.ismount(top):
            assert server.poll() is None, "ntfs-3g does not mount"
            time.sleep(0.01)
        try:
            fill(top)
        finally:
            run("umount", top)
            server.wait()


def fat(path, size, files):
    with open(path, "wb") as file:
        file.truncate(size)
    run("mkfs.vfat", "-F", "32", "-s", "1", "-n", "SYSTEM", path)
    made = set()
    for name, source in files.items():
        parts = name.split("/")
        for n in range(1, len(parts)):
            above = "/".join(parts[:n])
            if above not in made:
                made.add(above)
                run("mmd", "-i", path, f"::{above}")
        run("mcopy", "-i", path, source, f"::{name}")


def main():
    kind, path = sys.argv[1:3]
    options = dict(word.split("=", 1) for word in sys.argv[3:])
    disk = Disk(kind, options)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path))) as work:
        hive(f"{work}/system", system_text(disk))
        hive(f"{work}/software", SOFTWARE)
        hive(f"{work}/bcd", bcd_text(disk))
        bcd = options.get("bcd", f"{work}/bcd")
        with open(bcd, "rb") as file:
            store = file.read()
        put(work, "loader", program(0x8664))
        volume = lambda part: (f"{work}/p{part}", disk.parts[part][1])
        ntfs(*volume(disk.system), "", lambda top: fill_system(top, work, options))
        ntfs(*volume(disk.data), "Data", fill_data)
        if kind == "mbr":
            def reserved(top):
                put(top, "bootmgr", b"\xeb")
                put(top, "Boot/BCD", store)
            ntfs(*volume(1), "System Reserved", reserved)
        else:
            fat(*volume(1), {"EFI/Microsoft/Boot/BCD": bcd, "EFI/Microsoft/Boot/bootmgfw.efi": f"{work}/loader"})
            ntfs(*volume(5), "Recovery", lambda top: put(top, "Recovery/WindowsRE/Winre.wim", b"MSWIM\0\0\0"))
        with open(path, "wb") as file:
            file.truncate(disk.size)
        run("sfdisk", "-q", path, input=disk.table().encode())
        with open(path, "r+b") as file:
            if kind == "mbr":
                # What boot_code knows Windows' own by.
                file.seek(0)
                file.write(b"\x33\xc0\x8e\xd0\xbc\x00\x7c")
                file.seek(0x163)
                file.write(b"Invalid partition table\0Error loading operating system\0Missing operating system\0")
            for part, (start, size) in disk.parts.items():
                if os.path.exists(f"{work}/p{part}"):
                    run("dd", f"if={work}/p{part}", f"of={path}", "bs=1M", "conv=notrunc,sparse", f"seek={start}", "oflag=seek_bytes", "status=none")


main()

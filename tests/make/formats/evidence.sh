#!/usr/bin/env bash
# Images cut into segments, and the disks of Parallels: single files and bundles. See lib.sh.
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk

# split: raw in the ways that people cut; 1 MiB + 3 sectors is no multiple of anything, the last segment is shorter
piece=$(( (1 << 20) + 3 * 512 ))
cut_raw() { # prefix, first suffix, options of split
    split -b $piece "${@:3}" s.raw "$1."
    is "$1.$2" split s.raw -
}
cut_raw digits 001 -d -a 3 --numeric-suffixes=1
cut_raw zero 000 -d -a 3
cut_raw short 00 -d -a 2
cut_raw letters aa -a 2
cut_raw three aaa -a 3
split -b $piece -d -a 2 s.raw part.
for n in 0 1 2 3 4 5 6; do mv part.0$n part.part$(( n + 1 )); done
is part.part1 split s.raw -
# any other format in segments is that format
qemu-img convert -f raw -O qcow2 -c s.raw q.qcow2
split -b 100000 -d -a 3 --numeric-suffixes=1 q.qcow2 q.qcow2.
is q.qcow2.001 split s.raw -
# a lone segment is what its bytes say
cp s.raw lone.001
is lone.001 raw s.raw -
cp q.qcow2 lone-qcow2.001
is lone-qcow2.001 qcow2 s.raw qcow2
cp s.raw later.002
is later.002 raw s.raw -
# a later segment is refused by the first one's name, a set with a hole by the missing one's
refused digits.003 digits.001
refused letters.ab letters.aa
refused zero.001 zero.000
cp s.raw hole.001
cp s.raw hole.003
refused hole.001 hole.002

# parallels: both versions, cluster sizes, one with more table than a page, written in places
qemu-img convert -f raw -O parallels s.raw plain.hds; case_of plain.hds parallels
qemu-img convert -f raw -O parallels -o cluster_size=64k s.raw small.hds; case_of small.hds parallels
qemu-img create -q -f parallels -o cluster_size=64k wide.hds 300M
change parallels wide.hds -c 'write -P 5 100M 3k' -c 'write -P 6 7M 2M' -c 'write -P 7 299M 512'
case_of wide.hds parallels
/usr/bin/python3 - << 'END'
# Version 1 counts sectors where version 2 counts clusters.
import struct
image = bytearray(open("small.hds", "rb").read())
image[:16] = b"WithoutFreeSpace"
tracks, entries = struct.unpack_from("<II", image, 28)
for at in range(64, 64 + 4 * entries, 4):
    struct.pack_into("<I", image, at, struct.unpack_from("<I", image, at)[0] * tracks)
open("first.hds", "wb").write(image)
END
case_of first.hds parallels
qemu-img create -q -f parallels empty.hds 5M; case_of empty.hds parallels
cp small.hds inuse.hds
printf 'Ynot' | dd of=inuse.hds bs=1 seek=44 conv=notrunc status=none
is inuse.hds parallels small.hds.ref -

# bundles
top='{5fbaabe3-6958-40ff-92a7-860e329aab41}'
old='{11111111-2222-3333-4444-555555555555}'
image() { printf '<Image><GUID>%s</GUID><Type>%s</Type><File>%s</File></Image>' "$@"; }
storage() { printf '<Storage><Start>%s</Start><End>%s</End><Blocksize>128</Blocksize>%s</Storage>' "$@"; }
shot() { printf '<Shot><GUID>%s</GUID><ParentGUID>%s</ParentGUID></Shot>' "$@"; }
none='{00000000-0000-0000-0000-000000000000}'
bundle() { # directory, storages, shots
    printf "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\">\n<Disk_Parameters><Disk_size>13288</Disk_size><Padding>0</Padding></Disk_Parameters>\n<StorageData>%s</StorageData>\n<Snapshots>%s</Snapshots>\n</Parallels_disk_image>\n" \
        "$2" "$3" > "$1/DiskDescriptor.xml"
}
mkdir one.hdd two.hdd snap.hdd raw.hdd absent.hdd sparse.sparsebundle sparse.sparsebundle/bands
cp small.hds "one.hdd/one.hdd.0.$top.hds"
bundle one.hdd "$(storage 0 13288 "$(image "$top" Compressed "one.hdd.0.$top.hds")")" "$(shot "$top" "$none")"
is one.hdd parallels s.raw -
is one.hdd/DiskDescriptor.xml parallels s.raw -
# split: two storages that meet in the middle of a cluster
head -c $(( 8001 * 512 )) s.raw > a.raw
tail -c +$(( 8001 * 512 + 1 )) s.raw > b.raw
qemu-img convert -f raw -O parallels -o cluster_size=64k a.raw two.hdd/a.hds
cp b.raw two.hdd/b.hds
bundle two.hdd "$(storage 8001 13288 "$(image "$top" Plain b.hds)")$(storage 0 8001 "$(image "$top" Compressed a.hds)")" "$(shot "$top" "$none")"
is two.hdd parallels s.raw -
# snapshots: whole clusters are written in the top image, and the same bytes in the reference
writes=(-c 'write -P 7 1M 128k' -c 'write -P 8 4M 64k' -c 'write -P 0 2M 64k')
cp s.raw snap.ref
change raw snap.ref "${writes[@]}"
for kind in snap raw; do
    qemu-img create -q -f parallels -o cluster_size=64k $kind.hdd/top.hds $(( 13288 * 512 ))
    change parallels $kind.hdd/top.hds "${writes[@]}"
done
cp small.hds snap.hdd/old.hds
cp s.raw raw.hdd/old.hds
bundle snap.hdd "$(storage 0 13288 "$(image "$old" Compressed old.hds)$(image "$top" Compressed top.hds)")" "$(shot "$old" "$none")$(shot "$top" "$old")"
bundle raw.hdd "$(storage 0 13288 "$(image "$old" Plain old.hds)$(image "$top" Compressed top.hds)")" "$(shot "$old" "$none")$(shot "$top" "$old")"
is snap.hdd parallels snap.ref -
is raw.hdd parallels snap.ref -
bundle absent.hdd "$(storage 0 13288 "$(image "$top" Compressed gone.hds)")" "$(shot "$top" "$none")"
refused absent.hdd "'gone.hds' is missing"
echo '<plist/>' > sparse.sparsebundle/Info.plist
refused sparse.sparsebundle 'sparse bundle'

# ewf: what libewf writes, read back by ewfexport: both compressions, other chunk and sector sizes, segments, older
# layouts, SMART. The last chunk is never whole (13288 sectors).
acquire() { # name, options of ewfacquire; the disk is what ewfexport reads from it
    local name=$1 first
    ewfacquire -u -q -t "$name" -C case-7 -D 'a disk' -e 'A. Examiner' -E ev-3 -N notes "${@:2}" s.raw > ewf.log 2>&1 || { cat ewf.log >&2; exit 1; }
    first=$(compgen -G "$name.[EesL]*01" | head -1)
    ewfexport -u -q -f raw -t "$name.out" "$first" > ewf.log 2>&1 || { cat ewf.log >&2; exit 1; }
    cmp "$name.out.raw" s.raw
    rm "$name.out.raw"
    is "$first" ewf s.raw -
}
acquire none -c none
acquire best -c best -d sha1
acquire empty -c empty-block
acquire small -c fast -b 16
acquire large -c best -b 32768
acquire sectors -c fast -P 4096
acquire parts -c none -S 1100000
for format in encase1 encase3 encase5 linen5 linen7 ftk smart ewf ewfx encase7; do
    acquire "$format" -c fast -f "$format"
done
acquire smart-parts -c none -f smart -S 1100000

# dmg and sparseimage: no writer but Apple's, so these are written from the descriptions that src/image/{dmg,sparseimage}
# follow. qemu-img reads raw and zlib blocks.
/usr/bin/python3 - << 'END'
import base64, bz2, lzma, random, struct, zlib

SECTOR = 512
disk = open("s.raw", "rb").read()
sectors = len(disk) // SECTOR

def adc(data):
    """Runs of a byte as copies from one before, everything else as it is."""
    out, plain, at = bytearray(), bytearray(), 0
    def flush():
        for start in range(0, len(plain), 128):
            part = plain[start:start + 128]
            out.append(0x80 | (len(part) - 1))
            out.extend(part)
        plain.clear()
    while at < len(data):
        run = 1
        while at + run < len(data) and data[at + run] == data[at] and run < 68:
            run += 1
        plain.append(data[at])
        if run >= 5:
            flush()
            left = run - 1
            out.extend(bytes([(left - 3) << 2, 0]) if left < 10 else bytes([0x40 | (left - 4), 0, 0]))
            at += run
        else:
            at += 1
    flush()
    return bytes(out)

def lzfse(data):
    return b"bvx-" + struct.pack("<I", len(data)) + data + b"bvx$"

RAW, ZLIB, BZIP2, LZMA, ADC, LZFSE = 1, 0x80000005, 0x80000006, 0x80000008, 0x80000004, 0x80000007
PACK = {
    RAW: lambda data: data, ZLIB: zlib.compress, BZIP2: bz2.compress, ADC: adc, LZFSE: lzfse,
    LZMA: lambda data: lzma.compress(data, format=lzma.FORMAT_XZ, preset=1),
}

def dmg(name, kinds, block, cuts, zero=0, before=1000):
    """Blocks of so many sectors, in tables that begin at the cuts, behind some bytes of something else."""
    body, tables, count = bytearray(b"x" * before), [], 0
    for number, (first, end) in enumerate(zip(cuts, cuts[1:] + [sectors])):
        base, entries = min(24 * number, len(body) - before), []
        for start in range(first, end, block):
            length = min(block, end - start)
            data = disk[start * SECTOR:(start + length) * SECTOR]
            if not any(data):
                entries.append((zero, start - first, length, 0, 0))
                continue
            kind = kinds[count % len(kinds)]
            count += 1
            packed = PACK[kind](data)
            entries.append((kind, start - first, length, len(body) - before - base, len(packed)))
            body += packed
            if count % 5 == 0:
                entries.append((0x7ffffffe, start - first, 0, 0, 0))
        entries.append((0xffffffff, end - first, 0, 0, 0))
        table = struct.pack(">4sIQQQII24x136xI", b"mish", 1, first, end - first, base, block, number, len(entries))
        table += b"".join(struct.pack(">IIQQQQ", entry[0], 0, *entry[1:]) for entry in entries)
        text = base64.encodebytes(table).decode().replace("\n", "\n\t\t\t\t")
        tables.append(f"<dict><key>Attributes</key><string>0x0050</string><key>Data</key>\n<data>\n\t\t\t\t{text}</data><key>ID</key><string>{number}</string></dict>")
    xml = ('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
           '<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array>' + "\n".join(tables) + "</array></dict></dict></plist>\n").encode()
    trailer = struct.pack(">4sIIIQQQQQII16x136xQQ120x136xIQ12x", b"koly", 4, 512, 1, 0, before, len(body) - before, 0, 0, 1, 1, len(body), len(xml), 1, sectors)
    assert len(trailer) == 512
    open(name, "wb").write(bytes(body) + xml + trailer)

dmg("raw.dmg", [RAW], 2048, [0])
dmg("zlib.dmg", [ZLIB], 512, [0, 40, 5001])
dmg("mixed.dmg", [ZLIB, RAW], 100, [0, 1], zero=2)
# these begin as bzip2 and xz files do
dmg("bzip2.dmg", [BZIP2], 512, [0, 40], before=0)
dmg("lzma.dmg", [LZMA], 2048, [0, 40], before=0)
dmg("adc.dmg", [ADC], 512, [0])
dmg("all.dmg", [LZFSE, ADC, LZMA, BZIP2, ZLIB, RAW], 64, [0, 40, 5001, 13000])

def sparse(name, band):
    """Bands in a random order; those of zeros are left out."""
    parts = [number for number in range(-(-sectors // band)) if any(disk[number * band * SECTOR:(number + 1) * band * SECTOR])]
    random.Random(7).shuffle(parts)
    out, room, first = bytearray(), 1008, True
    while True:
        here, parts = parts[:room], parts[room:]
        following = len(out) + 4096 + len(here) * band * SECTOR if parts else 0
        page = struct.pack(">4sIIIIQQ28x", b"sprs", 3, band, 1, sectors, following, sectors) if first else struct.pack(">4sIIQ36x", b"sprs", 0, 1, following)
        page += struct.pack(f">{len(here)}I", *[number + 1 for number in here])
        out += page.ljust(4096, b"\0")
        for number in here:
            out += disk[number * band * SECTOR:(number + 1) * band * SECTOR].ljust(band * SECTOR, b"\0")
        if not parts:
            break
        room, first = 1010, False
    open(name, "wb").write(out)

sparse("large.sparseimage", 2048)
sparse("small.sparseimage", 2)
open("locked.dmg", "wb").write(b"encrcdsa" + bytes(8192))
open("locked-first.dmg", "wb").write(bytes(8192) + b"cdsaencr")
END
for name in raw zlib mixed; do case_of $name.dmg dmg; cmp $name.dmg.ref s.raw; done
for name in bzip2 lzma adc all; do is $name.dmg dmg s.raw -; done
is large.sparseimage sparseimage s.raw -
is small.sparseimage sparseimage s.raw -
refused locked.dmg 'the dmg is encrypted'
refused locked-first.dmg 'the dmg is encrypted'

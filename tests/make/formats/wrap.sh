#!/usr/bin/env bash
# Images in wrappers: every way in which gzip, xz, zstd and their kin pack a file, around formats that begin with a
# signature, end with one, or have none. The bytes expected are those of the image before it was packed. See lib.sh.
# needs: gzip, pigz, bgzip, xz, zstd, pzstd, bzip2, cpio, tar, python3
# shellcheck source=tests/make/formats/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_disk
qemu-img convert -f raw -O qcow2 s.raw q.qcow2
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized s.raw v.vmdk
# A fixed VHD is known by its last sector alone; with force_size it has the size of the disk.
qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on s.raw f.vhd
declare -A inner=([s.raw]=raw [q.qcow2]=qcow2 [v.vmdk]=vmdk [f.vhd]=vhd)
packed() { is "$1" "${inner[$2]}" s.raw -; } # wrapper, what is inside

# Every wrapper around every format.
for image in "${!inner[@]}"; do
    gzip -kc "$image" > "$image.gz"; packed "$image.gz" "$image"
    bgzip -c "$image" > "$image.bgz"; packed "$image.bgz" "$image"
    xz -kc --block-size=700000 "$image" > "$image.xz"; packed "$image.xz" "$image"
    zstd -qc "$image" > "$image.zst"; packed "$image.zst" "$image"
    bzip2 -kc "$image" > "$image.bz2"; packed "$image.bz2" "$image"
done
cut() { head -c "$2" "$1"; }        # file, bytes
rest() { tail -c +$(( $2 + 1 )) "$1"; } # file, bytes left out
half=3000001

# gzip: two members at an odd place; an empty one between; a header with all its fields; a tape's zeros; what gzip calls
# garbage; no compression (stored blocks lie on bytes) and the most; another packer
{ cut s.raw $half | gzip -c; gzip -c < /dev/null; rest s.raw $half | gzip -9c; } > members.gz
gzip -1kc s.raw > fast.gz
gzip -9kc s.raw > best.gz
pigz -0kc s.raw > stored.gz
pigz -kc -b 128 s.raw > pigz.gz
pigz -ikc -b 128 s.raw > pigz-independent.gz
cp s.raw.gz padded.gz; truncate -s %10240 padded.gz
{ cat s.raw.gz; echo garbage; } > garbage.gz
/usr/bin/python3 - <<'PY'
import struct, zlib
plain = open("s.raw", "rb").read()
# FTEXT, FHCRC, FEXTRA (two subfields), FNAME, FCOMMENT: RFC 1952, section 2.3
extra = b"ab\x03\x00xyz" + b"cd\x00\x00"
header = b"\x1f\x8b\x08\x1f" + struct.pack("<IBB", 1, 2, 3) + struct.pack("<H", len(extra)) + extra
header += b"a name.img\0" + b"a comment\0"
header += struct.pack("<H", zlib.crc32(header) & 0xffff)
def deflate(data, **how):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, **how)
    return packer.compress(data) + packer.flush()
trailer = struct.pack("<II", zlib.crc32(plain), len(plain))
open("fields.gz", "wb").write(header + deflate(plain) + trailer)
# Blocks of fixed codes only, and many short blocks: full and sync flushes
open("fixed-codes.gz", "wb").write(header + deflate(plain, strategy=zlib.Z_FIXED) + trailer)
packer = zlib.compressobj(6, zlib.DEFLATED, -15, memLevel=1)
out = b""
for at in range(0, len(plain), 77777):
    out += packer.compress(plain[at:at + 77777]) + packer.flush(zlib.Z_FULL_FLUSH if at % 2 else zlib.Z_SYNC_FLUSH)
open("flushed.gz", "wb").write(header + out + packer.flush() + trailer)
PY
for name in members fast best stored pigz pigz-independent padded garbage fields fixed-codes flushed; do
    { gzip -dc $name.gz 2> /dev/null || [ $? = 2 ]; } | cmp - s.raw # 2: garbage was left out
    packed $name.gz s.raw
done
# One member more than bgzip's own: read like any other
{ cut s.raw $half | bgzip -c; rest s.raw $half | gzip -c; } > bgzip-and-gzip.gz
packed bgzip-and-gzip.gz s.raw

# xz: one block, several streams with padding between and behind, every check, blocks made by threads; filters before LZMA2
xz -kc -T1 s.raw > one-block.xz
xz -kc -T2 --block-size=1MiB s.raw > threads.xz
{ cut s.raw $half | xz -c; head -c 8 /dev/zero; rest s.raw $half | xz -c --check=crc32 --block-size=333333; head -c 4 /dev/zero; } > streams.xz
for check in none crc32 sha256; do xz -kc --check=$check --block-size=2MiB s.raw > check-$check.xz; done
xz -kc --block-list=1000,2000000,512,0 s.raw > uneven.xz
xz -kc --x86 --lzma2=preset=1 --block-size=1MiB s.raw > x86.xz
for arch in arm armthumb powerpc ia64 sparc; do xz -kc --$arch --lzma2=preset=0 s.raw > $arch.xz; done
xz -kc --delta=dist=4 --x86 --lzma2=dict=64KiB,lc=0,lp=2 --block-size=1MiB s.raw > delta.xz
for name in one-block threads streams check-none check-crc32 check-sha256 uneven x86 arm armthumb powerpc ia64 sparc delta; do
    xz -dc $name.xz | cmp - s.raw
    packed $name.xz s.raw
done

# zstd: threads, a long window, with and without a sum, no plain length in the header (from a pipe), frames one behind the
# other, pzstd's frames, skippable frames between, and the seekable format with and without sums
zstd -qc -T2 -B512K s.raw > threads.zst
zstd -qc --long=27 -9 s.raw > long.zst
zstd -qc --no-check s.raw > no-check.zst
zstd -qc --fast < s.raw > pipe.zst
{ cut s.raw $half | zstd -qc; rest s.raw $half | zstd -qc -19; } > frames.zst
pzstd -q -c -p 4 -3 s.raw > pzstd.zst
{ printf '\x50\x2a\x4d\x18\x05\0\0\0hello'; cut s.raw $half | zstd -qc; printf '\x5f\x2a\x4d\x18\0\0\0\0'; rest s.raw $half | zstd -qc; } > skippable.zst
/usr/bin/python3 - <<'PY'
import struct, subprocess
# "Zstandard Seekable Format": frames, then a skippable frame with a line for each and a footer
plain = open("s.raw", "rb").read()
def packed(part, *how):
    return subprocess.run(["zstd", "-qc", *how], input=part, stdout=subprocess.PIPE, check=True).stdout
for name, summed in (("seekable", False), ("seekable-sums", True)):
    out, table = b"", b""
    for at in range(0, len(plain), 600001):
        part = plain[at:at + 600001]
        # The sum that a frame ends with is the one that the table wants: the low half of XXH64.
        frame = packed(part)
        table += struct.pack("<II", len(frame), len(part)) + (frame[-4:] if summed else b"")
        out += frame
    count = len(table) // (12 if summed else 8)
    table += struct.pack("<IBI", count, 0x80 if summed else 0, 0x8f92eab1)
    open(name + ".zst", "wb").write(out + struct.pack("<II", 0x184d2a5e, len(table)) + table)
PY
for name in threads long no-check pipe frames pzstd skippable seekable seekable-sums; do
    zstd -qdc $name.zst | cmp - s.raw
    packed $name.zst s.raw
done

# A wrapper in a wrapper; an archive in one
xz -kc q.qcow2.gz > twice.gz.xz; packed twice.gz.xz q.qcow2
tar -cf - q.qcow2 | gzip -c > archive.tar.gz; is archive.tar.gz tar s.raw -

# What is no disk inside is still named for what it is; dictionaries are refused by their number
seq 100000 | gzip -c > text.gz; refused text.gz 'text'
{ cpio -o --quiet -H newc <<< text.gz; head -c 4096 /dev/zero; } | xz -c > archive.cpio.xz; refused archive.cpio.xz 'cpio archive'
for n in $(seq 200); do seq $(( n * 100 )) $(( n * 100 + 200 )) > part-$n.txt; done
zstd -q --train part-*.txt -o dictionary --dictID=4711 --maxdict=4096
rm part-*.txt
zstd -qc -D dictionary s.raw > dictionary.zst; refused dictionary.zst 'dictionary 4711'

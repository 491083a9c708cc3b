# Sourced by the scripts beside it, each of which makes one set of images: DIR with an image of every variant, and beside
# each the raw disk as another reader reads it. A new set is one file; tests/image.rs finds it.
#
#   tests/make/formats/NAME.sh DIR
#
# DIR/cases.tsv lists what must be read: image, format in our word, reference, format in qemu-img's word ('-' where
# qemu-img does not read it), key if it is locked, layer if not the image's own disk is meant. Images that name others need DIR allowed.
# DIR/refused.tsv lists what must be refused: image, a word of the reason.
# A script that needs more than qemu-utils names the programs on a line of its own: '# needs: pigz, bgzip'.
# shellcheck shell=bash
set -euo pipefail
dir=${1:?usage: NAME.sh DIR}
mkdir -p "$dir"
cd "$dir"
rm -rf -- ./*
: > cases.tsv
: > refused.tsv

put() { # offset, [file]: standard input goes there
    dd of="${2:-s.raw}" seek="$1" conv=notrunc status=none oflag=seek_bytes bs=64K
}

# The disk: 6 MiB and 1000 sectors (no multiple of any cluster size above 4 KiB), with zeros, text that packs well,
# bytes that do not pack, all at offsets that are no multiple of a cluster.
make_disk() {
    truncate -s $(( (6 << 20) + 1000 * 512 )) s.raw
    seq 1 150000 | put $(( 4096 + 300 ))
    seq 1 200000 | shuf --random-source=<(yes 7) | gzip -9n | put $(( (2 << 20) + 777 ))
    seq 500000 590000 | put $(( (5 << 20) - 1234 ))
}

is() { # image, format in our word, reference, [qemu-img's word or -], [key], [layer]
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-$2}" "${5:-}" "${6:-}" >> cases.tsv
}
case_of() { # image, its format in qemu's word, [in ours]: the reference is what qemu-img reads
    qemu-img convert -f "$2" -O raw "$1" "$1.ref"
    is "$1" "${3:-$2}" "$1.ref" "$2"
}
refused() { printf '%s\t%s\n' "$1" "$2" >> refused.tsv; }
change() { qemu-io -f "$1" "${@:3}" "$2" > /dev/null; } # format, image, qemu-io's own options

#!/bin/bash
# Small erofs images in forms that Debian 12's mkfs.erofs (1.5) cannot write, for tests/fs/erofs.rs.
#
# usage: erofs.sh tree DIR                   the files that are in them
#        erofs.sh images MKFS TAR_XZ         makes them; those in the repository are by mkfs.erofs 1.9.3
set -euo pipefail

tree() {
    mkdir -p "$1/d"
    cd "$1"
    # Two that are the same but for a line in the middle: what is stored once. Ends of less than a block: fragments.
    seq 6000 >numbers
    (seq 3000; echo other; seq 3001 6000) >shifted
    seq 100 >small
    cp small d/again
    seq 200 230 >tail
    ln -s ../small d/link
    setfattr -n user.a.long.prefix.one -v 1 small
    setfattr -n user.a.long.prefix.two -v 2 numbers
}

images() {
    local dir
    dir=$(mktemp -d)
    (tree "$dir/tree")
    make() {
        "$1" --quiet -T1700000000 -U 11111111-2222-3333-4444-555555555555 --all-root "${@:3}" "$dir/$2.img" "$dir/tree"
    }
    make "$1" lzma -zlzma -C65536
    make "$1" deflate -zdeflate -Elegacy-compress
    make "$1" zstd -zzstd -Eztailpacking
    make "$1" fragments -zlz4hc -C16384 -Efragments,dedupe
    make "$1" all-fragments -zlzma -Eall-fragments -Elegacy-compress --xattr-prefix=user.a.long.prefix.
    make "$1" extents -zzstd -E48bit -C65536 -Efragments
    tar -C "$dir" --sort=name --mtime=@0 --owner=0 --group=0 -c \
        {all-fragments,deflate,extents,fragments,lzma,zstd}.img | xz -9e >"$2"
    rm -r "$dir"
}

"$@"

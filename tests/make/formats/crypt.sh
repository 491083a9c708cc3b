#!/usr/bin/env bash
# What is locked: LUKS1 and LUKS2, qcow2 with LUKS, qcow2 and qcow with AES. See lib.sh.
#
# No kernel takes part: cryptsetup writes headers into files, and the payload is qemu's, or openssl's (tests/make/xts.py).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/make/formats/lib.sh
. "$here/lib.sh"
make_disk
key='a key'
printf '%s' "$key" > key
secret=secret,id=s,data=$key
size=$(stat -c %s s.raw)

# qemu-img 7.2 measures the CPU for the key's iterations, and every third time finds that it took none.
again() {
    for try in $(seq 20); do
        "$@" 2> again.log && return
        [ "$try" != 20 ] || { cat again.log >&2; exit 1; }
    done
}
setup() { cryptsetup -q --key-file key "$@"; }
quick() { setup --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$@"; }

# LUKS1: headers of cryptsetup (qemu-img measures for seconds how slow a key should be), one of qemu's own; payloads of qemu
payload() { # image with a header: fills it, and lists it
    qemu-img convert -n --object "$secret" --target-image-opts s.raw "driver=luks,key-secret=s,file.filename=$1"
    is "$1" luks s.raw - "$key"
}
luks1() { # name, cipher, bits of the key, hash
    truncate -s $(( (2 << 20) + size )) "$1"
    quick luksFormat --type luks1 --cipher "$2" --key-size "$3" --hash "$4" --offset 4096 "$1"
}
luks1 xts256.luks aes-xts-plain64 512 sha256; payload xts256.luks
luks1 xts128.luks aes-xts-plain64 256 sha1; payload xts128.luks
luks1 essiv.luks aes-cbc-essiv:sha256 256 sha512; payload essiv.luks
luks1 essiv128.luks aes-cbc-essiv:sha256 128 sha256; payload essiv128.luks
luks1 plain.luks aes-cbc-plain 256 ripemd160; payload plain.luks
luks1 plain64.luks aes-cbc-plain64 128 sha256; payload plain64.luks
again qemu-img create -q -f luks --object "$secret" -o key-secret=s,iter-time=10 qemu.luks "$size"
payload qemu.luks
# a mode that qemu does not open: openssl's
luks1 ecb.luks aes-ecb 256 sha256
truncate -s $(( 2 << 20 )) ecb.luks
setup luksDump ecb.luks --dump-volume-key --volume-key-file volume.key > /dev/null
openssl enc -aes-256-ecb -nopad -K "$(od -An -v -tx1 volume.key | tr -d ' \n')" -in s.raw >> ecb.luks
is ecb.luks luks s.raw - "$key"
# the key in another slot than the first, between others
cp xts256.luks slots.luks
for other in one two three; do
    printf %s $other > other
    quick luksAddKey slots.luks other
done
is slots.luks luks s.raw - two

# LUKS2, of LUKS1: the payload stays where it is
luks2() { # name, of which
    cp "$2" "$1"
    setup convert "$1" --type luks2
    is "$1" luks s.raw - "$key"
}
luks2 v2.luks xts256.luks
luks2 v2-essiv.luks essiv.luks
for kind in argon2i argon2id; do
    cp v2.luks $kind.luks
    printf %s $kind > other
    setup --pbkdf $kind --pbkdf-memory 1024 --pbkdf-parallel 2 --pbkdf-force-iterations 4 --key-slot 5 luksAddKey $kind.luks other
    cryptsetup -q luksKillSlot $kind.luks 0
    is $kind.luks luks s.raw - $kind
done
# one copy of the header is damaged: the other one counts
cp v2.luks first-damaged.luks
put 5000 first-damaged.luks <<< damage
is first-damaged.luks luks s.raw - "$key"
cp v2.luks second-damaged.luks
put $(( 16384 + 5000 )) second-damaged.luks <<< damage
is second-damaged.luks luks s.raw - "$key"
# sectors of 4096 bytes; the disk is no multiple of that, and what is left over is no part of it
truncate -s 16M sectors.luks
quick luksFormat --type luks2 --sector-size 4096 --label 'a label' --luks2-metadata-size 16k --luks2-keyslots-size 256k sectors.luks
rm volume.key
setup luksDump sectors.luks --dump-volume-key --volume-key-file volume.key > /dev/null
truncate -s $(( 1 << 20 )) sectors.luks
"$here/../xts.py" volume.key 4096 < s.raw >> sectors.luks
head -c $(( size / 4096 * 4096 )) s.raw > sectors.ref
is sectors.luks luks sectors.ref - "$key"

# qcow2 with LUKS: written, zeroed and unwritten clusters; over a plain backing file, of which nothing is deciphered; with
# a snapshot; in small clusters
qcow2() { # name, options
    again qemu-img create -q -f qcow2 --object "$secret" -o "encrypt.key-secret=s,$2" "$1" "$size"
}
opts() { printf 'driver=qcow2,file.filename=%s,encrypt.key-secret=s' "$1"; }
edit() { qemu-io --object "$secret" --image-opts "$(opts "$1")" "${@:2}" > /dev/null; }
plain() { # the reference is what qemu-img reads
    qemu-img convert --object "$secret" --image-opts "$(opts "$1")" -O raw "$1.ref"
    is "$1" qcow2 "$1.ref" - "$key"
}
fill() { qemu-img convert -n --object "$secret" --target-image-opts s.raw "$(opts "$1")"; }
qcow2 empty.qcow2 encrypt.format=luks,encrypt.iter-time=10
plain empty.qcow2
cp empty.qcow2 luks.qcow2
fill luks.qcow2
edit luks.qcow2 -c 'write -z 1M 256k' -c 'write -P 7 3M 70k'
plain luks.qcow2
cp luks.qcow2 luks-snapshot.qcow2
qemu-img snapshot --object "$secret" --image-opts -c one "$(opts luks-snapshot.qcow2)"
edit luks-snapshot.qcow2 -c 'write -P 9 2M 300k'
plain luks-snapshot.qcow2
is luks-snapshot.qcow2 qcow2 luks.qcow2.ref - "$key" one
qcow2 small.qcow2 encrypt.format=luks,encrypt.iter-time=10,cluster_size=4k,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256
fill small.qcow2
plain small.qcow2
over() { # name, of which
    cp "$2" "$1"
    qemu-img rebase -u --object "$secret" --image-opts -b s.raw -F raw "$(opts "$1")"
    edit "$1" -c 'write -P 18 1M 33k' -c 'write -P 19 5M 512' -c 'write -z 4M 128k'
    plain "$1"
}
over over-luks.qcow2 empty.qcow2

# the old AES of qcow2 and qcow, whose vectors count the disk's sectors; a passphrase is the key itself, cut or padded to 16
# bytes
for compat in 0.10 1.1; do
    qcow2 aes-$compat.qcow2 encrypt.format=aes,compat=$compat
    fill aes-$compat.qcow2
    edit aes-$compat.qcow2 -c 'write -P 7 3M 70k'
    plain aes-$compat.qcow2
done
cp aes-1.1.qcow2 aes-snapshot.qcow2
qemu-img snapshot --object "$secret" --image-opts -c one "$(opts aes-snapshot.qcow2)"
edit aes-snapshot.qcow2 -c 'write -P 9 2M 300k'
plain aes-snapshot.qcow2
is aes-snapshot.qcow2 qcow2 aes-1.1.qcow2.ref - "$key" one
qcow2 aes-empty.qcow2 encrypt.format=aes
over over-aes.qcow2 aes-empty.qcow2
long='longer than sixteen bytes'
qemu-img create -q -f qcow --object "secret,id=s,data=$long" -o encrypt.format=aes,encrypt.key-secret=s aes.qcow "$size" 2> /dev/null
qemu-img convert -n --object "secret,id=s,data=$long" --target-image-opts s.raw driver=qcow,file.filename=aes.qcow,encrypt.key-secret=s
is aes.qcow qcow s.raw - "$long"

# what we do not read
for cipher in serpent twofish; do
    cp xts256.luks $cipher.luks
    printf '%s\0' $cipher | put 8 $cipher.luks
    refused $cipher.luks $cipher
done
cryptsetup -q luksHeaderBackup v2.luks --header-backup-file backup.luks
refused backup.luks 'without its payload'
truncate -s 1M nothing
quick luksFormat --type luks2 --header detached.luks nothing
refused detached.luks 'without its payload'
cp xts256.luks three.luks
printf '\x03' | put 7 three.luks
refused three.luks 'LUKS version 3'

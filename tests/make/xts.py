#!/usr/bin/python3
"""Encrypts standard input with AES-XTS, vectors plain64 counted in 512 bytes: whole sectors only, the rest is dropped.

  xts.py KEYFILE SECTOR-SIZE < plain > encrypted

The cipher is libcrypto's (OpenSSL 3).
"""

import ctypes
import sys

crypto = ctypes.CDLL("libcrypto.so.3")
for name in ("EVP_CIPHER_CTX_new", "EVP_aes_128_xts", "EVP_aes_256_xts"):
    getattr(crypto, name).restype = ctypes.c_void_p


def encrypt(key, vector, plain):
    kind = {32: crypto.EVP_aes_128_xts, 64: crypto.EVP_aes_256_xts}[len(key)]()
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out, length = ctypes.create_string_buffer(len(plain) + 16), ctypes.c_int()
    assert crypto.EVP_EncryptInit_ex(context, ctypes.c_void_p(kind), None, key, vector) == 1
    assert crypto.EVP_EncryptUpdate(context, out, ctypes.byref(length), plain, len(plain)) == 1
    crypto.EVP_CIPHER_CTX_free(context)
    assert length.value == len(plain)
    return out.raw[: length.value]


def main():
    with open(sys.argv[1], "rb") as file:
        key = file.read()
    size = int(sys.argv[2])
    number = 0
    while len(sector := sys.stdin.buffer.read(size)) == size:
        sys.stdout.buffer.write(encrypt(key, number.to_bytes(16, "little"), sector))
        number += size // 512


main()

#!/usr/bin/env python3
"""Fills the current directory, of a mounted NTFS, with files that need more than one record of the MFT.

usage: ntfs_hostile.py fill
"""
import os


def fill():
    with open("islands", "wb") as file:
        for at in range(250):
            file.seek(at * 5000)
            file.write(b"island")
    open("linked", "w").close()
    os.mkdir("links")
    for at in range(12):
        os.link("linked", "links/" + "x" * 70 + str(at))


if __name__ == "__main__":
    fill()

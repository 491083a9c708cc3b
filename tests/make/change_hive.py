#!/usr/bin/env python3
r"""Changes a hive with hivex: usage: change_hive.py HIVE TEXT

The text is like that of hive.py, from the hive's root on; a key is made if it is not there, one written `[-Key]` is removed
with all below it.
"""
import re, sys

import hivex
from hive import STRING, data_of, unquote


def find(hive, path, make):
    node = hive.root()
    for part in filter(None, path.split("\\")):
        # hivex says None for a child that is not there; of a name in another case it is the same.
        child = hive.node_get_child(node, part)
        if child is None:
            if not make:
                sys.exit(f"no key {path}")
            child = hive.node_add_child(node, part)
        node = child
    return node


def main():
    hive = hivex.Hivex(sys.argv[1], write=True)
    with open(sys.argv[2], encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    node = None
    for line in filter(None, lines):
        if match := re.fullmatch(r"\[(-?)(.*)\]", line):
            node = find(hive, match[2], make=not match[1])
            if match[1]:
                hive.node_delete_child(node)
            continue
        match = re.fullmatch(rf"({STRING})=(.*)", line)
        kind, data = data_of(match[2])
        hive.node_set_value(node, {"key": unquote(match[1]), "t": kind, "value": data})
    hive.commit(None)


main()

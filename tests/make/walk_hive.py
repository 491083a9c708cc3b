#!/usr/bin/python3
"""Every key and value of a hive, as hivex sees them, in the hive's order.

usage: walk_hive.py HIVE

  PATH|FILETIME               a key
  PATH|NAME|TYPE|DATA         a value of it, its data in hexadecimal

Python of the system, because that is what python3-hivex is for. hivex does not look at logs.
"""
import sys
import hivex

hive = hivex.Hivex(sys.argv[1])
sys.setrecursionlimit(10_000)


def walk(node, path):
    print(f"{path}|{hive.node_timestamp(node)}")
    for value in hive.node_values(node):
        kind, data = hive.value_value(value)
        print(f"{path}|{hive.value_key(value)}|{kind}|{data.hex()}")
    for child in hive.node_children(node):
        walk(child, f"{path}\\{hive.node_name(child)}")


walk(hive.root(), "")

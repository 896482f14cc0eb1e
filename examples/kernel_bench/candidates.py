#!/usr/bin/env python3
"""Merges runs of measure.py into the record of every candidate that was timed, and the best of each problem into the compiler's shipped table.

    candidates.py RECORD.json RUN.json... [--drop REGEX] [--table TUNED.json]

Of a kernel that was timed more than once the least time stays; where a run of interleaved.py has a problem, the table takes its fastest. `--drop` first takes the candidates `family:tile` out of the record that match: those whose
code has changed. The record is of 4-bit symmetric weights, groups of 128, f16; the table takes problems of every kind.
"""
import argparse
import json
import os
import re
import sys
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("record"); ap.add_argument("runs", nargs="+"); ap.add_argument("--drop"); ap.add_argument("--table")
ar = ap.parse_args()


def tile_of(entry):
    """`family:tile` of a kernel's symbol."""
    family, tile = re.search(r"_(decode|mma|wgmma|multicast)_sm_\w+?_n\d+_k\d+_([mt]\d\w*?)_", entry).groups()
    return f"{family}:{tile}"


def least(times, key, us):
    times[key] = min(times.get(key, us), us)


record = json.load(open(ar.record))
points = {(p["n"], p["k"], p["m"]): p for p in record["points"]}
for p in points.values():
    p["us"] = {t: us for t, us in p["us"].items() if not (ar.drop and re.search(ar.drop, t))}
found, in_turns = {}, {}
for run in ar.runs:
    content = json.load(open(run))
    for r in content["results"]:
        if "us" not in r or not r["ok"]:
            continue
        tile = tile_of(r["entry"])
        if content.get("interleaved"):
            least(in_turns.setdefault((r["m"], r["n"], r["k"], r["act"], json.dumps(r["weight"])), {}), tile, round(r["us"], 2))
            continue
        least(found.setdefault((r["m"], r["n"], r["k"], r["act"], json.dumps(r["weight"])), {}), tile, round(r["us"], 2))
        if r["weight"] == {"kind": "w4", "symmetric": True, "group": 128} and r["act"] == "f16":
            p = points.setdefault((r["n"], r["k"], r["m"]), dict(n=r["n"], k=r["k"], m=r["m"], cublas_us=round(r["cublas_us"], 2), us={}))
            least(p["us"], tile, round(r["us"], 2))
            least(p, "cublas_us", round(r["cublas_us"], 2))
for p in points.values():
    p["us"] = dict(sorted(p["us"].items()))
command = " ".join(["candidates.py", *(os.path.basename(a) for a in sys.argv[1:])])
record.update(command="; ".join(c for c in (record.get("command"), command) if c), date=time.strftime("%Y-%m-%d"), points=[points[k] for k in sorted(points, key=lambda k: (k[0] * k[1], k[0], k[2]))])
head = json.dumps({k: v for k, v in record.items() if k != "points"}, indent=1)[:-2]
open(ar.record, "w").write(head + ',\n "points": [\n  ' + ",\n  ".join(json.dumps(p) for p in record["points"]) + "\n ]\n}\n")
if ar.table:
    table = json.load(open(ar.table))
    entries = {(e["m"], e["n"], e["k"], e["act"], json.dumps(e["weight"])): e for e in table[0]["entries"]}
    for (n, k, m), p in points.items():
        key = (m, n, k, "f16", json.dumps(dict(kind="w4", symmetric=True, group=128)))
        if key in found:
            found[key].update(p["us"])
    for key, times in (found | in_turns).items():
        m, n, k, act, weight = key
        if key in entries or act != "f16" or json.loads(weight)["kind"] == "dense":
            tile, us = min(times.items(), key=lambda kv: kv[1])
            family, tile = tile.split(":")
            entries[key] = dict(m=m, n=n, k=k, act=act, weight=json.loads(weight), family=family, tile=tile, us=us)
    head = {name: value for name, value in table[0].items() if name != "entries"}
    lines = ",\n".join("  " + json.dumps(entries[key]) for key in sorted(entries, key=lambda q: (q[3], q[4], q[1] * q[2], q[1], q[0])))
    text = json.dumps(head)[:-1] + ', "entries": [\n' + lines + "\n ]}"
    open(ar.table, "w").write("[\n " + text + "\n]\n")

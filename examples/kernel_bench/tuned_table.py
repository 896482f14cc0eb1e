#!/usr/bin/env python3
"""Writes the table of fastest tiles from JSON files of measure.py: tuned_table.py OUT.json IN.json…"""
import json
import sys

best = {}
for path in sys.argv[2:]:
    for r in json.load(open(path))["results"]:
        if "us" not in r or not r["ok"]:
            continue
        parts = r["entry"].split("_")
        tile = next(p for p in parts[5:] if p[0] in "mt" and p[1:2].isdigit())
        entry = dict(m=r["m"], n=r["n"], k=r["k"], act=r["act"], weight=r["weight"], family=parts[1], tile=tile, us=round(r["us"], 2))
        key = (r["n"], r["k"], r["act"], json.dumps(r["weight"]), r["m"])
        if key not in best or entry["us"] < best[key]["us"]:
            best[key] = entry
with open(sys.argv[1], "w") as out:
    out.write("[\n" + ",\n".join("  " + json.dumps(best[k]) for k in sorted(best)) + "\n]\n")

#!/usr/bin/env python3
"""What `icd permute --from` repairs after a twentieth of a graph's edges has moved to other channels, beside a fresh search.

usage: permute_repair.py --icd target/release/icd --out docs/benchmarks/permute_repair.json GRAPH.txt.xz
"""
import argparse
import datetime
import json
import lzma
import os
import random
import subprocess
import tempfile

MOVED = 0.05


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("--icd", default="target/release/icd")
    parser.add_argument("--out", required=True)
    parser.add_argument("--repeat", type=int, default=201)
    args = parser.parse_args()
    numbers = random.Random(0)
    with lzma.open(args.graph, "rt") as f:
        lines = f.read().split("\n")
    vertices, count = map(int, lines[0].split())
    edges = [line.split() for line in lines[1 : count + 1]]
    for edge in edges:
        if numbers.random() < MOVED:
            other = str(numbers.randrange(vertices))
            if other != edge[0]:
                edge[1] = other
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        changed, found, fresh = (os.path.join(scratch, name) for name in ("changed.txt", "found.txt", "fresh.txt"))
        with open(changed, "w") as f:
            f.write(f"{vertices} {count}\n" + "".join(" ".join(edge) + "\n" for edge in edges))

        def icd(graph, objective, *more):
            command = [args.icd, "permute", "--graph", graph, "--objective", objective, "--tile", "64", "--json", *more]
            return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

        for objective in ("order", "tiles"):
            icd(args.graph, objective, "-o", found)
            repaired = icd(changed, objective, "--from", found, "--repeat", str(args.repeat))
            again = icd(changed, objective, "--repeat", "9", "-o", fresh)
            figure = {"order": "linear_arrangement", "tiles": "in_tile"}[objective]
            rows.append(
                {
                    "objective": objective,
                    "figure": figure,
                    "kept_order": repaired[figure + "_before"],
                    "repaired": repaired[figure],
                    "fresh": again[figure],
                    "repair_seconds": repaired["seconds"],
                    "repair_seconds_least": repaired["seconds_least"],
                    "fresh_seconds": again["seconds"],
                    "fresh_seconds_least": again["seconds_least"],
                }
            )
            print(rows[-1], flush=True)
            machine = repaired["machine"]
    record = {
        "title": "Repair of a permutation after 5 % of the edges moved",
        "date": datetime.date.today().isoformat(),
        "command": "scripts/permute_repair.py " + os.path.basename(args.graph),
        "machine": machine,
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "rows": rows,
    }
    with open(args.out, "w") as f:
        json.dump(record, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()

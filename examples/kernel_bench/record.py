#!/usr/bin/env python3
"""Turns the CSV of a side-by-side run into a benchmark record: JSON, and a plot (SVG) of time relative to cuBLAS where matplotlib is there.

    record.py RUN.csv EARLIER_PEERS.csv OUT.json [OUT.svg] --device 'NVIDIA H200' --date YYYY-MM-DD

A point holds the kernel's time, cuBLAS fp16 of the same run, the best other peer of the same run and of the earlier file, and the floor
max(packed bytes / 4.3 TB/s, flops / 790 TFLOP/s).
"""
import argparse
import csv
import json

BYTES_A_US, FLOPS_A_US = 4.3e6, 790e6

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("run"); ap.add_argument("earlier"); ap.add_argument("json"); ap.add_argument("svg", nargs="?")
ap.add_argument("--device", required=True); ap.add_argument("--date", required=True); ap.add_argument("--command", default="", help="how the CSV was made")
ar = ap.parse_args()

def best(rows, key, skip):
    found = [(float(r["us"]), r["peer"]) for r in rows if (int(r["M"]), int(r["N"]), int(r["K"])) == key and r["peer"] not in skip]
    return dict(zip(("us", "peer"), min(found))) if found else None

run, earlier = list(csv.DictReader(open(ar.run))), list(csv.DictReader(open(ar.earlier)))
points = []
for r in run:
    if r["peer"] != "icd":
        continue
    key = m, n, k = int(r["M"]), int(r["N"]), int(r["K"])
    cublas = best([x for x in run if x["peer"] == "cublas"], key, ())
    floor = max((n * k * 0.515625 + 2 * m * (n + k)) / BYTES_A_US, 2 * m * n * k / FLOPS_A_US)
    points.append(dict(m=m, n=n, k=k, us=float(r["us"]), rel_err=float(r["rel_err"]), cublas_us=cublas and cublas["us"],
                       best_peer_same_run=best(run, key, ("icd", "cublas")), best_peer_earlier=best(earlier, key, ("cublas",)), floor_us=round(floor, 2)))
points.sort(key=lambda p: (p["n"] * p["k"], p["n"], p["m"]))
record = dict(what="W4A16 GEMM, group 128, symmetric, fp16; CUDA-graph time with weights rotated past the L2", device=ar.device, date=ar.date, command=ar.command, points=points)
json.dump(record, open(ar.json, "w"), indent=1)
for p in points:
    peer = min((q for q in (p["best_peer_same_run"], p["best_peer_earlier"]) if q), key=lambda q: q["us"])
    ratio = f"{p['cublas_us'] / p['us']:.2f}x" if p["cublas_us"] else "-"
    print(f"{p['n']}x{p['k']} m {p['m']}: {p['us']:.2f} us, {ratio} cuBLAS, best peer {peer['us']:.2f} ({peer['peer']}), floor {p['floor_us']}{'' if p['us'] <= peer['us'] else '  BEHIND'}")
if ar.svg:
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    shapes = sorted({(p["n"], p["k"]) for p in points})
    fig, axes = plt.subplots(1, len(shapes), figsize=(5 * len(shapes), 4), sharey=True)
    for ax, shape in zip([axes] if len(shapes) == 1 else axes, shapes):
        ps = [p for p in points if (p["n"], p["k"]) == shape and p["cublas_us"]]
        ms = [p["m"] for p in ps]
        ax.plot(ms, [p["cublas_us"] / p["us"] for p in ps], "o-", label="icd")
        ax.plot(ms, [p["cublas_us"] / p["floor_us"] for p in ps], "k:", label="floor")
        for name, style in (("best_peer_same_run", "s--"), ("best_peer_earlier", "^--")):
            have = [p for p in ps if p[name]]
            ax.plot([p["m"] for p in have], [p["cublas_us"] / p[name]["us"] for p in have], style, label=name.replace("_", " "))
        ax.axhline(1, color="gray", lw=0.5); ax.set_xscale("log", base=2); ax.set_title(f"{shape[0]}x{shape[1]}"); ax.set_xlabel("m")
    (axes if len(shapes) == 1 else axes[0]).set_ylabel("times cuBLAS fp16"); (axes if len(shapes) == 1 else axes[0]).legend()
    fig.tight_layout(); fig.savefig(ar.svg)

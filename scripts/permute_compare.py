#!/usr/bin/env python3
"""Orders and tiles of co-access graphs by `icd permute` and by public solvers, one after the other on one machine.

usage: permute_compare.py --icd target/release/icd --out docs/benchmarks/permute_graphs.json GRAPH.txt.xz ...

Needs numpy, scipy, igraph, pymetis and mtkahypar. Every figure is computed here from the permutation that a solver returned; times exclude
reading the file. Partitioners of unequal parts are cut into tiles of 64 in the order of their parts.
"""
import argparse
import datetime
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time

import igraph
import mtkahypar
import numpy as np
import pymetis
import scipy.sparse as sp
import scipy.sparse.linalg as sla

TILE = 64


def read(path):
    opener = lzma.open if path.endswith(".xz") else open
    with opener(path, "rt") as f:
        n, m = map(int, f.readline().split())
        data = np.loadtxt(f).reshape(m, 3)
    i, j, w = data[:, 0].astype(int), data[:, 1].astype(int), data[:, 2]
    return sp.csr_matrix((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), shape=(n, n))


def figures(graph, order):
    position = np.empty(len(order), int)
    position[order] = np.arange(len(order))
    c = graph.tocoo()
    total = c.data.sum()
    a, b = position[c.row], position[c.col]
    return {
        "linear_arrangement": round(float((c.data * abs(a - b)).sum() / total), 3),
        "in_tile": round(float(c.data[a // TILE == b // TILE].sum() / total), 5),
    }


def least(solve, runs=3):
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        found = solve()
        seconds.append(time.perf_counter() - start)
    return min(seconds), found


def fiedler(graph):
    d = np.asarray(graph.sum(1)).ravel()
    s = sp.diags(1 / np.sqrt(d))
    start = np.random.default_rng(0).standard_normal(len(d))
    values, vectors = sla.eigsh(s @ graph @ s, k=2, which="LA", tol=1e-4, v0=start)
    return np.argsort(vectors[:, np.argmin(values)] / np.sqrt(d))


def metis(graph, recursive):
    n = graph.shape[0]
    weights = np.maximum(1, np.rint(graph.data * 1000)).astype(int)
    adjacency = pymetis.CSRAdjacency(adj_starts=graph.indptr, adjacent=graph.indices)
    start = time.perf_counter()
    _, part = pymetis.part_graph(-(-n // TILE), adjacency=adjacency, eweights=weights, recursive=recursive)
    return time.perf_counter() - start, part


def kahypar(engine, preset, graph):
    n = graph.shape[0]
    u = sp.triu(graph, 1).tocoo()
    context = engine.context_from_preset(preset)
    context.set_partitioning_parameters(-(-n // TILE), 0.0, mtkahypar.Objective.CUT)
    context.logging = False
    edges = list(zip(u.row.tolist(), u.col.tolist()))
    weights = np.maximum(1, np.rint(u.data * 1000)).astype(int).tolist()
    hyper = engine.create_graph(context, n, len(edges), edges, [1] * n, weights)
    start = time.perf_counter()
    found = hyper.partition(context)
    return time.perf_counter() - start, [found.block_id(v) for v in range(n)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+")
    parser.add_argument("--icd", default="target/release/icd")
    parser.add_argument("--out", required=True)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args()
    engine = mtkahypar.initialize(2)
    rows, machine = [], None
    for path in args.graphs:
        graph = read(path)
        n = graph.shape[0]

        def row(name, threads, seconds, order, **more):
            rows.append({"channels": n, "solver": name, "threads": threads, "seconds": round(float(seconds), 5), **figures(graph, order), **more})
            print(rows[-1], flush=True)

        for objective, threads in [("order", 1), ("tiles", 1), ("tiles", 2)]:
            with tempfile.NamedTemporaryFile() as out:
                command = [args.icd, "permute", "--graph", path, "--objective", objective, "--tile", str(TILE)]
                command += ["--threads", str(threads), "--repeat", str(args.repeat), "-o", out.name, "--json"]
                own = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                order = np.loadtxt(out.name, dtype=int)
            machine = own["machine"]
            assert sorted(order) == list(range(n))
            row(f"icd {objective}", threads, own["seconds"], order, seconds_least=round(own["seconds_least"], 5))
        seconds, order = least(lambda: fiedler(graph))
        row("scipy Fiedler (eigsh, 2 largest of the normalized matrix)", 1, seconds, order)
        u = sp.triu(graph, 1).tocoo()
        g = igraph.Graph(n=n, edges=np.c_[u.row, u.col].tolist())
        weights = u.data.tolist()
        seconds, labels = least(lambda: g.community_multilevel(weights=weights).membership)
        row("igraph Louvain", 1, seconds, np.argsort(labels, kind="stable"))
        for recursive in (False, True):
            seconds, part = min((metis(graph, recursive) for _ in range(3)), key=lambda run: run[0])
            inside = float(sum_inside(graph, part))
            name = "METIS " + ("recursive" if recursive else "k-way")
            order = np.argsort(part, kind="stable")
            row(name, 1, seconds, order, in_part=round(inside, 5), largest_part=int(np.bincount(part).max()))
        for name, preset in [("default", mtkahypar.PresetType.DEFAULT), ("quality", mtkahypar.PresetType.QUALITY)]:
            if name == "quality" and n > 4096:
                continue
            seconds, part = kahypar(engine, preset, graph)
            inside = float(sum_inside(graph, part))
            order = np.argsort(part, kind="stable")
            row(f"Mt-KaHyPar {name}", 2, seconds, order, in_part=round(inside, 5), largest_part=int(np.bincount(part).max()))
    record = {
        "title": "Co-access orders and tiles of 64 on three graphs, icd beside public solvers",
        "date": datetime.date.today().isoformat(),
        "command": "scripts/permute_compare.py " + " ".join(os.path.basename(g) for g in args.graphs),
        "machine": machine,
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "notes": "icd: median of repeats, least beside it; Mt-KaHyPar: one run; others: least of three. in_part: share of weight inside parts as returned.",
        "rows": rows,
    }
    with open(args.out, "w") as f:
        json.dump(record, f, indent=1)
        f.write("\n")


def sum_inside(graph, part):
    part = np.asarray(part)
    c = graph.tocoo()
    return c.data[part[c.row] == part[c.col]].sum() / c.data.sum()


if __name__ == "__main__":
    sys.exit(main())

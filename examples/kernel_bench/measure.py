#!/usr/bin/env python3
"""Checks and times every kernel folder under the given folders on one GPU; prints a table and writes JSON.

Check: fresh random input, float64 reference on the GPU, output poisoned with NaN between canaries, relative error ||y - r|| / ||r||, at most 2e-3
(8e-3 for bf16 output); and no more after the timed launches. Time: one CUDA graph over enough copies of the weights to exceed three times the L2, median of replays. cuBLAS (torch,
16-bit) is timed beside on the same matrices, rounded to 16 bits.

    python3 measure.py DIR... [--json out.json] [--rows 1,4,8] [--top 3] [--check-only] [--budget 300]
"""
import argparse
import json
import math
import os
import statistics
import sys
import time

import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from icd_kernels import FLOAT, Kernel

DEV = "cuda"
CANARY = 4096


def activation(name, v):
    f = torch.nn.functional
    return {"none": lambda: v, "relu": lambda: f.relu(v), "silu": lambda: f.silu(v), "gelu_erf": lambda: f.gelu(v),
            "gelu_tanh": lambda: f.gelu(v, approximate="tanh")}[name]()


def eight(shape, dtype, gen):
    if dtype == "i8":
        return torch.randint(-127, 128, shape, device=DEV, generator=gen, dtype=torch.int8)
    return (torch.randn(shape, device=DEV, generator=gen) * 50).to(FLOAT[dtype])


def make_weights(problem, gen):
    """What `Kernel.pack` takes, and the matrix that it means."""
    raw, reference, center = dense_weights(problem, gen)
    if not problem.get("two_four"):
        return raw, reference
    n, k = problem["n"], problem["k"]
    ranks = torch.rand((math.ceil(k / 4), 4, n), device=DEV, generator=gen).argsort(1)
    kept = (ranks < 2).view(-1, n)[:k]
    pruned = torch.where(kept, raw[0], center.to(raw[0].dtype))
    return (pruned, *raw[1:], *[None] * (3 - len(raw)), kept), reference * kept


def dense_weights(problem, gen):
    n, k, w = problem["n"], problem["k"], problem["weight"]
    if w["kind"] == "dense":
        dense = (torch.randn((k, n), device=DEV, generator=gen) * 0.05).to(FLOAT[problem["act"]])
        return (dense,), dense.double(), torch.zeros(())
    if w["kind"] == "w8":
        q = eight((k, n), w["dtype"], gen)
        return (q,), q.double(), torch.zeros(())
    bits = {"w3": 3, "w4": 4}[w["kind"]]
    codes = torch.randint(0, 1 << bits, (k, n), dtype=torch.uint8, device=DEV, generator=gen)
    groups = math.ceil(k / w["group"])
    scales = (torch.rand((groups, n), device=DEV, generator=gen) * 0.02 + 0.005).to(FLOAT[problem["act"]] if problem["act"] in ("f16", "bf16") else torch.float16)
    zeros = None if w["symmetric"] else torch.randint(0, 1 << bits, (groups, n), dtype=torch.uint8, device=DEV, generator=gen)
    rows = torch.arange(k, device=DEV) // w["group"]
    center = torch.full((), float(1 << bits - 1), device=DEV, dtype=torch.float64) if zeros is None else zeros[rows].double()
    return (codes, scales, zeros), (codes.double() - center) * scales[rows].double(), center


def graph_us(call, calls, replays):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for i in range(3):
            call(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(calls):
            call(i)
    graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(replays):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record(); graph.replay(); b.record(); b.synchronize()
        times.append(a.elapsed_time(b) * 1e3 / calls)
    return statistics.median(times)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("dirs", nargs="+"); ap.add_argument("--json"); ap.add_argument("--rows", default=""); ap.add_argument("--top", type=int, default=4)
    ap.add_argument("--check-only", action="store_true"); ap.add_argument("--budget", type=float, default=300); ap.add_argument("--no-overlap", action="store_true")
    ap.add_argument("--trust", action="store_true", help="time wrong kernels too: for finding what limits one")
    ar = ap.parse_args()
    start = time.time()
    folders = sorted(os.path.join(d, f) for d in ar.dirs for f in os.listdir(d) if os.path.exists(os.path.join(d, f, "kernel.json")))
    groups = {}
    for folder in folders:
        info = json.load(open(os.path.join(folder, "kernel.json")))
        p = info["problem"]
        weight = dict(p["weight"], **({"two_four": True} if p.get("two_four") else {}))
        groups.setdefault((p["n"], p["k"], json.dumps(weight), p["act"]), []).append((p["m"], folder))
    seed = time.time_ns() & 0xFFFFFF
    gen = torch.Generator(device=DEV).manual_seed(seed)
    print("seed", seed, torch.cuda.get_device_name(), torch.version.cuda)
    results, bad, cublas = [], 0, {}
    for (n, k, weight, act), members in sorted(groups.items()):
        packed, first = {}, None
        for m_max, folder in sorted(members):
            if time.time() - start > ar.budget:
                print("# out of time at", folder); break
            kernel = Kernel(folder)
            problem, ep = kernel.problem, kernel.problem["epilogue"]
            if first is None:
                raw, reference = make_weights(problem, gen)
                scaled, column_scaled = act in ("i8", "f8E4M3FN"), problem["weight"]["kind"] == "w8"
                of_columns = torch.rand(n, device=DEV, generator=gen) * 0.01 + 0.001
                if column_scaled: reference = reference * of_columns.double()
                first = reference.to(torch.float16 if scaled else FLOAT[act])
            key = json.dumps(kernel.pack_info["format"])
            if key not in packed:
                one = kernel.pack(*raw)
                assert one.numel() == kernel.pack_info["bytes"]
                copies = 1 if ar.check_only else max(2, min(40, math.ceil(180e6 / one.numel())))
                packed[key] = [one] + [one.clone() for _ in range(copies - 1)]
            ws = packed[key]
            wanted = [int(r) for r in ar.rows.split(",") if r] or [m_max]
            for m in [r for r in wanted if r <= m_max and (r > m_max // 2 or r <= 8 or len(wanted) == 1)]:
                out = FLOAT[problem["out"]]
                x = eight((m, k), act, gen) if scaled else torch.randn((m, k), device=DEV, generator=gen).to(FLOAT[act])
                of_rows = torch.rand(m, device=DEV, generator=gen) * 0.01 + 0.001
                scales = (of_rows, of_columns)
                bias = torch.randn(n, device=DEV, generator=gen).to(out if scaled else FLOAT[act]) if ep["bias"] else None
                columns = [p["cols"] for p in kernel.info["params"] if p["role"] == "output"]
                residual = torch.randn((m, columns[0]), device=DEV, generator=gen).to(FLOAT[act if act in ("f16", "bf16") else "f16"] if ep.get("narrow_residual") else out) if ep["residual"] else None
                wholes = [torch.full((2 * CANARY + m * c,), float("nan"), dtype=out, device=DEV) for c in columns]
                for whole in wholes:
                    whole[:CANARY] = 7.0; whole[-CANARY:] = 7.0
                y = [whole[CANARY:-CANARY].view(m, c) for whole, c in zip(wholes, columns)]
                kernel(ws[0], x, y, bias, residual, scales=scales)
                torch.cuda.synchronize()
                exact = x.double() * of_rows.double()[:, None] if scaled else x.double()
                r = exact @ reference
                if bias is not None: r = r + bias.double()
                if ep.get("gated"):
                    r = r.view(m, n // 16, 2, 8)
                    r = (activation(ep["activation"], r[:, :, 0]) * r[:, :, 1]).reshape(m, n // 2)
                else:
                    r = activation(ep["activation"], r)
                if residual is not None: r = r + residual.double()
                err = ((torch.cat(y, 1).double() - r).norm() / r.norm()).item()
                intact = all(bool((whole[:CANARY] == 7).all() and (whole[-CANARY:] == 7).all()) for whole in wholes)
                ok = err < (8e-3 if problem["out"] == "bf16" else 2e-3) and intact
                bad += not ok
                row = dict(entry=kernel.name, m=m, n=n, k=k, weight=json.loads(weight), act=act, rel_err=err, ok=ok)
                if (ok or ar.trust) and not ar.check_only:
                    est = 2.0 * m * n * k / 4e8 + ws[0].numel() / 3e6 + 3
                    calls = max(len(ws), min(60, int(1500 / est)))
                    row["us"] = graph_us(lambda i: kernel(ws[i % len(ws)], x, y, bias, residual, not ar.no_overlap, scales), calls, 11)
                    for whole in wholes:
                        whole[CANARY:-CANARY] = float("nan")
                    kernel(ws[0], x, y, bias, residual, scales=scales)
                    torch.cuda.synchronize()
                    again = ((torch.cat(y, 1).double() - r).norm() / r.norm()).item()
                    if not again <= err * 1.001:
                        row["ok"] = False
                        bad += 1
                        print("WRONG after many launches", kernel.name, "m", m, "err", again, flush=True)
                    if (m, n, k, weight, act) not in cublas:
                        dense = [first.clone() for _ in range(max(2, min(40, math.ceil(180e6 / (n * k * 2)))))]
                        xc = exact.to(first.dtype)
                        yc = torch.empty((m, n), dtype=first.dtype, device=DEV)
                        cublas[m, n, k, weight, act] = graph_us(lambda i: torch.matmul(xc, dense[i % len(dense)], out=yc), calls, 11)
                        del dense
                    row["cublas_us"] = cublas[m, n, k, weight, act]
                if not ok and not ar.trust:
                    print("WRONG", kernel.name, "m", m, "err", err, "canaries", intact, flush=True)
                results.append(row)
        del packed
        torch.cuda.empty_cache()
    print(f"{len(results)} checks, {bad} wrong, worst error {max((r['rel_err'] for r in results if r['ok']), default=0):.2e}, {time.time() - start:.0f} s")
    table = {}
    for r in results:
        if "us" in r:
            table.setdefault((r["n"], r["k"], r["m"], json.dumps(r["weight"]), r["act"]), []).append(r)
    for key, rows in sorted(table.items()):
        rows.sort(key=lambda r: r["us"])
        best = "  ".join(f"{r['us']:.2f} {tile_of(r['entry'])}" for r in rows[:ar.top])
        print(f"m {key[2]} n {key[0]} k {key[1]} {key[3]} {key[4]}: cublas {rows[0]['cublas_us']:.2f} | {best}")
    if ar.json:
        head = dict(device=torch.cuda.get_device_name(), date=time.strftime("%Y-%m-%d"), command=" ".join(["measure.py", *(os.path.basename(a) for a in sys.argv[1:])]), seed=seed)
        json.dump(dict(**head, results=results), open(ar.json, "w"))
    sys.exit(bad > 0)


def tile_of(entry):
    parts = entry.split("_")
    family = parts[1]
    tile = next((p for p in parts[5:] if p[0] in "mt" and p[1:2].isdigit()), "?")
    return f"{family}:{tile}"


if __name__ == "__main__":
    main()

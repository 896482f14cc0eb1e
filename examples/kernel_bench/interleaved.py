#!/usr/bin/env python3
"""Times the kernels of each problem in turns, with cuBLAS among them, so that all meet the device at the same temperature and power: what kernels of many
rows need, which run at the power limit. With `--counters`, also counts DRAM reads and L2 hits of one launch each with Nsight Compute (`ncu`).

    python3 interleaved.py DIR... --json out.json [--rounds 16] [--counters]

Every kernel is checked first (measure.py does it thoroughly): one product of random operands against cuBLAS in f32. A time is the median over rounds of
a CUDA graph's launches, which walk through copies of the weights; the first quarter of the rounds warms the device up.
"""
import argparse
import json
import math
import os
import statistics
import sys
import time

from ncu import counted

COUNTERS = {"dram_read_bytes": "dram__bytes_read.sum", "l2_hit_percent": "lts__t_sector_hit_rate.pct"}
LAUNCHES_US = 8000


def folders_in(dirs):
    return sorted(os.path.join(d, f) for d in dirs for f in os.listdir(d) if os.path.exists(os.path.join(d, f, "kernel.json")))


def operands(kernel, generator=None):
    """Packed weights and activations; their product in f32."""
    import torch
    from measure import make_weights
    p = kernel.problem
    raw, exact = make_weights(p, generator)
    x = torch.randn((p["m"], p["k"]), device="cuda", generator=generator).to(torch.float16 if p["act"] == "f16" else torch.bfloat16)
    return kernel.pack(*raw), x, exact


def measure(folders, rounds):
    import torch
    from icd_kernels import Kernel
    generator = torch.Generator(device="cuda").manual_seed(time.time_ns() & 0xFFFFFF)
    groups = {}
    for folder in folders:
        p = json.load(open(os.path.join(folder, "kernel.json")))["problem"]
        groups.setdefault(json.dumps({k: v for k, v in p.items() if k != "arch"}, sort_keys=True), []).append(folder)
    results = []
    for members in groups.values():
        kernels = [Kernel(f) for f in members]
        p = kernels[0].problem
        packed, x, exact = operands(kernels[0], generator)
        y = torch.empty((p["m"], p["n"]), device="cuda", dtype=x.dtype)
        reference = x.float() @ exact.float()
        dense = exact.to(x.dtype)
        copies = max(2, min(20, math.ceil(180e6 / packed.numel())))
        weights = [packed] + [packed.clone() for _ in range(copies - 1)]
        several = [dense] + [dense.clone() for _ in range(max(1, min(9, math.ceil(180e6 / dense.numel() / 2) - 1)))]
        calls = {kernel.name: (lambda k: lambda i: k(weights[i % copies], x, y))(kernel) for kernel in kernels}
        calls["cublas"] = lambda i: torch.matmul(x, several[i % len(several)], out=y)
        graphs, errors = {}, {}
        for name, call in calls.items():
            y.fill_(float("nan"))
            torch.cuda.synchronize()
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                call(0)
            torch.cuda.synchronize()
            errors[name] = float((y.float() - reference).norm() / reference.norm())
            if not errors[name] < 2e-3:
                sys.exit(f"{name} m {p['m']}: relative error {errors[name]}")
            launches = max(copies, int(LAUNCHES_US / (2 * p["m"] * p["n"] * p["k"] / 6e8 + packed.numel() / 3e6 + 3)))
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                for i in range(launches):
                    call(i)
            graphs[name] = (graph, launches)
        times = {name: [] for name in graphs}
        for turn in range(rounds):
            order = list(graphs.items())
            for name, (graph, launches) in order[turn % len(order):] + order[: turn % len(order)]:
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record(); graph.replay(); end.record(); end.synchronize()
                times[name].append(start.elapsed_time(end) * 1e3 / launches)
        medians = {name: statistics.median(ts[rounds // 4:]) for name, ts in times.items()}
        for kernel, folder in zip(kernels, members):
            results.append(dict(entry=kernel.name, folder=os.path.basename(folder), m=p["m"], n=p["n"], k=p["k"], weight=p["weight"], act=p["act"],
                                us=round(medians[kernel.name], 2), cublas_us=round(medians["cublas"], 2), rel_err=errors[kernel.name], ok=True))
        best = sorted((us, name) for name, us in medians.items())
        print(f"m {p['m']} n {p['n']} k {p['k']} {p['weight']['kind']}: " + "  ".join(f"{us:.1f} {name.split('_k' + str(p['k']) + '_')[-1]}" for us, name in best), flush=True)
        del graphs, weights, several, dense, exact, reference
        torch.cuda.empty_cache()
    return results


def launch(folders):
    """In the profiled process: one launch of each kernel, after other data have filled the L2."""
    import torch
    from icd_kernels import Kernel
    for folder in folders:
        kernel = Kernel(folder)
        p = kernel.problem
        weights = torch.zeros(kernel.pack_info["bytes"], dtype=torch.uint8, device="cuda")
        x = torch.zeros((p["m"], p["k"]), device="cuda", dtype=torch.float16 if p["act"] == "f16" else torch.bfloat16)
        y = torch.zeros((p["m"], p["n"]), device="cuda", dtype=x.dtype)
        torch.zeros(60_000_000, device="cuda")
        kernel(weights, x, y, overlap=False)
        torch.cuda.synchronize()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("dirs", nargs="+"); ap.add_argument("--json"); ap.add_argument("--rounds", type=int, default=16)
    ap.add_argument("--counters", action="store_true"); ap.add_argument("--what", default="Kernels timed in turns, with cuBLAS among them")
    ap.add_argument("--launch", action="store_true", help=argparse.SUPPRESS)
    ar = ap.parse_args()
    if ar.launch:
        return launch(ar.dirs)
    folders = folders_in(ar.dirs)
    results = measure(folders, ar.rounds)
    if ar.counters:
        launched = counted(COUNTERS, "^w(3|4|8|16)(a|b)", [sys.executable, os.path.abspath(__file__), "--launch", *folders])
        of_folder = {os.path.basename(f): figures for f, (_, figures) in zip(folders, launched, strict=True)}
        for r in results:
            r.update(of_folder[r["folder"]])
    for r in results:
        del r["folder"]
    import torch
    head = dict(what=ar.what, device=torch.cuda.get_device_name(), date=time.strftime("%Y-%m-%d"), command=" ".join(["interleaved.py", *(os.path.basename(a) for a in sys.argv[1:])]))
    if ar.json:
        json.dump(dict(**head, interleaved=True, results=results), open(ar.json, "w"), indent=1)


if __name__ == "__main__":
    main()

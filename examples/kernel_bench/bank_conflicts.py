#!/usr/bin/env python3
"""Counts shared-memory bank conflicts of every kernel folder under the given folders with Nsight Compute (`ncu`), each launched once.

    python3 bank_conflicts.py DIR... --json out.json

`conflicts` is l1tex__data_bank_conflicts_pipe_lsu_mem_shared: cycles that loads and stores of the load-store unit lost to conflicts; `wavefronts`
is all that they took. Bulk copies and matrix instructions that read shared memory through descriptors do not go through that unit.
"""
import argparse
import json
import os
import subprocess
import sys
import time

from ncu import counted

METRIC = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared"
FIGURES = {"conflicts": f"{METRIC}.sum", "conflicts_of_loads": f"{METRIC}_op_ld.sum", "conflicts_of_stores": f"{METRIC}_op_st.sum",
           "wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"}


def launch(folders):
    """In the profiled process: one launch of each kernel with operands of any value."""
    import torch
    from icd_kernels import FLOAT, Kernel
    for folder in folders:
        kernel = Kernel(folder)
        p = kernel.problem
        weights = torch.zeros(kernel.pack_info["bytes"], dtype=torch.uint8, device="cuda")
        x = torch.zeros((p["m"], p["k"]), device="cuda").to(FLOAT[p["act"]])
        y = torch.zeros((p["m"], p["n"]), device="cuda").to(FLOAT[p["out"]])
        scales = [torch.ones(size, device="cuda") for size in (p["m"], p["n"])]
        kernel(weights, x, y, overlap=False, scales=scales)
        torch.cuda.synchronize()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("dirs", nargs="+"); ap.add_argument("--json"); ap.add_argument("--launch", action="store_true", help=argparse.SUPPRESS)
    ar = ap.parse_args()
    if ar.launch:
        return launch(ar.dirs)
    folders = sorted(os.path.join(d, f) for d in ar.dirs for f in os.listdir(d) if os.path.exists(os.path.join(d, f, "kernel.json")))
    infos = {info["entry"]: info for info in (json.load(open(os.path.join(f, "kernel.json"))) for f in folders)}
    launched = counted(FIGURES, "^w(4|8|16)a?", [sys.executable, os.path.abspath(__file__), "--launch", *folders])
    found = dict(launched)
    results = []
    for entry, info in sorted(infos.items()):
        if entry not in found:
            sys.exit(f"ncu saw no launch of {entry}")
        results.append(dict(entry=entry, family=info.get("family", entry.split("_")[1]), problem=info["problem"], **found[entry]))
        print(f"{entry}: {found[entry]}")
    if ar.json:
        import torch
        version = subprocess.run(["ncu", "--version"], capture_output=True, text=True).stdout.strip().splitlines()[-1]
        what = "Shared-memory bank conflicts of one launch of each kernel, counted by Nsight Compute"
        head = dict(what=what, device=torch.cuda.get_device_name(), date=time.strftime("%Y-%m-%d"), ncu=version, command=" ".join(["bank_conflicts.py", *sys.argv[1:]]))
        json.dump(dict(**head, results=results), open(ar.json, "w"), indent=1)


if __name__ == "__main__":
    main()

"""Quantizes model folders with `icd quantize --device cuda` and `--device cpu` on one machine, compares the folders, and records time and quality.

    device.py RECORD.json [--lm MODEL CALIBRATION.txt HELD_OUT.txt] [--minilm MODEL CALIBRATION.txt HELD_OUT.txt] [--windows N] [--icd PATH]

`--icd PATH` names the tool (default: target/release/icd). Needs numpy, an NVIDIA driver and cuBLAS. Every number but the seconds and the equal share of
code bytes is what the tool printed.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

import numpy

from measure import processor

LANGUAGE = [
    "--scheme w4a16 --method gptq --asym --act-order --samples 48",
    "--scheme w4a16 --method gptq-best --asym --compensate --samples 48",
    "--scheme vq2 --method vptq --preprocess quarot --samples 48",
]
ENCODER = [
    "--scheme w4a16 --method gptq --asym --act-order --samples 512",
    "--scheme vq2 --method vptq --compensate --samples 512",
]
CODES = ("weight_packed", "vq_index")


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def codes(folder):
    """The bytes of codes and indices, by tensor."""
    found = {}
    for shard in sorted(folder.glob("*.safetensors")):
        data = shard.read_bytes()
        size = int.from_bytes(data[:8], "little")
        for name, tensor in json.loads(data[8 : 8 + size]).items():
            if name.endswith(CODES):
                begin, end = tensor["data_offsets"]
                found[name] = numpy.frombuffer(data[8 + size + begin : 8 + size + end], numpy.uint8)
    return found


def equal_share(a, b):
    a, b = codes(a), codes(b)
    if a.keys() != b.keys() or not a:
        sys.exit("the folders do not have the same coded layers")
    return float(sum((a[name] == b[name]).sum() for name in a) / sum(x.size for x in a.values()))


def quality(icd, kind, model, out, held_out, windows):
    if kind == "lm":
        return json.loads(run([icd, "eval", "perplexity", out, "--text", held_out, "--context", "512", "--windows", windows, "--json"]))
    return json.loads(run([icd, "eval", "embeddings", model, out, "--text", held_out, "--json"]))


def case(icd, kind, model, calibration, held_out, options, windows):
    row = {"model": model.name, "command": f"icd quantize MODEL -o OUT --calibration TEXT {options} --device DEVICE"}
    with tempfile.TemporaryDirectory() as work:
        outs = {}
        for device in ("cuda", "cpu"):
            outs[device] = pathlib.Path(work) / device
            start = time.monotonic()
            command = [icd, "quantize", model, "-o", outs[device], "--calibration", calibration, *options.split(), "--device", device, "--json"]
            report = json.loads(run(command))
            row[device] = {
                "seconds": round(time.monotonic() - start, 2),
                "layers_on_device_seconds": round(sum(layer.get("device_seconds") or 0 for layer in report["layers"]), 3),
                "end_to_end_error": report["end_to_end_error"],
                "notes": [layer["note"] for layer in report["layers"] if layer["note"]],
                "result": quality(icd, kind, model, outs[device], held_out, windows),
            }
        row["equal_code_bytes"] = equal_share(outs["cuda"], outs["cpu"])
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=pathlib.Path)
    parser.add_argument("--lm", nargs=3, type=pathlib.Path)
    parser.add_argument("--minilm", nargs=3, type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=98)
    parser.add_argument("--icd", type=pathlib.Path, default=pathlib.Path("target/release/icd"))
    args = parser.parse_args()
    rows, asked = [], (("--lm", args.lm), ("--minilm", args.minilm))
    for kind, files, options in (("lm", args.lm, LANGUAGE), ("minilm", args.minilm, ENCODER)):
        for one in options if files else []:
            rows.append(case(args.icd, kind, *files, one, args.windows))
            print(json.dumps(rows[-1]), flush=True)
    gpu = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).strip().splitlines()[0]
    record = {
        "title": "icd quantize on a GPU and on the processor of its host",
        "date": datetime.date.today().isoformat(),
        "command": "examples/quality/device.py RECORD.json" + "".join(f" {o} MODEL CALIBRATION.txt HELD_OUT.txt" for o, files in asked if files) + f" --windows {args.windows}",
        "machine": {"gpu": gpu, "cpu": processor(), "cores": os.cpu_count()},
        "rows": rows,
    }
    args.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

"""Quantizes models in several ways with the `icd` tool and records what each costs on held-out text.

    measure.py minilm MODEL CALIBRATION.txt HELD_OUT.txt RECORD.json     a sentence encoder; texts have one sentence a line
    measure.py lm     MODEL CALIBRATION.txt HELD_OUT.txt RECORD.json     a language model

`--icd PATH` names the tool (default: target/release/icd), `--only NAME …` repeats single rows and keeps the others of an existing record,
`--samples N` uses less calibration text, `--windows N` less held-out text. Every number of a row but its `reference` and `target` is what the tool printed; rows without a `machine` of
their own come from that of the record.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
import time

# name, options of `icd quantize`, reference (of published methods on the same layers), target: (metric, value, most bits a weight)
AIMED = "--compensate --samples 512"
ENCODER = [
    ("w8a8 smoothquant", "--scheme w8a8 --method rtn --preprocess smoothquant --samples 512", "cosine 0.99901", ("cosine_mean", 0.99901, None)),
    ("w8a8 gptq", f"--scheme w8a8 --method gptq-best --preprocess smoothquant {AIMED}", "cosine 0.99901, top-10 0.962", ("top10", 0.962, None)),
    ("w8a8 smoothquant grouped", "--scheme w8a8 --method rtn --activation-group 128 --preprocess smoothquant --samples 512",
     "cosine 0.99901, top-10 0.962 (one scale a token)", ("top10", 0.962, None)),
    ("fp8", "--scheme fp8 --method rtn", None, None),
    ("w4 rtn", "--scheme w4a16 --method rtn --asym", "cosine 0.95759", None),
    ("w4 awq", "--scheme w4a16 --method awq --asym --samples 512", None, None),
    ("w4 gptq", "--scheme w4a16 --method gptq --asym --act-order --samples 512", "cosine 0.98866", None),
    ("w4 budget", f"--scheme w4a16 --method gptq-best --asym {AIMED} --bits-budget 4.5", "cosine 0.98866", ("cosine_mean", 0.992, 4.5)),
    ("w4 row quarot", f"--scheme w4a16 --group 0 --method gptq-best --preprocess quarot {AIMED}", "cosine 0.98429", ("cosine_mean", 0.98429, None)),
    ("w4a8 quarot", f"--scheme w4a8 --method gptq-best --preprocess quarot {AIMED}", "cosine 0.98421", ("cosine_mean", 0.98421, None)),
    ("w4a4 quarot", f"--scheme w4a4 --group 128 --asym --method gptq-best --preprocess quarot {AIMED}", "cosine 0.95826", ("cosine_mean", 0.965, None)),
    ("w4a4 quarot grouped", f"--scheme w4a4 --group 128 --activation-group 128 --asym --method gptq-best --preprocess quarot --compensate --samples 1024",
     "cosine 0.95826 (one scale a token)", ("cosine_mean", 0.965, None)),
    ("w3 budget", f"--scheme w3a16 --method gptq-best --asym {AIMED} --bits-budget 3.3", "cosine 0.94588", ("cosine_mean", 0.96, 3.3)),
    ("vq2", f"--scheme vq2 --method vptq {AIMED}", "cosine 0.6707 (scalar, 2.5 bits)", ("cosine_mean", 0.85, 2.3)),
    ("vq2 budget", f"--scheme vq2 --method vptq {AIMED} --bits-budget 2.3", "cosine 0.6707 (scalar, 2.5 bits)", ("cosine_mean", 0.85, 2.3)),
    ("2:4 magnitude", "--scheme w16a16 --sparsity 2:4 --prune magnitude --method rtn", "cosine 0.594", None),
    ("2:4 wanda", "--scheme w16a16 --sparsity 2:4 --prune wanda --method rtn --samples 512", "cosine 0.733", None),
    ("2:4 sparsegpt", "--scheme w16a16 --sparsity 2:4 --method rtn --samples 512", "cosine 0.868", None),
    ("2:4 sparsegpt permuted", f"--scheme w16a16 --sparsity 2:4 --permute --method rtn {AIMED}", "cosine 0.868", ("cosine_mean", 0.88, None)),
]
LANGUAGE = [
    ("float", None, None, None),
    ("w4 rtn", "--scheme w4a16 --method rtn --asym", None, None),
    ("w4 gptq", "--scheme w4a16 --method gptq --asym --act-order", None, None),
    ("w4 quarot", "--scheme w4a16 --method gptq-best --asym --preprocess quarot", None, ("loss_percent", 1.0, None)),
    ("w4 compensated", "--scheme w4a16 --method gptq-best --asym --compensate --preprocess quarot --samples 128", None, ("loss_percent", 1.0, None)),
    ("w4 budget", "--scheme w4a16 --method gptq-best --asym --compensate --preprocess quarot --bits-budget 4.5", None, ("loss_percent", 1.0, 4.5)),
    ("vq2", "--scheme vq2 --method vptq", None, None),
    ("vq2 quarot", "--scheme vq2 --method vptq --preprocess quarot", None, None),
    ("vq2 interleaved", "--scheme vq2 --method vptq --output-map interleave", None, None),
    ("vq2 quarot scaled", "--scheme vq2 --method vptq --preprocess quarot --output-map scale", None, None),
    ("vq2 quarot interleaved", "--scheme vq2 --method vptq --preprocess quarot --output-map interleave", None, None),
    ("vq2 axes", "--scheme vq2 --method vptq --preprocess axes", None, None),
    ("vq2 axes interleaved", "--scheme vq2 --method vptq --preprocess axes --output-map interleave", None, None),
    ("vq2 auto", "--scheme vq2 --method vptq --preprocess auto", None, None),
    ("vq2 compensated", "--scheme vq2 --method vptq --compensate", None, None),
    ("vq2 quarot compensated", "--scheme vq2 --method vptq --compensate --preprocess quarot", None, None),
]
# Rows of the original model with a rounded key-value cache.
CACHES = [
    ("kv int8", "--kv int8 --kv-group 32", ("loss_percent", 0.5, None)),
    ("kv fp8", "--kv fp8 --kv-group 32", ("loss_percent", 0.5, None)),
    ("kv int4", "--kv int4 --kv-group 32", ("loss_percent", 0.5, None)),
]


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def met(row):
    if not row.get("target"):
        return None
    metric, value, bits = row["target"]["metric"], row["target"]["value"], row["target"]["bits"]
    found = row["result"].get(metric, row.get(metric))
    if found is None:
        return None
    good = found <= value if metric == "loss_percent" else found >= value
    return good and (bits is None or row["result"]["bits_per_weight"] <= bits)


def judge(rows):
    """Perplexity beyond that of the original model on the same windows, and whether each row meets its target."""
    plain = next((r["result"] for r in rows if r["name"] == "float"), None)
    for row in rows:
        row.pop("loss_percent", None)
        if plain and row["result"]["windows"] == plain["windows"]:
            row["loss_percent"] = round(100 * (row["result"]["perplexity"] / plain["perplexity"] - 1), 4)
        row["target_met"] = met(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["minilm", "lm"])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("calibration", type=pathlib.Path)
    parser.add_argument("held_out", type=pathlib.Path)
    parser.add_argument("record", type=pathlib.Path)
    parser.add_argument("--icd", type=pathlib.Path, default=pathlib.Path("target/release/icd"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--windows", type=int, help="language models: only so many windows of the held-out text")
    args = parser.parse_args()
    rows = ENCODER if args.kind == "minilm" else LANGUAGE + [(n, None, None, t) for n, _, t in CACHES]
    caches = {n: o for n, o, _ in CACHES}
    windows = ["--windows", args.windows] if args.windows else []
    has_cache = json.loads((args.model / "config.json").read_text()).get("model_type") != "mamba"
    old = {r["name"]: r for r in json.loads(args.record.read_text())["rows"]} if args.record.exists() else {}
    done = {}
    for name, options, reference, target in rows:
        if (args.only is not None and name not in args.only) or (name in caches and not has_cache):
            if name in old:
                done[name] = old[name]
            continue
        row = {"name": name}
        if reference:
            row["reference"] = reference
        if target:
            row["target"] = {"metric": target[0], "value": target[1], "bits": target[2]}
        with tempfile.TemporaryDirectory() as work:
            out = args.model
            if options is not None:
                words = options.split()
                if args.samples:
                    words += ["--samples", str(args.samples)] if "--samples" not in words else []
                    words = [str(min(int(w), args.samples)) if words[i - 1] == "--samples" else w for i, w in enumerate(words)]
                out, start = pathlib.Path(work) / "out", time.monotonic()
                run([args.icd, "quantize", args.model, "-o", out, *words, "--calibration", args.calibration])
                row["command"] = "icd quantize MODEL -o OUT --calibration TEXT " + " ".join(words)
                row["quantize_seconds"] = round(time.monotonic() - start, 1)
            if args.kind == "minilm":
                row["result"] = json.loads(run([args.icd, "eval", "embeddings", args.model, out, "--text", args.held_out, "--json"]))
            else:
                extra = caches.get(name, "").split()
                if extra:
                    row["command"] = "icd eval perplexity MODEL --text TEXT --context 512 " + " ".join(extra)
                row["result"] = json.loads(run([args.icd, "eval", "perplexity", out, "--text", args.held_out, "--context", "512", "--json", *windows, *extra]))
        row["machine"] = {"cpu": processor(), "cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
        done[name] = row
        every = [(done | {n: r for n, r in old.items() if n not in done})[n] for n, *_ in rows if n in done or n in old]
        judge(every)
        print(name, row.get("loss_percent", row["result"].get("cosine_mean")), round(row["result"]["bits_per_weight"], 3), row["target_met"], flush=True)
        record = {
            "title": f"Quantized {'sentence encoder against float32' if args.kind == 'minilm' else 'language model on held-out text'}",
            "model": args.model.name if args.kind == "lm" else "all-MiniLM-L6-v2",
            "date": datetime.date.today().isoformat(),
            "command": f"examples/quality/measure.py {args.kind} MODEL CALIBRATION.txt HELD_OUT.txt RECORD.json",
            "machine": (json.loads(args.record.read_text()) if args.record.exists() else row)["machine"],
            "rows": every,
        }
        args.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

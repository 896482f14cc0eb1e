"""Writes a synthetic folder, quantizes it with the `icd` tool, and records the peak of resident memory.

    memory.py limit WORK_DIR RECORD.json [--gigabytes 8]
    memory.py plan  WORK_DIR RECORD.json --tokenizer FOLDER --calibration TEXT

`limit`: several GB, round-to-nearest without text, refused beyond twice the largest layer (as floats) plus 512 MB. `plan`: one wide block, methods
with text, the peak against what `--dry-run` says; rows of an existing record whose plan is still the same are kept, the others measured. `--icd PATH`
names the tool (default: target/release/icd). Folders (f16 noise) and results are removed afterwards.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import time

NOISE_ELEMENTS = 1 << 20
# width, inner, heads, heads of keys, vocabulary
SEVEN_BILLION = (4096, 14336, 32, 8, 32000)
WIDE = (1024, 8192, 8, 2, 4096)
FLAT = (2048, 8192, 16, 4, 4096)
MANY_WORDS = (1024, 2048, 8, 2, 262144)
TEXT = "--samples 17"
# With a map of outputs: few long windows, as the slopes by the logits are held for one window.
WINDOWS = "--samples 5 --context 1024"
# width, inner, heads, vocabulary
GPT2 = ("gpt2", 1024, 4096, 16, 65536)
# width, inner, states, vocabulary
MAMBA = ("mamba", 1024, 2048, 16, 65536)
CONTEXT = 1024
PLANNED = [
    (WIDE, f"--scheme w4a16 --method gptq --asym {TEXT}"),
    (WIDE, f"--scheme w4a16 --method gptq-best --asym {TEXT}"),
    (WIDE, f"--scheme w4a16 --method gptq-best --asym --hessian-block 2048 {TEXT}"),
    (WIDE, f"--scheme vq2 --method vptq {TEXT}"),
    (FLAT, f"--scheme w4a16 --method rtn --asym"),
    (FLAT, f"--scheme w4a16 --method gptq-best --asym --hessian-block 2048 {TEXT}"),
    (FLAT, f"--scheme vq2 --method vptq --hessian-block 2048 {TEXT}"),
    (WIDE, f"--scheme w4a16 --method gptq --asym --compensate --hessian-block 2048 {TEXT}"),
    (MANY_WORDS, f"--scheme w4a16 --method gptq --asym --preprocess quarot --hessian-block 1024 {TEXT}"),
    (WIDE, f"--scheme w4a16 --method gptq --asym --preprocess quarot {TEXT}"),
    (FLAT, f"--scheme w4a16 --method gptq --asym --preprocess quarot --hessian-block 2048 {TEXT}"),
    (GPT2, f"--scheme vq2 --method vptq --output-map interleave {WINDOWS}"),
    (MAMBA, f"--scheme vq2 --method vptq --output-map interleave {WINDOWS}"),
]


def gpt2_tensors(_, width, inner, heads, vocabulary):
    yield "wte.weight", (vocabulary, width)
    yield "wpe.weight", (CONTEXT, width)
    for norm in ["h.0.ln_1", "h.0.ln_2", "ln_f"]:
        yield norm + ".weight", (width,)
        yield norm + ".bias", (width,)
    for part, k, n in [("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width), ("mlp.c_fc", width, inner), ("mlp.c_proj", inner, width)]:
        yield f"h.0.{part}.weight", (k, n)
        yield f"h.0.{part}.bias", (n,)


def mamba_tensors(_, width, inner, states, vocabulary):
    rank = width // 16
    mixer = "backbone.layers.0.mixer."
    yield "backbone.embeddings.weight", (vocabulary, width)
    yield "backbone.norm_f.weight", (width,)
    yield "backbone.layers.0.norm.weight", (width,)
    yield mixer + "in_proj.weight", (2 * inner, width)
    yield mixer + "conv1d.weight", (inner, 1, 4)
    yield mixer + "conv1d.bias", (inner,)
    yield mixer + "x_proj.weight", (rank + 2 * states, inner)
    yield mixer + "dt_proj.weight", (inner, rank)
    yield mixer + "dt_proj.bias", (inner,)
    yield mixer + "A_log", (inner, states)
    yield mixer + "D", (inner,)
    yield mixer + "out_proj.weight", (width, inner)


def tensors_of(shape, layers):
    if shape[0] == "gpt2":
        yield from gpt2_tensors(*shape)
        return
    if shape[0] == "mamba":
        yield from mamba_tensors(*shape)
        return
    width, inner, heads, kv_heads, vocabulary = shape
    kv = width // heads * kv_heads
    yield "model.embed_tokens.weight", (vocabulary, width)
    yield "model.norm.weight", (width,)
    for layer in range(layers):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", (width,)
        yield name + "post_attention_layernorm.weight", (width,)
        for part, n, k in [
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", kv, width),
            ("self_attn.v_proj", kv, width),
            ("self_attn.o_proj", width, width),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ]:
            yield f"{name}{part}.weight", (n, k)


def elements(shape):
    out = 1
    for size in shape:
        out *= size
    return out


def config_of(shape, layers):
    if shape[0] == "gpt2":
        _, width, inner, heads, vocabulary = shape
        return {
            "model_type": "gpt2", "n_embd": width, "n_head": heads, "n_inner": inner, "n_layer": 1, "n_positions": CONTEXT, "vocab_size": vocabulary,
            "activation_function": "gelu_new",
        }
    if shape[0] == "mamba":
        _, width, inner, states, vocabulary = shape
        return {
            "model_type": "mamba", "hidden_size": width, "intermediate_size": inner, "state_size": states, "conv_kernel": 4,
            "time_step_rank": width // 16, "num_hidden_layers": 1, "vocab_size": vocabulary, "layer_norm_epsilon": 1e-5, "use_conv_bias": True,
            "hidden_act": "silu",
        }
    width, inner, heads, kv_heads, vocabulary = shape
    return {
        "model_type": "llama", "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers, "vocab_size": vocabulary, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": True,
    }


def write_model(folder, shape, layers):
    folder.mkdir(parents=True)
    draw = random.Random(1)
    noise = struct.pack(f"<{NOISE_ELEMENTS}e", *(draw.gauss(0, 0.02) for _ in range(NOISE_ELEMENTS)))
    one = struct.pack("<e", 1.0)
    shards, shard, size = [], [], 0
    for name, dims in tensors_of(shape, layers):
        shard.append((name, dims))
        size += 2 * elements(dims)
        if size > 2 << 30:
            shards.append(shard)
            shard, size = [], 0
    shards.append(shard)
    where, total = {}, 0
    for at, shard in enumerate(shards):
        file = f"model-{at + 1:05}-of-{len(shards):05}.safetensors"
        header, offset = {}, 0
        for name, dims in shard:
            end = offset + 2 * elements(dims)
            header[name] = {"dtype": "F16", "shape": list(dims), "data_offsets": [offset, end]}
            where[name], offset = file, end
        total += offset
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _, dims in shard:
                if len(dims) == 1:
                    out.write(one * elements(dims))
                    continue
                left = 2 * elements(dims)
                while left:
                    part = noise[: min(left, len(noise))]
                    out.write(part)
                    left -= len(part)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config_of(shape, layers)))
    return total


def quantized(icd, work, options):
    """Seconds, and the peak of resident memory in bytes."""
    command = [icd, "quantize", work / "model", "-o", work / "out", *options]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(said)
    return round(time.monotonic() - start, 1), usage.ru_maxrss * 1024


def limit(args, work):
    shape = SEVEN_BILLION
    block = sum(2 * elements(s) for n, s in tensors_of(shape, 1) if ".layers." in n)
    layers = int(-(-args.gigabytes * 1e9 // block))
    total = write_model(work / "model", shape, layers)
    largest = 4 * shape[0] * shape[1]
    most = (2 * largest >> 20) + 512
    options = ["--scheme", "w4a16", "--method", "rtn", "--group", "128", "--asym", "--max-memory", str(most)]
    seconds, peak = quantized(args.icd, work, options)
    return {
        "title": "Peak memory of quantizing a synthetic Llama layer by layer",
        "command": "icd quantize MODEL -o OUT " + " ".join(options),
        "blocks": layers,
        "model_bytes": total,
        "written_bytes": sum(f.stat().st_size for f in (work / "out").iterdir()),
        "largest_layer_float_bytes": largest,
        "limit_bytes": most << 20,
        "peak_resident_bytes": peak,
        "seconds": seconds,
        "within_limit": peak <= most << 20,
    }


def plan(args, work):
    old = {(r.get("model", "llama"), r["width"], r["command"], r["planned_bytes"]): r for r in json.loads(args.record.read_text())["rows"]} if args.record.exists() else {}
    rows = []
    for shape, options in PLANNED:
        shutil.rmtree(work, ignore_errors=True)
        write_model(work / "model", shape, 1)
        shutil.copy(args.tokenizer / "tokenizer.json", work / "model")
        model, (width, inner) = (shape[0], shape[1:3]) if isinstance(shape[0], str) else ("llama", shape[:2])
        words = options.split() + (["--calibration", str(args.calibration)] if "--samples" in options else [])
        command = [args.icd, "quantize", work / "model", "-o", work / "out", *words, "--dry-run", "--json"]
        planned = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["memory_bytes"]
        name = "icd quantize MODEL -o OUT --calibration TEXT " + options
        if kept := old.get((model, width, name, planned)):
            rows.append({"model": model, **kept})
            continue
        seconds, peak = quantized(args.icd, work, words)
        rows.append({
            "model": model, "command": name, "width": width, "inner": inner, "vocabulary": shape[-1],
            "planned_bytes": planned, "peak_resident_bytes": peak, "planned_over_peak": round(planned / peak, 3), "seconds": seconds,
        })
        print(rows[-1], flush=True)
    return {
        "title": "Peak memory of quantizing one wide block of a synthetic model against the plan",
        "command": "examples/quality/memory.py plan WORK RECORD.json --tokenizer FOLDER --calibration TEXT",
        "rows": rows,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["limit", "plan"])
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("record", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--tokenizer", type=pathlib.Path, help="plan: a folder with a tokenizer.json of at most 4096 tokens")
    parser.add_argument("--calibration", type=pathlib.Path, help="plan: text for it")
    parser.add_argument("--icd", type=pathlib.Path, default=pathlib.Path("target/release/icd"))
    args = parser.parse_args()
    if args.what == "plan" and not (args.tokenizer and args.calibration):
        parser.error("plan needs --tokenizer and --calibration")
    work = args.work / "icd-memory"
    try:
        found = limit(args, work) if args.what == "limit" else plan(args, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    record = {
        "title": found.pop("title"),
        "date": datetime.date.today().isoformat(),
        "command": found.pop("command"),
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "load_average": os.getloadavg()[0]},
        **found,
    }
    args.record.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

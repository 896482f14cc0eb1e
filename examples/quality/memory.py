"""Writes a synthetic Llama folder of several GB, quantizes it with the `icd` tool under a memory limit, and records the peak resident memory.

    memory.py WORK_DIR RECORD.json [--gigabytes 8] [--icd target/release/icd]

The folder (f16 noise) and the result are removed afterwards. The limit is twice the largest layer (as floats) plus 512 MB.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import resource
import shutil
import struct
import subprocess
import sys
import time

WIDTH, INNER, HEADS, KV_HEADS, VOCABULARY = 4096, 14336, 32, 8, 32000
NOISE_ELEMENTS = 1 << 20


def tensors_of(layers):
    kv = WIDTH // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    yield "model.norm.weight", (WIDTH,)
    for layer in range(layers):
        name = f"model.layers.{layer}."
        yield name + "input_layernorm.weight", (WIDTH,)
        yield name + "post_attention_layernorm.weight", (WIDTH,)
        for part, n, k in [
            ("self_attn.q_proj", WIDTH, WIDTH),
            ("self_attn.k_proj", kv, WIDTH),
            ("self_attn.v_proj", kv, WIDTH),
            ("self_attn.o_proj", WIDTH, WIDTH),
            ("mlp.gate_proj", INNER, WIDTH),
            ("mlp.up_proj", INNER, WIDTH),
            ("mlp.down_proj", WIDTH, INNER),
        ]:
            yield f"{name}{part}.weight", (n, k)


def elements(shape):
    out = 1
    for size in shape:
        out *= size
    return out


def write_model(folder, layers):
    folder.mkdir(parents=True)
    draw = random.Random(1)
    noise = struct.pack(f"<{NOISE_ELEMENTS}e", *(draw.gauss(0, 0.02) for _ in range(NOISE_ELEMENTS)))
    ones = struct.pack("<e", 1.0) * WIDTH
    shards, shard, size = [], [], 0
    for name, shape in tensors_of(layers):
        shard.append((name, shape))
        size += 2 * elements(shape)
        if size > 2 << 30:
            shards.append(shard)
            shard, size = [], 0
    shards.append(shard)
    where, total = {}, 0
    for at, shard in enumerate(shards):
        file = f"model-{at + 1:05}-of-{len(shards):05}.safetensors"
        header, offset = {}, 0
        for name, shape in shard:
            end = offset + 2 * elements(shape)
            header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
            where[name], offset = file, end
        total += offset
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _, shape in shard:
                left = 2 * elements(shape)
                if len(shape) == 1:
                    out.write(ones)
                    continue
                while left:
                    part = noise[: min(left, len(noise))]
                    out.write(part)
                    left -= len(part)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": layers, "vocab_size": VOCABULARY, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("record", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--icd", type=pathlib.Path, default=pathlib.Path("target/release/icd"))
    args = parser.parse_args()
    block = sum(2 * elements(s) for n, s in tensors_of(1) if ".layers." in n)
    layers = int(-(-args.gigabytes * 1e9 // block))
    work = args.work / "icd-memory"
    try:
        total = write_model(work / "model", layers)
        limit = (2 * 4 * WIDTH * INNER >> 20) + 512
        options = ["--scheme", "w4a16", "--method", "rtn", "--group", "128", "--asym", "--max-memory", str(limit)]
        start = time.monotonic()
        done = subprocess.run([args.icd, "quantize", work / "model", "-o", work / "out", *options], capture_output=True, text=True)
        seconds = time.monotonic() - start
        if done.returncode != 0:
            sys.exit(done.stderr)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        written = sum(f.stat().st_size for f in (work / "out").iterdir())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    record = {
        "title": "Peak memory of quantizing a synthetic Llama layer by layer",
        "date": datetime.date.today().isoformat(),
        "command": "icd quantize MODEL -o OUT " + " ".join(options),
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "load_average": os.getloadavg()[0]},
        "blocks": layers,
        "model_bytes": total,
        "written_bytes": written,
        "largest_layer_float_bytes": 4 * WIDTH * INNER,
        "limit_bytes": limit << 20,
        "peak_resident_bytes": peak,
        "seconds": round(seconds, 1),
        "within_limit": peak <= limit << 20,
    }
    args.record.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

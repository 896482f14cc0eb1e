"""A BERT-base shape (12 layers, hidden 768, 12 heads) with made-up weights, for timing compiled artifacts beside XLA.

    python examples/bert_base/bert_base.py export OUT_DIR [--seq 128] [--batch 1]   program, weights, an input and float32 results (JAX on any machine)
    python examples/bert_base/bert_base.py xla INPUT -o XLA.json        time jax.jit on fp16 weights (JAX on a GPU)
    python examples/bert_base/bert_base.py record RESULTS OUT.json      join what measure.sh left into one record

Weights take 16 evenly spaced values, so that files compress for carrying and every machine makes the same from the seed; the encoder is that of
examples/minilm/bert.py.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "minilm"))
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

import bert

LAYERS, HIDDEN, HEADS, INNER, VOCABULARY, SEED = 12, 768, 12, 3072, 1024, 7


def weights(seq: int) -> dict[str, np.ndarray]:
    """All parameters in float32, each representable in float16."""
    rng = np.random.default_rng(SEED)

    def grid(*shape, deviation=0.03):
        levels = ((np.arange(16) - 7.5) / 4.6 * deviation).astype(np.float16)
        return levels[rng.integers(0, 16, shape)].astype(np.float32)

    out = {
        "embeddings.word_embeddings.weight": grid(VOCABULARY, HIDDEN, deviation=1.0),
        "embeddings.position_embeddings.weight": grid(seq, HIDDEN, deviation=0.3),
        "embeddings.token_type_embeddings.weight": grid(2, HIDDEN),
    }

    def norm(name):
        out[f"{name}.LayerNorm.weight"] = 1 + grid(HIDDEN, deviation=0.1)
        out[f"{name}.LayerNorm.bias"] = grid(HIDDEN)

    def linear(name, outputs, inputs):
        out[f"{name}.weight"], out[f"{name}.bias"] = grid(outputs, inputs), grid(outputs)

    norm("embeddings")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output")
        linear(f"{layer}.intermediate.dense", INNER, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, INNER)
        norm(f"{layer}.output")
    return {name: out[name] for name in sorted(out)}


def encode(params, ids, mask):
    return bert.embed(bert.Config(LAYERS, HEADS, 1e-12), params, ids, mask)


def export(out: pathlib.Path, seq: int, batch: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    params = weights(seq)
    token = jax.ShapeDtypeStruct((batch, seq), jnp.int32)
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in params.items()}
    lowered = jax.jit(encode, keep_unused=True).lower(shapes, token, token)
    (out / "bert_base.mlir").write_text(lowered.as_text())
    safetensors.numpy.save_file(params, out / "bert_base.safetensors", metadata={"icd.arguments": json.dumps([*params, None, None])})
    rng = np.random.default_rng(SEED + 1)
    ids = rng.integers(0, VOCABULARY, (batch, seq), dtype=np.int32)
    mask = np.tile(np.arange(seq) < seq - 9, (batch, 1)).astype(np.int32)
    # Inputs and results of an artifact are named by the exported program.
    safetensors.numpy.save_file({"input.0": ids, "input.1": mask}, out / "input.safetensors")
    result = np.asarray(lowered.compile()(params, ids, mask))
    safetensors.numpy.save_file({"output.0": result.astype(np.float32)}, out / "expected.safetensors")


def xla(given: pathlib.Path, out: pathlib.Path, calls: int) -> None:
    tokens = safetensors.numpy.load_file(given)
    ids, mask = jnp.asarray(tokens["input.0"]), jnp.asarray(tokens["input.1"])
    params = {name: jnp.asarray(value, jnp.float16) for name, value in weights(ids.shape[1]).items()}
    run = jax.jit(encode).lower(params, ids, mask).compile()
    for _ in range(20):
        run(params, ids, mask).block_until_ready()
    synchronous = []
    for _ in range(calls):
        start = time.perf_counter()
        run(params, ids, mask).block_until_ready()
        synchronous.append(time.perf_counter() - start)
    batches = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(30):
            last = run(params, ids, mask)
        last.block_until_ready()
        batches.append((time.perf_counter() - start) / 30)
    result = {
        "what": "jax.jit, fp16 weights",
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "synchronous_us": {"median": 1e6 * statistics.median(synchronous), "min": 1e6 * min(synchronous), "calls": calls},
        "back_to_back_us": {"median": 1e6 * statistics.median(batches), "min": 1e6 * min(batches), "batches": "10 of 30 calls"},
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def record(results: pathlib.Path, out: pathlib.Path) -> None:
    """Join the JSON files of measure.sh: bench_*.json, verify_*.json (icd-run), xla.json and command.json."""
    read = lambda path: json.loads(path.read_text())
    command = read(results / "command.json")
    joined = {
        "title": "Encoders on one GPU: compiled artifacts beside XLA, one run",
        **command,
        "bench": {path.stem.removeprefix("bench_"): read(path) for path in sorted(results.glob("bench_*.json"))},
        "verify": {path.stem.removeprefix("verify_"): read(path) for path in sorted(results.glob("verify_*.json"))},
        "xla": read(results / "xla.json"),
    }
    out.write_text(json.dumps(joined, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    e = commands.add_parser("export")
    e.add_argument("out", type=pathlib.Path)
    e.add_argument("--seq", type=int, default=128)
    e.add_argument("--batch", type=int, default=1)
    x = commands.add_parser("xla")
    x.add_argument("input", type=pathlib.Path)
    x.add_argument("-o", "--output", type=pathlib.Path, required=True)
    x.add_argument("--calls", type=int, default=200)
    r = commands.add_parser("record")
    r.add_argument("results", type=pathlib.Path)
    r.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    match args.command:
        case "export":
            export(args.out, args.seq, args.batch)
        case "xla":
            xla(args.input, args.output, args.calls)
        case "record":
            record(args.results, args.out)


main()

"""A decoder of GPT-2's shape that generates after most of its KV cache was evicted: by a mask, or with the kept tokens laid out anew.

    python examples/kv_compaction/decoder.py OUT_DIR [--layers 12] [--context 32768] [--keep 6554] [--tokens 32]

Writes three programs of one signature, and weights, inputs and float32 results for them. All take the token to go on from, the full cache (with room
for what is generated), a mask of the kept positions, and their list:

    dense.mlir      attends to the whole cache
    masked.mlir     attends to the kept positions; the others stay where they are (eviction alone)
    compacted.mlir  gathers the kept positions once, then attends to what is there (eviction and re-permutation)

Masked and compacted compute the same function. Weights are made up, from a seed; they take 16 values each, so that files compress.
"""

import argparse
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

HIDDEN, HEADS, INNER, VOCABULARY, SEED = 768, 12, 3072, 1024, 11
HEAD = HIDDEN // HEADS


def weights(layers: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)

    def grid(*shape, deviation=0.02):
        levels = ((np.arange(16) - 7.5) / 4.6 * deviation).astype(np.float16)
        return levels[rng.integers(0, 16, shape)]

    out = {"embedding": grid(VOCABULARY, HIDDEN, deviation=0.5)}
    for i in range(layers):
        out[f"layer.{i:02}.attention"], out[f"layer.{i:02}.attention_bias"] = grid(HIDDEN, 3 * HIDDEN), grid(3 * HIDDEN)
        out[f"layer.{i:02}.output"], out[f"layer.{i:02}.output_bias"] = grid(HIDDEN, HIDDEN), grid(HIDDEN)
        out[f"layer.{i:02}.up"], out[f"layer.{i:02}.up_bias"] = grid(HIDDEN, INNER), grid(INNER)
        out[f"layer.{i:02}.down"], out[f"layer.{i:02}.down_bias"] = grid(INNER, HIDDEN), grid(HIDDEN)
    return {name: out[name] for name in sorted(out)}


def norm(x):
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    centred = wide - mean
    return (centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)).astype(x.dtype)


def attend(query, keys, values, allowed):
    scores = jnp.einsum("hqd,hkd->hqk", query, keys, preferred_element_type=jnp.float32) / np.float32(HEAD**0.5)
    scores = jnp.where(allowed[None, None, :], scores, jnp.float32(-1e30))
    return jnp.einsum("hqk,hkd->hqd", jax.nn.softmax(scores, axis=-1).astype(values.dtype), values)


def generate(params, layers, tokens, token, keys, values, start, allowed):
    """`tokens` greedy tokens after `token`. Position `start + t` of the caches is filled by step t; `allowed` [slots] says which old ones count."""
    slots = keys[0].shape[1]

    def step(t, state):
        token, keys, values, last = state
        position = start + t
        x = params["embedding"][token]
        free = allowed | ((jnp.arange(slots) >= start) & (jnp.arange(slots) <= position))
        new_keys, new_values = [], []
        for i in range(layers):
            p = lambda name: params[f"layer.{i:02}.{name}"]
            qkv = norm(x) @ p("attention") + p("attention_bias")
            q, k, v = (part.reshape(1, HEADS, HEAD).transpose(1, 0, 2) for part in jnp.split(qkv, 3, axis=-1))
            new_keys.append(jax.lax.dynamic_update_slice(keys[i], k, (0, position, 0)))
            new_values.append(jax.lax.dynamic_update_slice(values[i], v, (0, position, 0)))
            o = attend(q, new_keys[i], new_values[i], free).transpose(1, 0, 2).reshape(1, HIDDEN)
            x = x + o @ p("output") + p("output_bias")
            x = x + jax.nn.gelu(norm(x) @ p("up") + p("up_bias")) @ p("down") + p("down_bias")
        logits = (norm(x) @ params["embedding"].T).astype(jnp.float32)
        return jnp.argmax(logits, -1).astype(jnp.int32), new_keys, new_values, logits

    logits = jnp.zeros((1, VOCABULARY), jnp.float32)
    token, _, _, logits = jax.lax.fori_loop(0, tokens, step, (token, list(keys), list(values), logits))
    return token, logits


def variants(layers, context, kept_count, tokens):
    def dense(params, token, keys, values, mask, kept):
        allowed = jnp.arange(context + tokens) < context
        return generate(params, layers, tokens, token, keys, values, context, allowed)

    def masked(params, token, keys, values, mask, kept):
        allowed = jnp.concatenate([mask, jnp.zeros(tokens, bool)])
        return generate(params, layers, tokens, token, keys, values, context, allowed)

    def compacted(params, token, keys, values, mask, kept):
        room = jnp.zeros((HEADS, tokens, HEAD), jnp.float16)
        gather = lambda cache: jnp.concatenate([jnp.take(cache, kept, axis=1, mode="clip"), room], axis=1)
        allowed = jnp.arange(kept_count + tokens) < kept_count
        return generate(params, layers, tokens, token, [gather(k) for k in keys], [gather(v) for v in values], kept_count, allowed)

    return {"dense": dense, "masked": masked, "compacted": compacted}


def plan(out: pathlib.Path) -> None:
    """gate.json for the artifacts that measure.sh compiled."""
    programs = {"A": "dense", "B": "masked", "C2": "compacted", "NA": "dense", "NB": "masked"}
    arms = []
    for role, program in programs.items():
        artifact = f"arms/{role}.icd"
        permuted = "icd-permute{objective=random seed=1} on " if role.startswith("N") else ""
        digest = hashlib.sha256((out / artifact).read_bytes()).hexdigest()
        arms.append({"role": role, "artifact": artifact, "pipeline": f"{permuted}{program}.mlir", "digest": digest})
    gate = {"model": "decoder of GPT-2's shape, from an evicted KV cache", "arms": arms, "inputs": "inputs.safetensors", "reference": None}
    (out / "gate.json").write_text(json.dumps(gate, indent=1) + "\n")


def record(out: pathlib.Path) -> None:
    """record.json: what the gate measured, without the single samples' timeline."""
    metrics = json.loads((out / "metrics.json").read_text())
    del metrics["measured"]["timeline"]
    head = {"title": "KV cache: eviction by mask beside compaction, one GPU, one run"}
    (out / "record.json").write_text(json.dumps(head | metrics, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--keep", type=int, default=6554)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--inputs", action="store_true", help="also write inputs")
    parser.add_argument("--expected", action="store_true", help="also write inputs, and results computed by JAX in float32 (slow at full size)")
    parser.add_argument("--plan", action="store_true", help="only write gate.json for compiled arms")
    parser.add_argument("--record", action="store_true", help="only write record.json of a finished gate")
    args = parser.parse_args()
    if args.plan or args.record:
        return plan(args.out) if args.plan else record(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    params = weights(args.layers)
    names = [*params, *[None] * (2 * args.layers + 3)]
    safetensors.numpy.save_file(params, args.out / "weights.safetensors", metadata={"icd.arguments": json.dumps(names)})
    cache = jax.ShapeDtypeStruct((HEADS, args.context + args.tokens, HEAD), jnp.float16)
    shapes = [
        {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in params.items()},
        jax.ShapeDtypeStruct((1,), jnp.int32),
        [cache] * args.layers,
        [cache] * args.layers,
        jax.ShapeDtypeStruct((args.context,), jnp.bool_),
        jax.ShapeDtypeStruct((args.keep,), jnp.int32),
    ]
    rng = np.random.default_rng(SEED + 1)
    kept = np.sort(rng.choice(args.context, args.keep, replace=False)).astype(np.int32)
    mask = np.zeros(args.context, bool)
    mask[kept] = True
    if args.inputs or args.expected:
        caches = [rng.standard_normal(cache.shape, np.float32).astype(np.float16) for _ in range(2 * args.layers)]
        given = [np.array([7], np.int32), caches[: args.layers], caches[args.layers :], mask, kept]
        flat = [given[0], *caches, mask, kept]
        inputs = {f"input.{i}": value for i, value in enumerate(flat)}
        safetensors.numpy.save_file(inputs, args.out / "inputs.safetensors")
    for name, function in variants(args.layers, args.context, args.keep, args.tokens).items():
        lowered = jax.jit(function, keep_unused=True).lower(*shapes)
        (args.out / f"{name}.mlir").write_text(lowered.as_text())
        if args.expected:
            wide = lambda tree: jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float16 else x, tree)
            token, logits = jax.jit(function)(wide(params), *wide(given))
            results = {"output.0": np.asarray(token), "output.1": np.asarray(logits)}
            safetensors.numpy.save_file(results, args.out / f"{name}.expected.safetensors")


main()

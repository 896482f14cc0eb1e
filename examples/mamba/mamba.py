"""The shape of Mamba-2.8B (64 blocks, width 2560, inner width 5120, 16 states a channel; Gu and Dao 2023, arXiv:2312.00752) with made-up weights.

    python examples/mamba_2_8b/mamba.py OUT_DIR --program decode [--layers 64]                  one token from a state
    python examples/mamba_2_8b/mamba.py OUT_DIR --program prefill [--layers 64] [--tokens 2048]  logits behind a prompt
    python examples/mamba_2_8b/mamba.py OUT_DIR --plan A='…' C2='…'                             gate.json for arms/A.icd and arms/C2.icd, with their pipelines

Writes mamba.mlir, weights.safetensors (float16) and inputs.safetensors; with --expected (slow at full size) also what JAX computes in float32 from the same
weights. Weights take 16 evenly spaced values, and every machine makes the same from the seed.
"""

import argparse
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

WIDTH, INNER, STATES, RANK, TAPS, VOCABULARY, SEED = 2560, 5120, 16, 160, 4, 50280, 5
STATE_SEED = 6


def weights(layers: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)

    def grid(*shape, deviation=0.02, mean=0.0):
        levels = ((np.arange(16) - 7.5) / 4.6 * deviation + mean).astype(np.float16)
        return levels[rng.integers(0, 16, shape, dtype=np.uint8)]

    out = {"embedding": grid(VOCABULARY, WIDTH, deviation=0.5), "norm": grid(WIDTH, deviation=0.1, mean=1)}
    for i in range(layers):
        block = {
            "norm": grid(WIDTH, deviation=0.1, mean=1),
            "in_proj": grid(WIDTH, 2 * INNER),
            "conv": grid(TAPS, INNER, deviation=0.4),
            "conv_bias": grid(INNER),
            "x_proj": grid(INNER, RANK + 2 * STATES),
            "dt_proj": grid(RANK, INNER, deviation=0.05),
            "dt_bias": grid(INNER, deviation=0.5, mean=-4),
            "a_log": grid(INNER, STATES, deviation=0.7, mean=1.5),
            "d": grid(INNER, deviation=0.3, mean=1),
            "out_proj": grid(INNER, WIDTH),
        }
        out |= {f"block.{i:02}.{name}": value for name, value in block.items()}
    return {name: out[name] for name in sorted(out)}


def norm(x, weight):
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-5)).astype(x.dtype) * weight


def rates(p, u):
    """Δ [tokens, inner], B and C [tokens, states] in float32, and A [inner, states]."""
    dt, b, c = jnp.split(u @ p("x_proj"), [RANK, RANK + STATES], axis=-1)
    delta = jax.nn.softplus((dt @ p("dt_proj")).astype(jnp.float32) + p("dt_bias").astype(jnp.float32))
    return delta, b.astype(jnp.float32), c.astype(jnp.float32), -jnp.exp(p("a_log").astype(jnp.float32))


def advance(a, h, delta, u, b, c):
    """Equation 2 of the paper with the discretization of its equation 4, one token."""
    h = jnp.exp(delta[:, None] * a) * h + (delta * u)[:, None] * b[None, :]
    return h, (h * c[None, :]).sum(-1)


def close(p, x, y, u, z):
    y = y + p("d").astype(jnp.float32) * u.astype(jnp.float32)
    return x + (y.astype(x.dtype) * jax.nn.silu(z)) @ p("out_proj")


def block_of(params, i):
    return lambda name: params[f"block.{i:02}.{name}"]


def decode(layers):
    def run(params, token, windows, states):
        x = params["embedding"][token]
        new_windows, new_states = [], []
        for i in range(layers):
            p = block_of(params, i)
            u, z = jnp.split(norm(x, p("norm")) @ p("in_proj"), 2, axis=-1)
            window = jnp.concatenate([windows[i], u])
            u = jax.nn.silu((window * p("conv")).sum(0, keepdims=True) + p("conv_bias"))
            delta, b, c, a = rates(p, u)
            h, y = advance(a, states[i], delta[0], u[0].astype(jnp.float32), b[0], c[0])
            new_windows.append(window[1:])
            new_states.append(h)
            x = close(p, x, y[None], u, z)
        logits = (norm(x, params["norm"]) @ params["embedding"].T).astype(jnp.float32)
        return logits, new_windows, new_states

    return run


def prefill(layers):
    def run(params, tokens):
        x = params["embedding"][tokens]
        for i in range(layers):
            p = block_of(params, i)
            u, z = jnp.split(norm(x, p("norm")) @ p("in_proj"), 2, axis=-1)
            padded = jnp.concatenate([jnp.zeros((TAPS - 1, INNER), u.dtype), u])
            u = jax.nn.silu(sum(padded[t : t + len(tokens)] * p("conv")[t] for t in range(TAPS)) + p("conv_bias"))
            delta, b, c, a = rates(p, u)
            step = lambda h, at: advance(a, h, *at)
            _, y = jax.lax.scan(step, jnp.zeros((INNER, STATES), jnp.float32), (delta, u.astype(jnp.float32), b, c))
            x = close(p, x, y, u, z)
        return (norm(x[-1:], params["norm"]) @ params["embedding"].T).astype(jnp.float32)

    return run


def export(out: pathlib.Path, program: str, layers: int, tokens: int, expected: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    params = weights(layers)
    rng = np.random.default_rng(STATE_SEED)
    if program == "decode":
        run = decode(layers)
        windows = [rng.standard_normal((TAPS - 1, INNER)).astype(np.float16) for _ in range(layers)]
        states = [(rng.standard_normal((INNER, STATES)) / 4).astype(np.float32) for _ in range(layers)]
        inputs = (rng.integers(0, VOCABULARY, 1, dtype=np.int32), windows, states)
    else:
        run, inputs = prefill(layers), (rng.integers(0, VOCABULARY, tokens, dtype=np.int32),)
    shape = lambda tree: jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), tree)
    lowered = jax.jit(run, keep_unused=True).lower(shape(params), *shape(inputs))
    (out / "mamba.mlir").write_text(lowered.as_text())
    flat = jax.tree.leaves(inputs)
    names = json.dumps([*params, *[None] * len(flat)])
    safetensors.numpy.save_file(params, out / "weights.safetensors", metadata={"icd.arguments": names})
    safetensors.numpy.save_file({f"input.{i}": v for i, v in enumerate(flat)}, out / "inputs.safetensors")
    if expected:
        wide = lambda tree: jax.tree.map(lambda v: v.astype(np.float32) if v.dtype == np.float16 else v, tree)
        results = jax.tree.leaves(jax.jit(run)(wide(params), *wide(inputs)))
        types = jax.tree.leaves(jax.eval_shape(run, shape(params), *shape(inputs)))
        results = {f"output.{i}": np.asarray(v).astype(t.dtype) for i, (v, t) in enumerate(zip(results, types))}
        safetensors.numpy.save_file(results, out / "expected.safetensors")


def plan(out: pathlib.Path, arms: list[str]) -> None:
    rows = []
    for role, pipeline in (arm.split("=", 1) for arm in arms):
        digest = hashlib.sha256((out / f"arms/{role}.icd").read_bytes()).hexdigest()
        rows.append({"role": role, "artifact": f"arms/{role}.icd", "pipeline": pipeline, "digest": digest})
    gate = {"model": f"shape of Mamba-2.8B, {out.resolve().name}", "arms": rows, "inputs": "inputs.safetensors", "reference": None}
    (out / "gate.json").write_text(json.dumps(gate, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--program", choices=["decode", "prefill"], default="decode")
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--expected", action="store_true", help="also write results computed by JAX in float32")
    parser.add_argument("--plan", nargs="+", metavar="ROLE=PIPELINE", help="only write gate.json for compiled arms")
    args = parser.parse_args()
    if args.plan:
        return plan(args.out, args.plan)
    export(args.out, args.program, args.layers, args.tokens, args.expected)


main()

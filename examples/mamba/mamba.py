"""Mamba (Gu and Dao 2023, arXiv:2312.00752): a trained model, or the shape of Mamba-2.8B (64 blocks, width 2560, inner width 5120, 16 states a channel) with
made-up weights.

    python examples/mamba/mamba.py OUT_DIR --program decode [--layers 64]                   one token from a state
    python examples/mamba/mamba.py OUT_DIR --program prefill [--layers 64] [--tokens 2048]  logits behind a prompt
    python examples/mamba/mamba.py OUT_DIR --program prefill --folder HF_DIR --text FILE    the same with trained weights, behind the text's first tokens
    python examples/mamba/mamba.py OUT_DIR --plan A='…' C2='…'                              gate.json for arms/A.icd and arms/C2.icd, with their pipelines

Writes mamba.mlir, weights.safetensors (float16) and inputs.safetensors; with --expected (slow at full size) also what JAX computes in float32 from the same
weights. Made-up weights take 16 evenly spaced values, and every machine makes the same from the seed.
"""

import argparse
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import tokenizers

WIDTH, INNER, STATES, RANK, TAPS, VOCABULARY, SEED = 2560, 5120, 16, 160, 4, 50280, 5
STATE_SEED = 6


def trained(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Weights of a Hugging Face folder (MambaForCausalLM, tied embeddings) under this program's names, matrices as input x output."""
    stored = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored |= safetensors.numpy.load_file(file)
    names = {"norm": "norm.weight", "in_proj": "in_proj.weight", "conv": "conv1d.weight", "conv_bias": "conv1d.bias", "x_proj": "x_proj.weight"}
    names |= {"dt_proj": "dt_proj.weight", "dt_bias": "dt_proj.bias", "a_log": "A_log", "d": "D", "out_proj": "out_proj.weight"}
    out = {"embedding": stored["backbone.embeddings.weight"], "norm": stored["backbone.norm_f.weight"]}
    for i in range(sum(name.endswith(".A_log") for name in stored)):
        for name, theirs in names.items():
            value = stored[f"backbone.layers.{i}.{theirs if name == 'norm' else 'mixer.' + theirs}"]
            value = value[:, 0] if name == "conv" else value
            out[f"block.{i:02}.{name}"] = np.ascontiguousarray(value.T if name in ("in_proj", "conv", "x_proj", "dt_proj", "out_proj") else value)
    return {name: out[name].astype(np.float16) for name in sorted(out)}


def made_up(layers: int) -> dict[str, np.ndarray]:
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
    rank, states = p("dt_proj").shape[0], p("a_log").shape[1]
    dt, b, c = jnp.split(u @ p("x_proj"), [rank, rank + states], axis=-1)
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
            taps = p("conv").shape[0]
            padded = jnp.concatenate([jnp.zeros((taps - 1, u.shape[1]), u.dtype), u])
            u = jax.nn.silu(sum(padded[t : t + len(tokens)] * p("conv")[t] for t in range(taps)) + p("conv_bias"))
            delta, b, c, a = rates(p, u)
            step = lambda h, at: advance(a, h, *at)
            _, y = jax.lax.scan(step, jnp.zeros(p("a_log").shape, jnp.float32), (delta, u.astype(jnp.float32), b, c))
            x = close(p, x, y, u, z)
        return (norm(x[-1:], params["norm"]) @ params["embedding"].T).astype(jnp.float32)

    return run


def export(out: pathlib.Path, program: str, params: dict[str, np.ndarray], prompt: np.ndarray, expected: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    layers = sum(name.endswith(".a_log") for name in params)
    taps, (inner, states) = params["block.00.conv"].shape[0], params["block.00.a_log"].shape
    if program == "decode":
        run, rng = decode(layers), np.random.default_rng(STATE_SEED)
        windows = [rng.standard_normal((taps - 1, inner)).astype(np.float16) for _ in range(layers)]
        held = [(rng.standard_normal((inner, states)) / 4).astype(np.float32) for _ in range(layers)]
        inputs = (prompt[:1], windows, held)
    else:
        run, inputs = prefill(layers), (prompt,)
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
    parser.add_argument("--folder", type=pathlib.Path, help="a trained model in Hugging Face's layout")
    parser.add_argument("--text", type=pathlib.Path, help="where the prompt comes from, with --folder; random tokens without it")
    parser.add_argument("--expected", action="store_true", help="also write results computed by JAX in float32")
    parser.add_argument("--plan", nargs="+", metavar="ROLE=PIPELINE", help="only write gate.json for compiled arms")
    args = parser.parse_args()
    if args.plan:
        return plan(args.out, args.plan)
    if args.text and not args.folder:
        parser.error("--text needs --folder, for its tokenizer")
    params = trained(args.folder) if args.folder else made_up(args.layers)
    if args.text:
        tokenizer = tokenizers.Tokenizer.from_file(str(args.folder / "tokenizer.json"))
        prompt = np.array(tokenizer.encode(args.text.read_text()).ids[: args.tokens], np.int32)
    else:
        prompt = np.random.default_rng(STATE_SEED).integers(0, len(params["embedding"]), args.tokens, dtype=np.int32)
    export(args.out, args.program, params, prompt, args.expected)


main()

"""Export small JAX programs, one subject each, and store what XLA's CPU backend computes for them.

    python scripts/oracle/programs.py [OUT_DIR]

OUT_DIR (default tests/data/programs) receives NAME.mlir and NAME.safetensors for every function below, in the form of run_jaxlib.py. Sizes are small and
ragged on purpose. Arguments that need more than plain random values (whole numbers in a range, positive values, hostile ones) are made here.
"""

import os
import pathlib
import subprocess
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402
from jax import lax  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = {}


def program(*arguments):
    """Registers a function with its example arguments; `arguments` are made in order from one generator seeded by the function's name."""

    def register(function):
        PROGRAMS[function.__name__] = (function, arguments)
        return function

    return register


def normal(*shape, dtype=np.float32, scale=1.0):
    return lambda random: (random.standard_normal(shape) * scale).astype(dtype)


def positive(*shape, dtype=np.float32):
    return lambda random: (random.random(shape) * 3 + 0.1).astype(dtype)


def unit(*shape, dtype=np.float32):
    return lambda random: (random.random(shape) * 1.9 - 0.95).astype(dtype)


def whole(low, high, *shape, dtype=np.int32):
    return lambda random: random.integers(low, high, shape).astype(dtype)


def truth(*shape):
    return lambda random: random.integers(0, 2, shape).astype(np.bool_)


def hostile(dtype=np.float32):
    """Zeros of both signs, infinities, NaN, large and small values. No result is denormal: XLA's CPU backend flushes those to zero."""
    values = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 0.5, 3.0]
    values += [1e37, -1e37, 1e-30] if dtype == np.float32 else [6e4, -6e4, 1e-4]
    table = np.array(values).astype(dtype)
    return lambda random: random.permutation(np.repeat(table, len(table)).reshape(len(table), len(table)), axis=0)


@program(normal(3, 17), normal(3, 17))
def arithmetic_f32(a, b):
    return a + b, a - b, a * b, a / b, jnp.maximum(a, b), jnp.minimum(a, b), jnp.abs(a), -a, jnp.sign(a)


@program(hostile(), lambda random: hostile()(random).T.copy())
def arithmetic_hostile(a, b):
    return a + b, a * b, a / b, jnp.maximum(a, b), jnp.minimum(a, b), a < b, a == b, a != b, jnp.sign(a), jnp.floor(a), lax.is_finite(a)


@program(normal(5, 9, dtype=ml_dtypes.bfloat16), normal(5, 9, dtype=ml_dtypes.bfloat16))
def arithmetic_bf16(a, b):
    return a + b, a * b, a / b, jnp.maximum(a, b), a.astype(jnp.float32), (a.astype(jnp.float32) * 3).astype(jnp.bfloat16)


@program(normal(5, 9, dtype=np.float16), normal(5, 9, dtype=np.float16))
def arithmetic_f16(a, b):
    return a + b, a * b, a - b, jnp.minimum(a, b), a.astype(jnp.float32), a > b


@program(whole(-50, 50, 4, 7), whole(-6, 7, 4, 7))
def arithmetic_i32(a, b):
    nonzero = jnp.where(b == 0, 1, b)
    return a + b, a * b, lax.div(a, nonzero), lax.rem(a, nonzero), a & b, a | b, a ^ b, ~a, lax.shift_left(a, b & 7), lax.shift_right_arithmetic(a, b & 7)


@program(whole(0, 256, 33, dtype=np.uint8), whole(0, 256, 33, dtype=np.uint8))
def arithmetic_u8(a, b):
    return a + b, a * b, lax.shift_right_logical(a, b & 7), lax.population_count(a), lax.clz(a), jnp.maximum(a, b), a.astype(jnp.float32), a < b


@program(truth(3, 5), truth(3, 5))
def logic(a, b):
    return a & b, a | b, a ^ b, ~a, a.astype(jnp.int32)


@program(unit(2, 67), positive(2, 67), normal(2, 67, scale=4))
def functions_f32(u, p, x):
    return (
        jnp.exp(x), jnp.expm1(u), jnp.log(p), jnp.log1p(p), jnp.sqrt(p), lax.rsqrt(p), jnp.cbrt(p), jnp.tanh(x), lax.logistic(x), jnp.sin(x), jnp.cos(x),
        jnp.tan(u), jnp.arctan2(x, p), jnp.power(p, x), jnp.floor(x), jnp.ceil(x), lax.round(x), lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    )  # fmt: skip


@program(unit(77), normal(77, scale=2))
def functions_special(u, x):
    return lax.erf(x), lax.erfc(x), lax.erf_inv(u), jnp.arctanh(u), jnp.arcsin(u), jnp.arccos(u), jnp.sinh(x), jnp.cosh(x), jnp.arcsinh(x), jnp.square(x)


@program(hostile())
def functions_hostile(x):
    return jnp.exp(x), jnp.log(x), jnp.sqrt(x), jnp.tanh(x), lax.erf(x), lax.logistic(x), lax.round(x), jnp.cbrt(x)


@program(normal(7, 13), normal(13, 5))
def dot_f32(a, b):
    return a @ b


@program(normal(2, 3, 7, 11), normal(2, 3, 5, 11))
def dot_batched(a, b):
    return jnp.einsum("bhqd,bhkd->bhqk", a, b)


@program(normal(3, 4, 6), normal(6, 4, 5))
def dot_two_contracted(a, b):
    return lax.dot_general(a, b, (((1, 2), (1, 0)), ((), ())))


@program(normal(33, 65, dtype=ml_dtypes.bfloat16), normal(65, 17, dtype=ml_dtypes.bfloat16))
def dot_bf16(a, b):
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


@program(whole(-128, 128, 9, 31, dtype=np.int8), whole(-128, 128, 31, 6, dtype=np.int8))
def dot_i8(a, b):
    return jnp.dot(a, b, preferred_element_type=jnp.int32)


@program(normal(1, 300), normal(300, 130))
def dot_vector(a, b):
    return a @ b


@program(normal(3, 5, 7))
def reductions(x):
    return x.sum(0), x.sum((1, 2)), x.max(2), x.min((0, 1, 2)), jnp.prod(x, 1), jnp.any(x > 1, 1), jnp.all(x > -1, (0, 2))


@program(normal(6, 19))
def argmax(x):
    return jnp.argmax(x, 1), jnp.argmin(x, 0), jnp.argmax(x)


@program(normal(4, 129, scale=5))
def softmax(x):
    return jax.nn.softmax(x, axis=1), jax.nn.log_softmax(x, axis=0)


@program(normal(5, 96), normal(96), normal(96))
def layer_norm(x, weight, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * weight + bias


@program(normal(3, 40), normal(40))
def rms_norm(x, weight):
    return x * lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


@program(normal(2, 3, 9, 8), normal(2, 3, 9, 8), normal(2, 3, 9, 8))
def causal_attention(q, k, v):
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * 8**-0.5
    scores = jnp.where(jnp.tril(jnp.ones((9, 9), bool)), scores, -1e9)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v)


@program(normal(6, 33))
def activations(x):
    return jax.nn.relu(x), jax.nn.gelu(x, approximate=True), jax.nn.gelu(x, approximate=False), jax.nn.silu(x), jax.nn.softplus(x), jax.nn.elu(x)


@program(normal(3, 4, 5))
def shapes(x):
    return x.transpose(2, 0, 1), x.reshape(12, 5), x[::-1, :, ::2], jnp.concatenate([x, x[:, :, :2]], 2), jnp.broadcast_to(x[0, :1], (7, 1, 5)), jnp.pad(x, ((1, 0), (0, 2), (3, 1)))


@program(normal(4, 5))
def pad_interior_and_negative(x):
    return lax.pad(x, jnp.float32(-1), ((1, -1, 2), (-2, 3, 1)))


@program(normal(23, 6), whole(0, 23, 4, 3))
def embedding(table, ids):
    return jnp.take(table, ids, axis=0, mode="clip")


@program(normal(5, 7), whole(-2, 9, 6))
def gather_out_of_range(x, ids):
    return x.at[:, ids].get(mode="fill", fill_value=0.0), x.at[jnp.clip(ids, 0, 4)].get(mode="promise_in_bounds")


@program(normal(9, 4), whole(0, 9, 5), normal(5, 4))
def scatter(x, ids, updates):
    return x.at[ids].add(updates), x.at[ids].max(updates), x.at[2].set(updates[0])


@program(normal(8, 10), whole(-3, 12), whole(-3, 12), normal(3, 4))
def dynamic_slices(x, i, j, update):
    return lax.dynamic_slice(x, (i, j), (3, 4)), lax.dynamic_update_slice(x, update, (i, j))


@program(normal(2, 9, 11, 3), normal(3, 3, 3, 5, scale=0.3))
def convolution(x, w):
    return lax.conv_general_dilated(x, w, (2, 1), ((1, 1), (0, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


@program(normal(2, 6, 17), normal(6, 1, 4, scale=0.5))
def convolution_depthwise(x, w):
    return lax.conv_general_dilated(x, w, (1,), ((3, 0),), dimension_numbers=("NCH", "OIH", "NCH"), feature_group_count=6)


@program(normal(1, 7, 7, 2), normal(2, 2, 2, 3))
def convolution_dilated(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), ((1, 0), (2, 1)), lhs_dilation=(2, 1), rhs_dilation=(1, 2), dimension_numbers=("NHWC", "HWIO", "NHWC"))


@program(normal(2, 8, 9, 3))
def pooling(x):
    window = (1, 3, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), "SAME"), lax.reduce_window(x, 0.0, lax.add, window, (1, 1, 1, 1), "VALID")


@program(normal(5, 12))
def cumulative(x):
    return jnp.cumsum(x, 1), jnp.cumsum(x, 0), lax.cummax(x, 1)


@program(normal(6, 15), whole(0, 5, 6, 15))
def sorting(x, keys):
    return jnp.sort(x, 1), lax.sort((keys, x), dimension=1, num_keys=1, is_stable=True)[1], lax.top_k(x, 4)[0], lax.top_k(x, 4)[1]


@program(normal(4), whole(1, 9))
def loop_while(x, count):
    return lax.while_loop(lambda s: s[0] < count, lambda s: (s[0] + 1, s[1] * 0.5 + jnp.sin(s[1])), (jnp.int32(0), x))


@program(normal(7, 3), normal(3))
def loop_scan(xs, start):
    def step(carry, x):
        carry = jnp.tanh(carry + x)
        return carry, carry * 2

    return lax.scan(step, start, xs)


@program(normal(11, 3, 8), normal(11, 3, 8), normal(11, 3, 8), normal(3, 24, 8, dtype=np.float16), normal(3, 24, 8, dtype=np.float16), whole(5, 8))
def decode_loop(queries, keys, values, old_keys, old_values, start):
    """Attention of eleven tokens one after another: over a filled cache, heads first, and over one that begins empty, slots first."""

    def attend(query, k, v, dims, allowed):
        scores = jnp.einsum(f"hd,{dims}->hs", query, k.astype(jnp.float32)) / np.float32(np.sqrt(8))
        scores = jnp.where(allowed, scores, jnp.float32(-1e30))
        return jnp.einsum(f"hs,{dims}->hd", jax.nn.softmax(scores, axis=-1), v.astype(jnp.float32))

    def step(t, state):
        filled_keys, filled_values, own_keys, own_values, out = state
        key, value, slots = keys[t], values[t], jnp.arange(24)
        filled_keys = lax.dynamic_update_slice(filled_keys, key[:, None].astype(jnp.float16), (0, start + t, 0))
        filled_values = lax.dynamic_update_slice(filled_values, value[:, None].astype(jnp.float16), (0, start + t, 0))
        own_keys = lax.dynamic_update_slice(own_keys, key[None], (t, 0, 0))
        own_values = lax.dynamic_update_slice(own_values, value[None], (t, 0, 0))
        filled = attend(queries[t], filled_keys, filled_values, "hsd", slots <= start + t)
        own = attend(queries[t], own_keys, own_values, "shd", slots <= t)
        return filled_keys, filled_values, own_keys, own_values, out.at[t].set(jnp.stack([filled, own]))

    empty = jnp.zeros((24, 3, 8), jnp.float32)
    filled_keys, _, own_keys, own_values, out = lax.fori_loop(0, 11, step, (old_keys, old_values, empty, empty, jnp.zeros((11, 2, 3, 8), jnp.float32)))
    return out, filled_keys, own_values


@program(whole(0, 4), normal(5))
def branches(index, x):
    return lax.switch(index, [lambda x: x + 1, lambda x: x * 2, lambda x: -x], x)


@program(truth(), normal(6), normal(6))
def condition(which, a, b):
    return lax.cond(which, lambda a, b: a + b, lambda a, b: a - b, a, b)


@program(normal(3, 4))
def iota_and_select(x):
    rows, columns = lax.broadcasted_iota(jnp.int32, (3, 4), 0), lax.broadcasted_iota(jnp.float32, (3, 4), 1)
    return jnp.where(rows % 2 == 0, x, columns), jnp.clip(x, -0.5, 0.5)


@program(normal(11), whole(-(2**31), 2**31 - 1, 11))
def bits(x, i):
    return lax.bitcast_convert_type(x, jnp.int32), lax.bitcast_convert_type(i, jnp.uint8), lax.reduce_precision(x, 5, 10)


@program(normal(13, scale=200), whole(-300, 300, 13), hostile(np.float16))
def conversions(x, i, h):
    return x.astype(jnp.int32), i.astype(jnp.int8), i.astype(jnp.float16), x.astype(jnp.float16), x.astype(jnp.bfloat16), h.astype(jnp.bfloat16), h.astype(jnp.float32)


@program(normal(3, 8, dtype=np.complex64), normal(3, 8))
def complex_numbers(z, x):
    return z * z, jnp.conj(z), z.real + z.imag, jnp.abs(z), lax.complex(x, -x), jnp.exp(z)


@program(normal(0, 5), normal(1, 1))
def empty_and_one(e, o):
    return e * 2, e.sum(0), o + 1, jnp.concatenate([e, jnp.ones((2, 5), jnp.float32)], 0)


@program(whole(0, 2**32, 2, dtype=np.uint32))
def random_bits(key):
    return jax.random.bits(jax.random.wrap_key_data(key, impl="threefry2x32"), (5, 3), jnp.uint32)


@program(normal(2, 12, 12, 3))
def vision_transformer(images):
    """Patches of 4 × 4, a class token, two pre-norm layers with merged projections, and a head; weights are constants of the program."""
    weights, hidden, heads, patch = np.random.default_rng(7), 24, 3, 4

    def weight(*shape):
        return jnp.asarray((weights.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def norm(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-6) * weight(hidden) + weight(hidden)

    batch, side, _, colours = images.shape
    grid = side // patch
    x = images.reshape(batch, grid, patch, grid, patch, colours).transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid * grid, patch * patch * colours)
    x = x @ weight(patch * patch * colours, hidden) + weight(hidden)
    x = jnp.concatenate([jnp.broadcast_to(weight(1, 1, hidden), (batch, 1, hidden)), x], axis=1) + weight(1, grid * grid + 1, hidden)
    for _ in range(2):
        q, k, v = jnp.split((norm(x) @ weight(hidden, 3 * hidden) + weight(3 * hidden)).reshape(batch, -1, 3 * heads, hidden // heads), 3, axis=2)
        p = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.float32((hidden // heads) ** 0.5), axis=-1)
        x = x + jnp.einsum("bhqk,bkhd->bqhd", p, v).reshape(x.shape) @ weight(hidden, hidden) + weight(hidden)
        x = x + jax.nn.gelu(norm(x) @ weight(hidden, 4 * hidden) + weight(4 * hidden), approximate=False) @ weight(4 * hidden, hidden) + weight(hidden)
    return norm(x)[:, 0] @ weight(hidden, 10)


def main() -> None:
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests" / "data" / "programs"
    out.mkdir(parents=True, exist_ok=True)
    for name, (function, makers) in PROGRAMS.items():
        random = np.random.default_rng(list(name.encode()))
        inputs = [np.asarray(make(random)) for make in makers]
        target, given = out / f"{name}.mlir", out / f"{name}.safetensors"
        target.write_text(jax.jit(function, keep_unused=True).lower(*inputs).as_text())
        safetensors.numpy.save_file({f"input.{i}": np.array(value, order="C") for i, value in enumerate(inputs)}, given)
        subprocess.run([sys.executable, ROOT / "scripts/oracle/run_jaxlib.py", target, "-o", given, "--inputs", given], check=True)
    print(f"programs: {len(PROGRAMS)} written to {out}")


if __name__ == "__main__":
    main()

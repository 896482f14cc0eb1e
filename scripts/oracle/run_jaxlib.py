"""Run a StableHLO program on random arguments with XLA's CPU backend and store arguments and results.

    python scripts/oracle/run_jaxlib.py FILE -o OUT.safetensors [--seed N] [--int-max N] [--scale X] [--weights W.safetensors] [--inputs IN.safetensors]

FILE is StableHLO text or a portable artifact whose entry function is @main with static shapes. OUT gets the tensors input.0, input.1, ...
and output.0, output.1, ... in the order of @main's signature. The metadata key "icd.oracle" tells program, seed and versions. An i4/ui4
value is stored as i8/u8. Argument i depends on the seed and i only:

    floats and complex   normal(0, 1) * SCALE (default 0.5), rounded to the element type
    i1                   0 or 1
    integers             uniform in [0, INT_MAX] (default 7), capped by what the type holds

--weights takes arguments from a safetensors file with the metadata key "icd.arguments" (see examples/minilm/export.py); --inputs takes those
that it has as input.N, for instance an OUT of an earlier run.
"""

import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import jaxlib  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import safetensors  # noqa: E402
import safetensors.numpy  # noqa: E402
from jax._src import xla_bridge  # noqa: E402
from jax._src.interpreters import mlir as jax_mlir  # noqa: E402
from jax._src.lib import xla_client  # noqa: E402
from jaxlib.mlir import ir  # noqa: E402
from jaxlib.mlir.dialects import func, stablehlo  # noqa: E402

FLOATS = {
    name: np.dtype(getattr(ml_dtypes, name, None) or getattr(np, name))
    for name in ["bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"]
}
ELEMENTS = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64", "f8E4M3FN": "float8_e4m3fn", "f8E5M2": "float8_e5m2"}
COMPLEX = {"complex<f32>": np.complex64, "complex<f64>": np.complex128}
STORED = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}


def numpy_type(element: ir.Type) -> np.dtype:
    text = str(element)
    if text in ELEMENTS:
        return FLOATS[ELEMENTS[text]]
    if text in COMPLEX:
        return np.dtype(COMPLEX[text])
    if text == "i1":
        return np.dtype(np.bool_)
    if text in ("i2", "ui2", "i4", "ui4"):
        return np.dtype(getattr(ml_dtypes, text.replace("i", "int")))
    if text.lstrip("ui") in ("8", "16", "32", "64"):
        return np.dtype(text.replace("i", "int"))
    sys.exit(f"error: no random values known for element type {text}")


def random_argument(kind: ir.Type, seed: int, index: int, int_max: int, scale: float) -> np.ndarray:
    tensor = ir.RankedTensorType(kind)
    if not tensor.has_static_shape:
        sys.exit(f"error: argument {index} has the dynamic type {tensor}: give the program static shapes")
    shape, dtype = tuple(tensor.shape), numpy_type(tensor.element_type)
    random = np.random.default_rng([seed, index])
    if dtype == np.bool_:
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "c":
        return ((random.standard_normal(shape) + 1j * random.standard_normal(shape)) * scale).astype(dtype)
    if dtype in FLOATS.values():
        return (random.standard_normal(shape) * scale).astype(dtype)
    top = min(int_max, int(ml_dtypes.iinfo(dtype).max))
    return random.integers(0, top + 1, shape).astype(dtype)


def read_module(path: pathlib.Path, context: ir.Context) -> ir.Module:
    data = path.read_bytes()
    if data.startswith(b"ML\xefR"):
        return stablehlo.deserialize_portable_artifact(context, data)
    return ir.Module.parse(data, context)


def entry_types(module: ir.Module) -> list[ir.Type]:
    for op in module.body.operations:
        if isinstance(op, func.FuncOp) and op.name.value == "main":
            return list(op.type.inputs)
    sys.exit("error: the program has no function @main")


def store(path: pathlib.Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    plain = {}
    for name, value in tensors.items():
        plain[name] = np.array(value, STORED.get(value.dtype.name, value.dtype), order="C")
    safetensors.numpy.save_file(plain, path, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--int-max", type=int, default=7)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--inputs", type=pathlib.Path)
    args = parser.parse_args()

    bound: dict[int, np.ndarray] = {}
    if args.weights:
        with safetensors.safe_open(args.weights, "np") as file:
            names = json.loads((file.metadata() or {}).get("icd.arguments", "[]"))
            bound.update({i: file.get_tensor(name) for i, name in enumerate(names) if name is not None})
    if args.inputs:
        given = safetensors.numpy.load_file(args.inputs)
        bound.update({int(name.removeprefix("input.")): value for name, value in given.items() if name.startswith("input.")})

    jax.config.update("jax_enable_x64", True)
    backend = xla_bridge.get_backend("cpu")
    with jax_mlir.make_ir_context() as context:
        module = read_module(args.file, context)
        kinds = entry_types(module)
        arguments = [
            bound[i].astype(numpy_type(ir.RankedTensorType(kind).element_type))
            if i in bound
            else random_argument(kind, args.seed, i, args.int_max, args.scale)
            for i, kind in enumerate(kinds)
        ]
        devices = xla_client.DeviceList(tuple(backend.local_devices()[:1]))
        executable = backend.compile_and_load(module, devices, xla_client.CompileOptions())
    buffers = [jax.device_put(value, backend.local_devices()[0]) for value in arguments]
    results = executable.execute_sharded(buffers).disassemble_into_single_device_arrays()
    outputs = [np.asarray(shards[0]) for shards in results]

    tensors = {f"input.{i}": value for i, value in enumerate(arguments)} | {f"output.{i}": value for i, value in enumerate(outputs)}
    origin = {"program": args.file.name, "seed": args.seed, "int_max": args.int_max, "scale": args.scale, "jaxlib": jaxlib.__version__}
    store(args.out, tensors, {"icd.oracle": json.dumps(origin)})
    print(f"run_jaxlib: {args.file.name}: {len(arguments)} arguments, {len(outputs)} results")


if __name__ == "__main__":
    main()

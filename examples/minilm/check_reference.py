"""Check reference.safetensors of an export against a second implementation: NumPy in float64, one sentence at a time, unpadded.

    python examples/minilm/check_reference.py OUT_DIR

Written from the description of the architecture, not from bert.py, and fed with the tokens only, so that padding, masking, transposes
and LayerNorm of the exported program are all checked. Exits 1 when an embedding differs by more than 2e-6 or a mask is no prefix.
"""

import math
import pathlib
import sys

import numpy as np
import safetensors.numpy

HEAD_SIZE = 32
erf = np.vectorize(math.erf)


def forward(w, tokens):
    layers = 1 + max(int(name.split(".")[2]) for name in w if name.startswith("encoder.layer."))

    def dense(name, x):
        return np.einsum("si,oi->so", x, w[name + ".weight"]) + w[name + ".bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * w[name + ".weight"] + w[name + ".bias"]

    x = w["embeddings.word_embeddings.weight"][tokens]
    x = norm("embeddings.LayerNorm", x + w["embeddings.position_embeddings.weight"][: len(tokens)] + w["embeddings.token_type_embeddings.weight"][0])
    for layer in range(layers):
        name = f"encoder.layer.{layer}."
        q, k, v = (dense(name + "attention.self." + part, x) for part in ("query", "key", "value"))
        rows = []
        for head in np.arange(q.shape[1]).reshape(-1, HEAD_SIZE):
            scores = q[:, head] @ k[:, head].T / math.sqrt(len(head))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            rows.append(scores / scores.sum(-1, keepdims=True) @ v[:, head])
        x = norm(name + "attention.output.LayerNorm", x + dense(name + "attention.output.dense", np.concatenate(rows, -1)))
        inner = dense(name + "intermediate.dense", x)
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(name + "output.LayerNorm", x + dense(name + "output.dense", inner))
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main():
    out = pathlib.Path(sys.argv[1])
    [model] = [path for path in out.glob("*.safetensors") if path.name != "reference.safetensors"]
    weights = {name: value.astype(np.float64) for name, value in safetensors.numpy.load_file(model).items()}
    reference = safetensors.numpy.load_file(out / "reference.safetensors")
    worst = 0.0
    for ids, mask, embedding in zip(reference["input_ids"], reference["attention_mask"], reference["embeddings"], strict=True):
        length = int(mask.sum())
        if not (mask[:length] == 1).all():
            sys.exit("error: a mask is no prefix of ones")
        worst = max(worst, float(np.abs(forward(weights, ids[:length]) - embedding).max()))
    embeddings = reference["embeddings"].astype(np.float64)
    similarity = embeddings @ embeddings.T - 2 * np.eye(len(embeddings))
    found = int((similarity.argmax(1) == (np.arange(len(embeddings)) ^ 1)).sum())
    print(f"check_reference: {len(embeddings)} sentences, largest difference to float64 {worst:.2e}, {found} find their paraphrase first")
    sys.exit(worst > 2e-6)


if __name__ == "__main__":
    main()

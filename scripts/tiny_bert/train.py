"""Train the small sentence encoder that the repository ships in tests/data/tiny-bert.

    python scripts/tiny_bert/train.py [OUT_DIR]

The student (2 layers, hidden 128, 4 heads, 384 word pieces) learns from all-MiniLM-L6-v2, whose cosine similarities it copies, on sentences
that grammar.py makes, and to find the paraphrase of a sentence in its batch. The 100 sentences of the reference are kept out of training.
Everything is seeded; a minute or two on a laptop. It stands in for MiniLM where no package index can be reached, and it is
small enough for tests.
"""

import argparse
import os
import pathlib
import random
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "minilm"))

import bert  # noqa: E402
import export  # noqa: E402
import grammar  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402
import tokenizers  # noqa: E402

HIDDEN, INNER, LAYERS, HEADS, PIECES, SEQ = 128, 128, 2, 4, 384, 32
PAIRS, HELD_OUT, STEPS, BATCH, SEED = 6000, 50, 2000, 48, 20


def train_tokenizer(sentences: list[str], path: pathlib.Path) -> None:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=PIECES, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False, limit_alphabet=40
    )
    tokenizer.train_from_iterator(sentences, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.save(str(path))


def initial_weights(generator: np.random.Generator) -> dict[str, np.ndarray]:
    weights = {}

    def dense(name, outputs, inputs):
        weights[f"{name}.weight"] = generator.normal(0, inputs**-0.5, (outputs, inputs))
        weights[f"{name}.bias"] = np.zeros(outputs)

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = np.ones(HIDDEN), np.zeros(HIDDEN)

    for table, rows in [("word", PIECES), ("position", SEQ), ("token_type", 1)]:
        weights[f"embeddings.{table}_embeddings.weight"] = generator.normal(0, 0.1, (rows, HIDDEN))
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{name}.attention.{part}", HIDDEN, HIDDEN)
        norm(f"{name}.attention.output.LayerNorm")
        dense(f"{name}.intermediate.dense", INNER, HIDDEN)
        dense(f"{name}.output.dense", HIDDEN, INNER)
        norm(f"{name}.output.LayerNorm")
    return {name: value.astype(np.float32) for name, value in weights.items()}


def teach(sentences: list[str]) -> np.ndarray:
    """Embeddings of all-MiniLM-L6-v2."""
    source = export.model_dir()
    config = bert.Config.read(source / "config.json")
    weights = safetensors.numpy.load_file(source / "model.safetensors")
    ids, mask = export.tokenize(source / "tokenizer.json", sentences, SEQ)
    run = jax.jit(lambda i, m: bert.embed(config, weights, i, m))
    return np.concatenate([np.asarray(run(ids[r : r + 125], mask[r : r + 125])) for r in range(0, len(ids), 125)])


def train(config: bert.Config, ids: np.ndarray, mask: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Adam on rows 2i, 2i+1 = a pair; returns the weights after the last step."""
    generator = np.random.default_rng(SEED)
    weights = initial_weights(generator)
    moments = jax.tree.map(lambda w: (np.zeros_like(w), np.zeros_like(w)), weights)

    def loss(weights, ids, mask, target):
        found = bert.embed(config, weights, ids, mask)
        similarity, wanted = found @ found.T, target @ target.T
        same = jnp.eye(len(ids), dtype=bool)
        scores = jnp.where(same, -1e9, similarity * 20)
        contrast = -jax.nn.log_softmax(scores)[jnp.arange(len(ids)), jnp.arange(len(ids)) ^ 1].mean()
        return jnp.square(similarity - wanted).mean() * 20 + 0.3 * contrast

    @jax.jit
    def step(weights, moments, ids, mask, target, count):
        value, gradients = jax.value_and_grad(loss)(weights, ids, mask, target)
        rate = 2e-3 * jnp.minimum(count / 100, 1) * 0.5 * (1 + jnp.cos(jnp.pi * count / STEPS))
        new_weights, new_moments = {}, {}
        for name, gradient in gradients.items():
            first, second = moments[name]
            first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * jnp.square(gradient)
            change = (first / (1 - 0.9**count)) / (jnp.sqrt(second / (1 - 0.99**count)) + 1e-8)
            new_weights[name], new_moments[name] = weights[name] - rate * change, (first, second)
        return new_weights, new_moments, value

    for count in range(1, STEPS + 1):
        pairs = generator.choice(len(ids) // 2, BATCH, replace=False)
        rows = np.stack([2 * pairs, 2 * pairs + 1], 1).ravel()
        weights, moments, value = step(weights, moments, ids[rows], mask[rows], targets[rows], float(count))
        if count % 200 == 0:
            print(f"step {count}: loss {float(value):.4f}", flush=True)
    return {name: np.asarray(value) for name, value in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path, nargs="?", default=ROOT / "tests" / "data" / "tiny-bert")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pairs = grammar.paraphrases(random.Random(SEED), PAIRS + HELD_OUT)
    sentences = [sentence for pair in pairs for sentence in pair]
    kept, trained = sentences[: 2 * HELD_OUT], sentences[2 * HELD_OUT :]
    (out / "sentences.txt").write_text("".join(line + "\n" for line in kept))
    train_tokenizer(trained, out / "tokenizer.json")
    config = bert.Config(layers=LAYERS, heads=HEADS, epsilon=1e-12)
    ids, mask = export.tokenize(out / "tokenizer.json", trained, SEQ)
    weights = train(config, ids, mask, teach(trained))
    export.write_model(out, "tiny-bert", config, weights, out / "tokenizer.json", out / "sentences.txt", argparse.Namespace(batch=1, seq=SEQ, dtype="f32"))
    found = safetensors.numpy.load_file(out / "reference.safetensors")["embeddings"]
    nearest = (found @ found.T - 2 * np.eye(len(found))).argmax(1)
    print(f"{(nearest == np.arange(len(found)) ^ 1).sum()} of {len(found)} held-out sentences find their paraphrase first")


if __name__ == "__main__":
    main()

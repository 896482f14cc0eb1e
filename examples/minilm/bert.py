"""A BERT encoder that returns one unit vector a sentence, in JAX.

Weights are a flat dict with the names of a BERT state dict, each matrix as [outputs, inputs]. Sources: Devlin et al.,
"BERT: Pre-training of Deep Bidirectional Transformers" (arXiv:1810.04805) for the encoder; Reimers and Gurevych, "Sentence-BERT"
(arXiv:1908.10084) for mean pooling.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the encoder; `epsilon` is that of LayerNorm."""

    layers: int
    heads: int
    epsilon: float

    @staticmethod
    def read(path: pathlib.Path) -> "Config":
        raw = json.loads(path.read_text())
        if raw["hidden_act"] != "gelu" or raw["position_embedding_type"] != "absolute":
            raise ValueError(f"{path}: only exact GELU and absolute positions are written down here")
        return Config(raw["num_hidden_layers"], raw["num_attention_heads"], raw["layer_norm_eps"])


def is_parameter(name: str) -> bool:
    """Whether a tensor of the state dict takes part in a sentence embedding (the classifier's pooler and the position index do not)."""
    return not name.startswith("pooler.") and not name.endswith("position_ids")


def layer_norm(x, weight, bias, epsilon):
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(axis=-1, keepdims=True)
    normal = (wide - mean) * jax.lax.rsqrt(variance + epsilon)
    return (normal * weight.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(config, weights, name, x, keep):
    batch, seq, hidden = x.shape
    size = hidden // config.heads

    def split(y):
        return y.reshape(batch, seq, config.heads, size).transpose(0, 2, 1, 3)

    query, key, value = (split(linear(weights, f"{name}.self.{part}", x)) for part in ("query", "key", "value"))
    scores = (query @ key.transpose(0, 1, 3, 2)).astype(jnp.float32) * (size**-0.5)
    scores = jnp.where(keep, scores, jnp.finfo(jnp.float32).min)
    context = jax.nn.softmax(scores, axis=-1).astype(x.dtype) @ value
    return linear(weights, f"{name}.output.dense", context.transpose(0, 2, 1, 3).reshape(batch, seq, hidden))


def embed(config: Config, weights, input_ids, attention_mask):
    """Unit vectors [batch, hidden] f32 for `input_ids` and `attention_mask`, both [batch, seq] i32 (mask: 1 a token, 0 padding)."""

    def norm(name, x):
        return layer_norm(x, weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], config.epsilon)

    seq = input_ids.shape[1]
    table = weights["embeddings.word_embeddings.weight"]
    x = jnp.take(table, input_ids, axis=0, mode="clip")
    x = x + weights["embeddings.position_embeddings.weight"][:seq] + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings", x)
    keep = (attention_mask != 0)[:, None, None, :]
    for layer in range(config.layers):
        name = f"encoder.layer.{layer}"
        x = norm(f"{name}.attention.output", x + attention(config, weights, f"{name}.attention", x, keep))
        inner = jax.nn.gelu(linear(weights, f"{name}.intermediate.dense", x), approximate=False)
        x = norm(f"{name}.output", x + linear(weights, f"{name}.output.dense", inner))
    mask = attention_mask.astype(jnp.float32)[:, :, None]
    mean = (x.astype(jnp.float32) * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1.0)
    return mean / jnp.maximum(jnp.sqrt(jnp.square(mean).sum(axis=-1, keepdims=True)), 1e-12)

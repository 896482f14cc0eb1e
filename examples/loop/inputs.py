"""Token ids and masks of sentences, as the inputs that `icd run` and `icd-calibrate` take: inputs.py MODEL_DIR SENTENCES OUT.safetensors [LENGTH]

MODEL_DIR holds tokenizer.json. Each sentence is one sample of shape [1, LENGTH], by default 64 tokens, as the demo exports the model.
"""

import pathlib
import sys

import numpy as np
import safetensors.numpy
from tokenizers import Tokenizer


def main(model: str, sentences: str, out: str, length: str = "64") -> None:
    tokenizer = Tokenizer.from_file(str(pathlib.Path(model) / "tokenizer.json"))
    tokenizer.enable_truncation(int(length))
    tokenizer.enable_padding(length=int(length))
    lines = [line for line in pathlib.Path(sentences).read_text().splitlines() if line.strip()]
    encoded = tokenizer.encode_batch(lines)
    stack = lambda rows: np.array(rows, np.int32)[:, None, :]
    inputs = {"input.0": stack([e.ids for e in encoded]), "input.1": stack([e.attention_mask for e in encoded])}
    safetensors.numpy.save_file(inputs, out)


if len(sys.argv) not in (4, 5):
    sys.exit(__doc__)
main(*sys.argv[1:])

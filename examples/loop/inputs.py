"""Token ids and masks of sentences, as the inputs that `icd run` and `icd-calibrate` take.

    inputs.py MODEL_DIR SENTENCES OUT.safetensors [--length 64] [--batch 1]

MODEL_DIR holds tokenizer.json. Samples are of shape [batch, length], as the model was exported; sentences that fill no whole batch are left out.
"""

import argparse
import pathlib

import numpy as np
import safetensors.numpy
from tokenizers import Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("sentences", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--length", type=int, default=64, help="tokens a sentence, padded or truncated")
    parser.add_argument("--batch", type=int, default=1, help="sentences a sample")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.enable_truncation(args.length)
    tokenizer.enable_padding(length=args.length)
    lines = [line for line in args.sentences.read_text().splitlines() if line.strip()]
    encoded = tokenizer.encode_batch(lines[: len(lines) // args.batch * args.batch])
    stack = lambda rows: np.array(rows, np.int32).reshape(-1, args.batch, args.length)
    inputs = {"input.0": stack([e.ids for e in encoded]), "input.1": stack([e.attention_mask for e in encoded])}
    safetensors.numpy.save_file(inputs, args.out)


main()

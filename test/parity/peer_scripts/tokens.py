"""Tokenize captions with open_clip_torch: JSON list of {name, texts, options, context_length, seed} to npz by name."""

import json
import random
import sys

import numpy as np
import torch

from open_clip.tokenizer import SimpleTokenizer


def main(asked: str, answered: str) -> None:
    torch.set_num_threads(1)
    answers = {}
    with open(asked) as file:
        requests = json.load(file)
    for request in requests:
        tokenizer = SimpleTokenizer(**request["options"])
        random.seed(request["seed"])
        torch.manual_seed(request["seed"])
        ids = tokenizer(request["texts"], request["context_length"]).numpy()
        answers[request["name"]] = ids.astype(np.int32)
        if request["decode"]:
            decoded = [tokenizer.decode(row) for row in ids]
            answers[request["name"] + "_text"] = np.frombuffer(json.dumps(decoded).encode(), np.uint8)
    np.savez(answered, **answers)


main(*sys.argv[1:])

"""Tokenize captions with open_clip_torch's tokenizers of other models.

JSON list of {name, kind, texts, context_length, options}, kind HFTokenizer, SigLipTokenizer or get_tokenizer, to npz
by name.
"""

import json
import sys
from functools import partial

import numpy as np
import torch
import transformers

import open_clip
from open_clip import tokenizer as peer

# Late versions of 4 leave out the space before the first word unless it is asked for; 4.38 always has it.
transformers.T5TokenizerFast = partial(transformers.T5TokenizerFast, add_prefix_space=True)
transformers.logging.set_verbosity_error()


def main(asked: str, answered: str) -> None:
    torch.set_num_threads(1)
    answers = {}
    with open(asked) as file:
        requests = json.load(file)
    for request in requests:
        make = open_clip.get_tokenizer if request["kind"] == "get_tokenizer" else getattr(peer, request["kind"])
        ids = make(**request["options"])(request["texts"], request["context_length"])
        answers[request["name"]] = ids.numpy().astype(np.int32)
    np.savez(answered, **answers)


main(*sys.argv[1:])

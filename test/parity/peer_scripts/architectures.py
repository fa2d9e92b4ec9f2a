"""Build models by name on the meta device: JSON {names} to npz, by name a JSON text of what they are made of."""

import json
import sys
import warnings

import numpy as np
import torch

import open_clip


def describe(name):
    with torch.device("meta"):
        model = open_clip.create_model(name, device="meta", load_weights=False, pretrained_text=False)
    size = model.visual.image_size
    return {
        "class": type(model).__name__,
        "tower": type(model.visual).__name__,
        "image_size": size if isinstance(size, int) else list(size),
        "context_length": model.context_length,
        "parameters": [[key, list(value.shape)] for key, value in model.named_parameters()],
        "state": [[key, list(value.shape)] for key, value in model.state_dict().items()],
        "config": open_clip.get_model_config(name),
    }


def main(asked, answered):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    found = {name: describe(name) for name in request["names"]}
    np.savez(answered, **{name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])

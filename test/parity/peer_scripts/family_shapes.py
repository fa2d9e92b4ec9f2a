"""Build models on the meta device: JSON {folder, names, options} to npz, a JSON text of {parameter: shape} by name."""

import json
import sys

import numpy as np
import torch

import open_clip


def shapes(name, options):
    with torch.device("meta"):
        model = open_clip.create_model(name, pretrained_text=False, device="meta", **options)
    entries = {key: list(value.shape) for key, value in model.state_dict().items()}
    return {"class": type(model).__name__, "image_size": list(model.visual.image_size), "entries": entries}


def main(asked, answered):
    torch.set_num_threads(1)
    with open(asked) as file:
        request = json.load(file)
    if request.get("folder"):
        open_clip.add_model_config(request["folder"])
    answers = {}
    for name in request["names"]:
        answers[name] = np.frombuffer(json.dumps(shapes(name, request.get("options", {}))).encode(), np.uint8)
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Load weights of other projects: JSON {folder, towers, cases} to npz, a JSON text of {entry: digest} and the features.

``towers`` are the arguments of ``register_tiny_siglip``, ``cases`` are {label: [model, path, options]}.
"""

import hashlib
import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

import open_clip


def answer(name, path, options):
    model = open_clip.create_model(name, pretrained=path, **options).eval()
    digests = {key: digest(value) for key, value in model.state_dict().items()}
    torch.manual_seed(31)
    size = model.visual.image_size
    image = torch.randn(2, 3, *(size if isinstance(size, tuple | list) else (size, size)))
    tower = getattr(model, "text", model)
    text = torch.randint(1, tower.vocab_size, (2, tower.context_length))
    with torch.no_grad():
        features = torch.cat([model.encode_image(image, normalize=True), model.encode_text(text, normalize=True)])
    return np.frombuffer(json.dumps(digests).encode(), np.uint8), features.numpy()


def digest(tensor):
    content = tensor.contiguous().numpy()
    return f"{content.dtype}{content.shape}{hashlib.sha256(content.tobytes()).hexdigest()}"


def load_support():
    path = Path(__file__).parents[2] / "support" / "foreign_weights.py"
    spec = importlib.util.spec_from_file_location("foreign_layouts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(asked, answered):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    support = load_support()
    for tower in request["towers"]:
        support.register_tiny_siglip(*tower)
    open_clip.add_model_config(request["folder"])
    answers = {}
    for label, (name, path, options) in request["cases"].items():
        answers[f"{label} weights"], answers[f"{label} features"] = answer(name, path, options)
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

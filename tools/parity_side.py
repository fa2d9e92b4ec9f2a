"""Run models over images and captions with whichever open_clip is importable: JSON request to npz answer.

`parity_table.py` runs this file twice, once for each package; it knows neither of them.
"""

import hashlib
import json
import sys
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image

import open_clip

# Upstream leaves this one as the memory happened to be; there is nothing to compare it with.
UNINITIALISED = "text_decoder.text_projection"


def hash_weights(model: torch.nn.Module) -> np.ndarray:
    """Hash names and values of all weights, for a comparison to the last bit."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if name == UNINITIALISED:
            continue
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def hash_shapes(model: torch.nn.Module) -> np.ndarray:
    """Hash names, shapes and order of all weights, for models too large to be run here."""
    entries = [f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items()]
    return np.frombuffer(hashlib.sha256("\n".join(entries).encode()).digest(), np.uint8)


def sample_gradients(model: torch.nn.Module) -> np.ndarray:
    """Take about a thousand values of each gradient, in parts of the largest value of its tensor.

    A tensor whose gradients are nought but for rounding is measured by a ten thousandth of the largest of all.
    """
    gradients = [p.grad for name, p in model.named_parameters() if p.grad is not None and name != UNINITIALISED]
    floor = 1e-4 * max(float(gradient.abs().max()) for gradient in gradients)
    parts = []
    for gradient in gradients:
        values = gradient.flatten()
        parts.append(values[:: max(1, len(values) // 1000)] / max(float(values.abs().max()), floor))
    return torch.cat(parts).numpy()


def answer(case: dict[str, Any], paths: list[str], captions: list[str]) -> dict[str, np.ndarray]:
    """Build one model from a seed and give its pixels, token ids, features and gradients, or its shapes alone."""
    name = case["model"]
    if case["kind"] == "shapes":
        with torch.device("meta"):
            return {"shapes": hash_shapes(open_clip.create_model(name, device="meta", load_weights=False))}
    torch.manual_seed(case["seed"])
    made: Any = open_clip.create_model_and_transforms(name, pretrained_text=False)
    model, transform = made[0].eval(), made[2]
    images = []
    for path in paths:
        with Image.open(path) as opened:
            images.append(transform(opened))
    found = {"weights": hash_weights(model), "pixels": torch.stack(images).numpy()}
    if case["kind"] == "run":
        tokens = open_clip.get_tokenizer(name)(captions)
        found["tokens"] = tokens.numpy()
    else:
        # Its tokenizer's files are on the hub, so the text is any ids.
        tokens = torch.randint(3, 90, (len(captions), min(model.context_length or 16, 64)))
    image, text = (
        torch.nn.functional.normalize(features, dim=-1)
        for features in (model.encode_image(torch.stack(images)), model.encode_text(tokens))
    )
    (image.sin().sum() + text.sin().sum()).backward()  # type: ignore[no-untyped-call]
    return found | {
        "image": image.detach().numpy(),
        "text": text.detach().numpy(),
        "gradients": sample_gradients(model),
    }


def main(asked: str, answered: str) -> None:
    """Answer every case of the request."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    open_clip.add_model_config(request["configs"])
    answers: dict[str, Any] = {}
    for case in request["cases"]:
        found = answer(case, request["images"], request["captions"])
        answers |= {f"{case['model']}/{key}": value for key, value in found.items()}
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

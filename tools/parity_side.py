"""Run models over pictures and captions with whichever open_clip is importable: JSON request to npz answer.

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


def answer(case: dict[str, Any], pictures: list[str], captions: list[str]) -> dict[str, np.ndarray]:
    """Build one model from a seed and give its pixels, token ids and features."""
    torch.manual_seed(case["seed"])
    made: Any = open_clip.create_model_and_transforms(case["model"], pretrained_text=False)
    model, transform = made[0].eval(), made[2]
    images = []
    for path in pictures:
        with Image.open(path) as picture:
            images.append(transform(picture))
    pixels, tokens = torch.stack(images), open_clip.get_tokenizer(case["model"])(captions)
    with torch.inference_mode():
        image_features, text_features = model.encode_image(pixels), model.encode_text(tokens)
    return {
        "weights": hash_weights(model),
        "pixels": pixels.numpy(),
        "tokens": tokens.numpy(),
        "image": torch.nn.functional.normalize(image_features, dim=-1).numpy(),
        "text": torch.nn.functional.normalize(text_features, dim=-1).numpy(),
    }


def main(asked: str, answered: str) -> None:
    """Answer every case of the request."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    answers: dict[str, Any] = {}
    for case in request["cases"]:
        found = answer(case, request["pictures"], request["captions"])
        answers |= {f"{case['model']}/{key}": value for key, value in found.items()}
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

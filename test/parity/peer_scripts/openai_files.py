"""Load weights in OpenAI's layout: JSON {files: {label: path}} to npz by label: features and what was made of them."""

import json
import sys
import warnings

import numpy as np
import torch

import open_clip


def answer(path, precision):
    model = open_clip.load_openai_model(path, precision=precision, device="cpu")
    size = model.visual.image_size
    shape = (3, size, size) if isinstance(size, int) else (3, *size)
    torch.manual_seed(5)
    image, text = torch.randn(2, *shape), torch.randint(1, 598, (2, model.context_length))
    text[:, 5] = 599
    with torch.no_grad():
        image_features = model.encode_image(image.to(model.visual.conv1.weight.dtype))
        text_features = model.encode_text(text)
    kinds = {str(value.dtype) for value in model.parameters()}
    return {
        "image": image_features.float().numpy(),
        "text": text_features.float().numpy(),
        "kinds": np.array(sorted(kinds)),
        "size": np.array(shape),
        "training": np.array(model.training),
    }


def main(asked, answered):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    answers = {"names": np.array(open_clip.list_openai_models())}
    for label, path in request["files"].items():
        for precision in ("fp32", "bf16"):
            answers |= {f"{label}-{precision}/{key}": value for key, value in answer(path, precision).items()}
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

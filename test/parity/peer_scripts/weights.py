"""Exchange weights with open_clip_torch: JSON {folder, name, write, read, script} to npz.

Writes its own weights to ``write`` in several layouts, then loads each case of ``read`` and answers with its features.
"""

import json
import sys
import warnings

import numpy as np
import torch

import open_clip


def features(model, seed=5):
    torch.manual_seed(seed)
    image = torch.randn(2, 3, *model.visual.image_size)
    text = torch.randint(1, 598, (2, model.context_length))
    text[:, 5], text[:, 6:] = 599, 0
    with torch.no_grad():
        image_features, text_features, scale = model.eval()(image, text)[:3]
    return np.concatenate([image_features.numpy(), text_features.numpy(), scale.expand(1, 64).numpy()])


def write_layouts(name, paths):
    torch.manual_seed(11)
    model = open_clip.create_model(name)
    state = model.state_dict()
    torch.save(state, paths["plain"])
    wrapped = {f"module.{key}": value for key, value in state.items()}
    optimizer = torch.optim.AdamW(model.parameters())
    torch.save(
        {"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": optimizer.state_dict()}, paths["trainer"]
    )
    sizes = {"input_resolution": 32, "context_length": 16, "vocab_size": 600}
    torch.save(state | {key: torch.tensor(value) for key, value in sizes.items()}, paths["openai"])
    image, text = torch.ones(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.int)
    traced = torch.jit.trace_module(
        model.eval(),
        {"forward": (image, text), "encode_text": (text,), "encode_image": (image,)},
        check_trace=False,
    )
    torch.jit.save(traced, paths["script"])
    return features(model)


def main(asked, answered):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(asked) as file:
        request = json.load(file)
    open_clip.add_model_config(request["folder"])
    answers = {}
    if "write" in request:
        answers["written"] = write_layouts(request["name"], request["write"])
    for label, case in request["read"].items():
        model = open_clip.create_model(case["name"], pretrained=case["path"], **case["options"])
        answers[label] = features(model)
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

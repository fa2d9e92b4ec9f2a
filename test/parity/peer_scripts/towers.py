"""Build models with open_clip_torch and run them: JSON {folder, cases} to npz by case name.

A case is {name, options, lock, precision}; ``folder`` holds its configuration as NAME.json. Each answer holds the first
weights (``NAME/state/KEY``), then, after the same small change to all of them, features, logits and gradients.
"""

import json
import sys

import numpy as np
import torch

import open_clip


def build(case):
    torch.manual_seed(1)
    return open_clip.create_model(case["name"], **case.get("options", {}))


def answer(case):
    model = build(case)
    answers = {f"state/{key}": value.float().numpy().copy() for key, value in model.state_dict().items()}
    answers["parameters"] = np.array([name for name, _ in model.named_parameters()])
    size = model.visual.image_size
    is_resnet = isinstance(size, int)
    height, width = (size, size) if is_resnet else size
    torch.manual_seed(5)
    image = torch.randn(3, 3, height, width)
    text = torch.randint(1, 598, (3, model.context_length))
    text[:, 5], text[:, 6:] = 599, 0
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape) * 0.02
    model.train(case.get("train", False))
    torch.manual_seed(7)
    image_features, text_features = model.encode_image(image), model.encode_text(text)
    answers["image"], answers["text"] = image_features.detach().numpy(), text_features.detach().numpy()
    (image_features.sin().sum() + text_features.sin().sum()).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            answers[f"gradient/{name}"] = parameter.grad.numpy()
    if image_features.dim() == 2 and not case.get("train"):
        with torch.no_grad():
            answers["logits"] = model.get_logits(image, text)[0].numpy()
            found = model.forward_intermediates(image, text, image_indices=[0, -1], output_logits=True)
            last = model.forward_intermediates(
                image,
                text,
                image_indices=1,
                text_indices=[0],
                stop_early=True,
                normalize_intermediates=case["name"] != "attention-pool-narrow",
                image_output_fmt="NCHW" if is_resnet else "NLC",
                image_output_extra_tokens=True,
                text_output_extra_tokens=True,
            )
        for label, output in (("all", found), ("early", last)):
            for key, value in output.items():
                for index, item in enumerate(value if isinstance(value, list) else [value]):
                    answers[f"{label}/{key}/{index}"] = item.numpy()
    for unlocked in range(1 if is_resnet else 6):
        model.requires_grad_(True)
        model.lock_image_tower(unlocked)
        model.lock_text_tower(unlocked)
        answers[f"trainable/{unlocked}"] = np.array([n for n, p in model.named_parameters() if p.requires_grad])
    if is_resnet:
        model.lock_image_tower(freeze_bn_stats=True)
        answers["frozen"] = np.array(list(model.state_dict()))
        with torch.no_grad():
            answers["image/frozen"] = model.encode_image(image).numpy()
    answers["no_decay"] = np.array(sorted(model.no_weight_decay()))
    return answers


def main(asked, answered):
    torch.set_num_threads(1)
    with open(asked) as file:
        request = json.load(file)
    open_clip.add_model_config(request["folder"])
    answers = {}
    for case in request["cases"]:
        for key, value in answer(case).items():
            answers[f"{case['label']}:{key}"] = value
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

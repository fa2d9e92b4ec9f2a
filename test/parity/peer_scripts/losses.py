"""Answer with upstream's losses and their gradients for the features it is asked about."""

import json
import sys

import numpy as np
import torch

from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss

asked, answered = sys.argv[1:]
torch.set_num_threads(1)
with open(asked) as file:
    request = json.load(file)
given = np.load(request["features"])
answers = {}
for name, loss in (("clip", ClipLoss()), ("distill", DistillClipLoss()), ("siglip", SigLipLoss())):
    leaves = [torch.from_numpy(given[key]).requires_grad_() for key in ("images", "texts", "scale")]
    others = [torch.from_numpy(given[key]) for key in ("images_2", "texts_2", "scale")]
    if name == "siglip":
        leaves.append(torch.from_numpy(given["bias"]).requires_grad_())
    values = loss(*leaves, *(others if name == "distill" else []))
    values = values if isinstance(values, tuple) else (values,)
    sum(values).backward()
    for number, value in enumerate(values):
        answers[f"{name}_{number}"] = value.detach().numpy()
    for key, leaf in zip(("images", "texts", "scale", "bias"), leaves, strict=False):
        answers[f"{name}_{key}"] = leaf.grad.numpy()
np.savez(answered, **answers)

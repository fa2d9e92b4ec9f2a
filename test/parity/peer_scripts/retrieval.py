"""Answer with upstream's retrieval metrics of features drawn from a seed. Run by `peer.run_peer`, never imported."""

import json
import sys

import numpy as np
import torch
from open_clip_train.train import get_clip_metrics

with open(sys.argv[1]) as file:
    request = json.load(file)
generator = torch.Generator().manual_seed(request["seed"])
images = torch.randn(request["rows"], request["width"], generator=generator)
texts = images + request["noise"] * torch.randn(request["rows"], request["width"], generator=generator)
images, texts = (torch.nn.functional.normalize(one, dim=-1) for one in (images, texts))
metrics = get_clip_metrics(images, texts, torch.tensor(20.0))
np.savez(sys.argv[2], **{name: np.array(value) for name, value in metrics.items()})

"""Answer with upstream's retrieval metrics of features drawn from a seed. Run by `peer.run_peer`, never imported."""

import functools
import json
import sys

import numpy as np
import torch

from open_clip_train.train import get_clip_metrics

with open(sys.argv[1]) as file:
    request = json.load(file)
generator = torch.Generator().manual_seed(request["seed"])
rows, width, captions_each = request["rows"], request["width"], request["captions_each"]
if captions_each == 1:
    images = torch.randn(rows, width, generator=generator)
    texts = images + request["noise"] * torch.randn(rows, width, generator=generator)
    images, texts = (torch.nn.functional.normalize(one, dim=-1) for one in (images, texts))
else:
    # The one change that upstream's HEAD makes to these ranks: ties keep their order whatever sort a torch uses.
    torch.argsort = functools.partial(torch.argsort, stable=True)
    images = torch.randint(-2, 3, (rows // captions_each, width), generator=generator).float()
    images = images.repeat_interleave(captions_each, dim=0)
    texts = torch.randint(-2, 3, (rows, width), generator=generator).float() + images
metrics = get_clip_metrics(images, texts, torch.tensor(20.0))
np.savez(sys.argv[2], **{name: np.array(value) for name, value in metrics.items()})

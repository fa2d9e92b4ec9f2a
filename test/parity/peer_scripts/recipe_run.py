"""Train with the peer's own trainer on rows in a given order; answers with each step's losses, metrics and weights."""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import torch

import open_clip
import open_clip_train.data
import open_clip_train.main as program

asked, answered = sys.argv[1:]
request = json.loads(Path(asked).read_text())
torch.set_num_threads(1)
for config in request["configs"]:
    open_clip.add_model_config(config)


class GivenOrder(torch.utils.data.Sampler):
    """One given order an epoch."""

    def __init__(self, orders):
        self.orders = iter(orders)
        self.length = len(orders[0])

    def __iter__(self):
        return iter(next(self.orders))

    def __len__(self):
        return self.length


plain_loader, plain_loss = open_clip_train.data.DataLoader, program.create_loss
records = []


@functools.wraps(plain_loader)
def loader(dataset, shuffle=False, sampler=None, **options):
    if shuffle:
        shuffle, sampler = False, GivenOrder(request["orders"])
    return plain_loader(dataset, shuffle=shuffle, sampler=sampler, **options)


def recording_loss(args):
    loss = plain_loss(args)
    loss.register_forward_hook(lambda _, __, losses: records.append({k: float(v) for k, v in losses.items()}))
    return loss


open_clip_train.data.DataLoader = loader
program.create_loss = recording_loss
program.main(request["flags"])
# Of an accumulated step, each pass sees the whole loss.
steps = records[request["passes"] - 1 :: request["passes"]]
answer = {name: np.array([step[name] for step in steps]) for name in steps[0]}
weights = torch.load(request["checkpoint"], map_location="cpu", weights_only=True)["state_dict"]
results = Path(request["checkpoint"]).with_name("results.jsonl").read_text().splitlines()
for name, value in json.loads(results[-1]).items():
    answer[f"metric/{name}"] = np.array(value)
np.savez(answered, **answer, **{f"weight/{name}": value.numpy() for name, value in weights.items()})

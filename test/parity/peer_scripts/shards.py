"""Answer with what the peer's streaming data functions make of lists of shards: names, draws, orders, sizes."""

import inspect
import json
import sys
from types import SimpleNamespace

import numpy as np
import torch

import open_clip_train.data as data

asked, answered = sys.argv[1:]
with open(asked) as file:
    request = json.load(file)
arrays = {}
for number, (urls, weights) in enumerate(request["lists"]):
    names, factors = data.expand_urls(urls, weights)
    arrays[f"names_{number}"] = np.array(names)
    arrays[f"factors_{number}"] = np.array([] if factors is None else factors)
for number, urls in enumerate(request["sizes"]):
    size, count = data.get_dataset_size(urls)
    arrays[f"size_{number}"] = np.array([-1 if size is None else size, count])
for number, (urls, weights, epoch) in enumerate(request["draws"]):
    shards = data.ResampledShards2(urls, weights, nshards=50, deterministic=True, epoch=data.SharedEpoch(epoch))
    arrays[f"draws_{number}"] = np.array([shard["url"] for shard in shards])
for number, (bufsize, initial, seed, epoch, count) in enumerate(request["shuffles"]):
    stage = data.detshuffle2(bufsize, initial, seed=seed, epoch=data.SharedEpoch(epoch))
    arrays[f"shuffle_{number}"] = np.array(list(stage.run(iter(range(count)))))
data._SAMPLE_SHUFFLE_SIZE = data._SAMPLE_SHUFFLE_INITIAL = 1
for number, (settings, is_train, epoch, floor) in enumerate(request["loaders"]):
    torch.manual_seed(settings["seed"])
    args = SimpleNamespace(**settings)
    info = data.get_wds_dataset(
        args,
        lambda image: torch.tensor(image.getpixel((0, 0))),
        is_train=is_train,
        epoch=epoch,
        floor=floor,
        tokenizer=lambda text: [text],
    )
    arrays[f"counts_{number}"] = np.array([info.dataloader.num_batches, info.dataloader.num_samples])
    images, texts = zip(*info.dataloader, strict=True)
    arrays[f"images_{number}"] = torch.cat(images).numpy()
    arrays[f"texts_{number}"] = np.array([text for batch in texts for text in batch])
    arrays[f"batches_{number}"] = np.array([len(batch) for batch in texts])
for name in request["signatures"]:
    parameters = inspect.signature(getattr(data, name)).parameters.values()
    written = [f"{item.name}={getattr(item.default, '__name__', item.default)}" for item in parameters]
    arrays[f"signature_{name}"] = np.array(written)
np.savez(answered, **arrays)

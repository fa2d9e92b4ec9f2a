import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import open_clip_train.data
from peer import needs_peer, run_peer
from shard_sets import write_shards
from training.data import (
    ResampledShards2,
    SharedEpoch,
    detshuffle2,
    expand_urls,
    get_dataset_size,
    get_wds_dataset,
)
from training.data.upstream import streaming

pytestmark = needs_peer
OFFERED = [
    "get_data",
    "get_wds_dataset",
    "get_csv_dataset",
    "get_synthetic_dataset",
    "get_dataset_fn",
    "get_imagenet",
    "get_dataset_size",
    "count_samples",
    "CsvDataset",
    "SyntheticDataset",
    "SharedEpoch",
    "DataInfo",
    "ResampledShards2",
    "detshuffle2",
    "expand_urls",
    "filter_no_caption_or_no_image",
    "log_and_continue",
    "group_by_keys_nothrow",
    "tarfile_to_samples_nothrow",
    "pytorch_worker_seed",
]
SETTINGS = {
    "train_num_samples": 40,
    "val_num_samples": None,
    "train_data_upsampling_factors": None,
    "dataset_resampled": False,
    "batch_size": 4,
    "workers": 0,
    "world_size": 1,
    "seed": 0,
}


def make_request(folder):
    names = f"{write_shards(folder / 'many', [7, 3, 9, 5, 8, 6])}/{{00000..00005}}.tar"
    (folder / "many" / "sizes.json").write_text(json.dumps({f"{number:05d}.tar": number + 5 for number in range(6)}))
    two = f"{folder}/many/{{00000..00001}}.tar::{folder}/many/00003.tar"
    write_shards(folder / "one", [1])
    (folder / "one" / "__len__").write_text("123")
    lists = [
        ("a.tar", None),
        ("{0..3}{a,b}::{08..11}.tar::c{x}", None),
        ("{0..2}::b", "2::0.5"),
        (["x", "y{1..2}"], None),
    ]
    loaders = []
    for change, is_train, epoch, floor in (
        ({}, True, 0, False),
        ({"seed": 5}, True, 3, True),
        ({"workers": 2, "train_num_samples": 37}, True, 1, False),
        ({"workers": 2, "dataset_resampled": True, "seed": 9}, True, 2, False),
        ({"dataset_resampled": True, "train_num_samples": None}, True, 0, False),
        ({"dataset_resampled": True, "train_data_upsampling_factors": "1::4", "train_data": two}, True, 1, False),
        ({"world_size": 3}, True, 0, False),
        ({"val_num_samples": 38}, False, 0, False),
        ({"workers": 2}, False, 0, False),
    ):
        loaders.append((SETTINGS | {"train_data": names, "val_data": names} | change, is_train, epoch, floor))
    return {
        "lists": lists,
        "sizes": [names, two, f"{folder}/one/00000.tar", "/no/such/{000..010}.tar", ["/a.tar", "/b.tar"]],
        "draws": [(lists[1][0], None, 0), (lists[1][0], None, 7), (lists[2][0], "1::3", 2), (["p", "q"], None, 1)],
        "shuffles": [(10, 4, 0, 0, 100), (2000, 500, 3, 2, 1000), (1000, 100, 11, 0, 3), (5, 50, -1, 6, 40)],
        "loaders": loaders,
        "signatures": OFFERED,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    request = make_request(folder)
    return request, run_peer("shards", request, folder)


@pytest.mark.parametrize("name", OFFERED)
def test_parameters_and_defaults_of_the_data_functions_are_those_of_the_peer(both, name):
    parameters = inspect.signature(getattr(open_clip_train.data, name)).parameters.values()
    written = [f"{item.name}={getattr(item.default, '__name__', item.default)}" for item in parameters]
    assert written == both[1][f"signature_{name}"].tolist()


def test_lists_of_shards_are_those_of_the_peer(both):
    request, theirs = both
    for number, (urls, weights) in enumerate(request["lists"]):
        names, factors = expand_urls(urls, weights)
        assert names == theirs[f"names_{number}"].tolist()
        assert list(factors or ()) == theirs[f"factors_{number}"].tolist()


def test_sizes_of_data_sets_are_those_of_the_peer(both):
    request, theirs = both
    for number, urls in enumerate(request["sizes"]):
        size, count = get_dataset_size(urls)
        assert [-1 if size is None else size, count] == theirs[f"size_{number}"].tolist()


def test_drawn_shards_are_those_of_the_peer(both):
    request, theirs = both
    for number, (urls, weights, epoch) in enumerate(request["draws"]):
        shards = ResampledShards2(urls, weights, nshards=50, deterministic=True, epoch=SharedEpoch(epoch))
        assert [shard["url"] for shard in shards] == theirs[f"draws_{number}"].tolist()


def test_shuffled_streams_are_those_of_the_peer(both):
    request, theirs = both
    for number, (bufsize, initial, seed, epoch, count) in enumerate(request["shuffles"]):
        stage = detshuffle2(bufsize, initial, seed=seed, epoch=SharedEpoch(epoch))
        assert list(stage.run(iter(range(count)))) == theirs[f"shuffle_{number}"].tolist()


@pytest.mark.parametrize("number", range(9))
def test_batches_of_a_stream_are_those_of_the_peer_sample_by_sample(both, number, monkeypatch):
    """Without the buffer of samples, which the peer seeds from the clock."""
    monkeypatch.setattr(streaming, "_SAMPLE_SHUFFLE_SIZE", 1)
    monkeypatch.setattr(streaming, "_SAMPLE_SHUFFLE_INITIAL", 1)
    request, theirs = both
    settings, is_train, epoch, floor = request["loaders"][number]
    torch.manual_seed(settings["seed"])
    info = get_wds_dataset(
        SimpleNamespace(**settings),
        lambda image: torch.tensor(image.getpixel((0, 0))),
        is_train=is_train,
        epoch=epoch,
        floor=floor,
        tokenizer=lambda text: [text],
    )
    counts = [info.dataloader.num_batches, info.dataloader.num_samples]
    images, texts = zip(*info.dataloader, strict=True)
    assert counts == theirs[f"counts_{number}"].tolist()
    assert [len(batch) for batch in texts] == theirs[f"batches_{number}"].tolist()
    assert [text for batch in texts for text in batch] == theirs[f"texts_{number}"].tolist()
    np.testing.assert_array_equal(torch.cat(images).numpy(), theirs[f"images_{number}"])

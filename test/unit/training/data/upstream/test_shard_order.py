import random
from itertools import islice

import pytest

from training.data import ResampledShards2, SharedEpoch, detshuffle2, pytorch_worker_seed
from training.data.upstream.shard_order import shuffle_stream


def urls(shards, count=20):
    return [shard["url"] for shard in islice(shards, count)]


@pytest.mark.parametrize("bufsize, initial", [(1, 1), (5, 3), (100, 100), (3, 50)])
def test_a_shuffled_stream_holds_every_item_once(bufsize, initial):
    shuffled = list(shuffle_stream(range(40), bufsize, initial, random.Random(0)))
    assert sorted(shuffled) == list(range(40))
    assert (shuffled == list(range(40))) == (bufsize == 1)


def test_a_counted_epoch_goes_up_with_each_pass_and_a_shared_one_when_told():
    counted, shared = detshuffle2(50, 50, seed=1), SharedEpoch(0)
    told = detshuffle2(50, 50, seed=1, epoch=shared)
    for epoch in range(3):
        shared.set_value(epoch)
        assert list(counted.run(range(30))) == list(told(range(30)))
        assert list(told(range(30))) == list(told(range(30)))


def test_drawn_shards_are_the_same_again_when_asked_to_be():
    shared = SharedEpoch(4)
    shards = ResampledShards2("{0..99}.tar", deterministic=True, epoch=shared)
    first = urls(shards)
    assert urls(shards) == first
    assert urls(ResampledShards2("{0..99}.tar", worker_seed=lambda: 7, deterministic=True)) != first


def test_drawn_shards_change_with_the_epoch():
    shared = SharedEpoch(4)
    shards = ResampledShards2("{0..99}.tar", worker_seed=lambda: 7, deterministic=True, epoch=shared)
    first = urls(shards)
    shared.set_value(5)
    assert urls(shards) != first


def test_a_shard_of_weight_zero_is_never_drawn():
    assert set(urls(ResampledShards2("a::b", weights="1::0"), 100)) == {"a"}
    assert len(list(ResampledShards2("a", nshards=3))) == 3


def test_outside_a_loader_a_worker_is_seeded_by_its_rank(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert pytorch_worker_seed() == 3000

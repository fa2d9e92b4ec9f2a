from collections import Counter

import pytest
import torch

from open_clip.errors import ConfigError, DataError
from open_clip.transform import image_transform, to_uint8
from shard_sets import image, write_shard, write_shards, write_tar
from training.data import get_wds_dataset
from training.params import parse_args


def to_tensor(image):
    assert image.mode == "RGB"
    return torch.tensor(image.getpixel((0, 0)))


def make(source, is_train=True, floor=False, epoch=0, **settings):
    args = parse_args([])
    args.world_size, args.batch_size, args.workers = 1, 2, 0
    args.train_data = args.val_data = str(source)
    for name, value in settings.items():
        setattr(args, name, value)
    return get_wds_dataset(args, to_tensor, is_train, epoch=epoch, floor=floor, tokenizer=lambda text: [text.strip()])


def captions(info):
    return [text for _, texts in info.dataloader for text in texts]


@pytest.fixture
def shards(tmp_path):
    return f"{write_shards(tmp_path, [4, 4, 4])}/{{00000..00002}}.tar"


def test_batches_are_images_and_texts(shards):
    images, texts = next(iter(make(shards, train_num_samples=12).dataloader))
    assert images.shape == (2, 3)
    assert len(texts) == 2


def test_a_pass_over_all_shards_holds_every_sample_once(shards):
    info = make(shards, train_num_samples=12)
    assert Counter(captions(info)) == Counter(f"0000{shard}_{number}" for shard in range(3) for number in range(4))


def test_the_order_is_the_same_again_for_an_epoch_and_another_for_the_next(shards):
    first = captions(make(shards, train_num_samples=12))
    assert captions(make(shards, train_num_samples=12)) == first
    info = make(shards, train_num_samples=12)
    info.set_epoch(1)
    assert captions(info) != first
    assert captions(make(shards, train_num_samples=12, seed=1)) != first


def test_workers_that_outlive_an_epoch_hear_of_the_next(shards):
    info = make(shards, train_num_samples=12, workers=1)
    first = captions(info)
    info.set_epoch(1)
    second = captions(info)
    assert Counter(first) == Counter(second)
    assert first != second


def test_ranks_read_different_shards(tmp_path, monkeypatch):
    names = f"{write_shards(tmp_path, [4] * 6)}/{{00000..00005}}.tar"
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        seen.append(captions(make(names, train_num_samples=24, world_size=2)))
    assert [len(texts) for texts in seen] == [12, 12]
    assert len(set(seen[0]) | set(seen[1])) == 24


def test_evaluation_reads_in_order_and_keeps_the_last_partial_batch(shards):
    info = make(shards, is_train=False, batch_size=5)
    assert captions(info) == [f"0000{shard}_{number}" for shard in range(3) for number in range(4)]
    assert info.dataloader.num_samples == 0
    assert make(shards, is_train=False, val_num_samples=12, batch_size=5).dataloader.num_batches == 3


@pytest.mark.parametrize(
    "settings, floor, expected",
    [
        ({"train_num_samples": 12}, False, (6, 12)),
        ({"train_num_samples": 13}, False, (7, 14)),
        ({"train_num_samples": 13}, True, (6, 12)),
        ({"train_num_samples": 100, "workers": 2}, False, (50, 100)),
        ({"train_num_samples": 97, "workers": 2}, False, (50, 100)),
        ({"train_num_samples": 100, "workers": 1, "world_size": 3}, False, (17, 102)),
    ],
)
def test_every_worker_of_every_rank_gives_as_many_batches(shards, settings, floor, expected):
    loader = make(shards, floor=floor, **settings).dataloader
    assert (loader.num_batches, loader.num_samples) == expected


def test_the_size_is_taken_from_beside_the_shards(shards, tmp_path):
    with pytest.raises(DataError, match="give --train-num-samples"):
        make(shards)
    (tmp_path / "__len__").write_text("12")
    assert make(shards).dataloader.num_samples == 12


def test_a_factor_draws_the_shards_of_a_source_more_often(tmp_path):
    one, two = write_shard(tmp_path / "one.tar", 5), write_shard(tmp_path / "two.tar", 5)
    options = {"train_num_samples": 3000, "dataset_resampled": True, "train_data_upsampling_factors": "1::3"}
    counts = Counter(text.split("_")[0] for text in captions(make(f"{one}::{two}", batch_size=10, **options)))
    assert counts["two"] / counts["one"] == pytest.approx(3, rel=0.3)
    with pytest.raises(ConfigError, match="--dataset-resampled"):
        make(f"{one}::{two}", **(options | {"dataset_resampled": False}))


def test_a_missing_shard_stops_before_anything_is_read(shards, tmp_path):
    (tmp_path / "00001.tar").unlink()
    for is_train in (True, False):
        with pytest.raises(DataError, match=r"1 of 3 shards are not there: .*00001\.tar"):
            make(shards, is_train=is_train, train_num_samples=12)


def test_too_few_shards_for_the_workers_are_refused(shards):
    with pytest.raises(DataError, match="3 shards cannot be shared by 2 ranks with 2 workers"):
        make(shards, train_num_samples=12, workers=2, world_size=2)


def test_a_pipe_is_refused_without_its_flag(tmp_path):
    shard = write_shard(tmp_path / "0.tar", 2)
    with pytest.raises(DataError, match="--allow-pipe-urls"):
        make(f"pipe:cat {shard}", train_num_samples=2)
    assert len(captions(make(f"pipe:cat {shard}", train_num_samples=2, allow_pipe_urls=True))) == 2


def test_samples_that_cannot_be_used_are_left_out(tmp_path, caplog):
    good = image(mode="L")
    write_tar(
        tmp_path / "0.tar",
        [
            ("torn.jpg", image(form="JPEG", size=(64, 64))[:300]),
            ("torn.txt", b"torn"),
            ("text.png", good),
            ("text.txt", b"\xff\xfe\xfa"),
            ("lonely.png", good),
            ("blind.txt", b"no image"),
            ("sound.webp", image(form="WEBP", mode="RGBA")),
            ("sound.txt", b"sound"),
            ("wrong.jpg", good),
            ("wrong.txt", b"png in a jpg"),
        ],
    )
    assert captions(make(tmp_path / "0.tar", is_train=False)) == ["sound", "png in a jpg"]
    assert "0.tar: torn: " in caplog.text
    assert "0.tar: text: " in caplog.text


@pytest.mark.parametrize("resampled", [False, True])
def test_no_usable_sample_at_all_is_an_error_and_no_endless_loop(tmp_path, resampled):
    write_tar(tmp_path / "0.tar", [(f"{number}.jpg", b"no image") for number in range(3)])
    with pytest.raises(DataError, match=r"no sample with an image and a caption|enough usable samples"):
        captions(make(tmp_path / "0.tar", train_num_samples=4, dataset_resampled=resampled))
    write_tar(tmp_path / "0.tar", [(f"1.{suffix}", b"x") for suffix in ("jpg", "txt")])
    with pytest.raises(DataError, match=r"in a row cannot be used|enough usable samples"):
        captions(make(tmp_path / "0.tar", train_num_samples=4, dataset_resampled=resampled))


def test_known_transforms_give_the_same_pixels_as_any_other(shards):
    known = to_uint8(image_transform(16, is_train=True))

    def pixels(transform):
        args = parse_args([])
        args.world_size, args.batch_size, args.workers, args.train_num_samples = 1, 4, 0, 12
        args.train_data = str(shards)
        loader = get_wds_dataset(args, transform, True, tokenizer=lambda text: [text]).dataloader
        return torch.cat([images for images, _ in loader])

    assert torch.equal(pixels(known), pixels(lambda image: known(image)))

import numpy as np
import pytest
import torch
from PIL import Image

import open_clip_train.data
import training.data
from image_sets import emoji_rows, write_pairs
from open_clip import image_transform
from open_clip.errors import ConfigError, DataError
from shard_sets import write_shards
from training.data import (
    CsvDataset,
    DataInfo,
    SyntheticDataset,
    count_samples,
    get_csv_dataset,
    get_data,
    get_dataset_fn,
    get_imagenet,
    get_synthetic_dataset,
    get_wds_dataset,
    preprocess_txt,
)
from training.params import parse_args


def tokenize(texts):
    texts = [texts] if isinstance(texts, str) else texts
    return torch.tensor([[len(text)] for text in texts])


def to_tensor(image):
    return torch.from_numpy(np.array(image.convert("RGB").resize((4, 4)))).permute(2, 0, 1)


def flags(*words, **settings):
    args = parse_args(["--workers", "0", "--batch-size", "4", *words])
    for name, value in settings.items():
        setattr(args, name, value)
    return args


@pytest.fixture
def table(tmp_path):
    return str(write_pairs(tmp_path / "pairs.tsv", emoji_rows(5, captions=2)))


def test_the_door_of_the_later_name_has_the_same_functions():
    for name in training.data.__all__:
        assert getattr(open_clip_train.data, name) is getattr(training.data, name)


def test_a_table_is_images_and_token_ids_row_by_row(table):
    dataset = CsvDataset(table, to_tensor, "filepath", "title", tokenizer=tokenize)
    rows = emoji_rows(5, captions=2)
    assert list(zip(dataset.images, dataset.captions, strict=True)) == rows
    image, text = dataset[3]
    assert image.shape == (3, 4, 4)
    assert text.tolist() == [len(rows[3][1])]


def test_without_a_tokenizer_the_default_one_reads_captions(table):
    dataset = CsvDataset(table, to_tensor, "filepath", "title")
    assert torch.equal(dataset[0][1], preprocess_txt(dataset.captions[0]))
    assert preprocess_txt("a dog").shape == (77,)


def test_training_batches_of_a_table_are_full_and_evaluation_keeps_all(table):
    train = get_csv_dataset(flags("--train-data", table), to_tensor, is_train=True, tokenizer=tokenize)
    val = get_csv_dataset(flags("--val-data", table), to_tensor, is_train=False, tokenizer=tokenize)
    assert (train.dataloader.num_samples, train.dataloader.num_batches) == (10, 2)
    assert count_samples(train.dataloader) == (8, 2)
    assert count_samples(val.dataloader) == (10, 3)


def test_ranks_share_the_rows_of_a_table(table, monkeypatch):
    monkeypatch.setattr("torch.distributed.get_world_size", lambda *_: 2)
    monkeypatch.setattr("torch.distributed.get_rank", lambda *_: 1)
    monkeypatch.setattr("torch.distributed.is_available", lambda: True)
    info = get_csv_dataset(flags("--train-data", table, distributed=True), to_tensor, True, tokenizer=tokenize)
    first = list(info.sampler)
    info.set_epoch(1)
    assert len(first) == 5
    assert list(info.sampler) != first


def test_synthetic_pairs_have_the_size_the_transform_makes():
    transform = image_transform((6, 8), is_train=True)
    info = get_synthetic_dataset(flags("--train-num-samples", "9"), transform, is_train=True, tokenizer=tokenize)
    images, texts = next(iter(info.dataloader))
    assert images.shape == (4, 3, 6, 8)
    assert texts.tolist() == [[len("Dummy caption")]] * 4
    assert info.dataloader.num_batches == 2
    assert SyntheticDataset(image_size=(6, 8), tokenizer=tokenize)[0][0].size == (8, 6)
    with pytest.raises(ConfigError, match="--train-num-samples"):
        get_synthetic_dataset(flags(), transform, is_train=True)


def test_the_kind_of_a_source_is_told_by_its_ending():
    assert get_dataset_fn("a.csv", "auto") is get_dataset_fn("a.tsv", "auto") is get_csv_dataset
    assert get_dataset_fn("{0..9}.tar::b.tar", "auto") is get_wds_dataset
    assert get_dataset_fn(None, "synthetic") is get_synthetic_dataset
    with pytest.raises(ValueError, match="--dataset-type"):
        get_dataset_fn("a.zip", "auto")
    with pytest.raises(ValueError, match="no type of data"):
        get_dataset_fn("a.csv", "csvv")


def make_classes(folder):
    for name, colour in (("0", "red"), ("1", "blue"), ("10", "green")):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            Image.new("L" if number == 0 else "RGB", (5, 5), 128 if number == 0 else colour).save(
                folder / name / f"{number}.png"
            )
    return str(folder)


def test_imagenet_splits_are_images_with_class_numbers(tmp_path):
    folder = make_classes(tmp_path / "classes")
    args = flags("--imagenet-val", folder, "--imagenet-v2", folder, imagenet_train=folder, batch_size=50)
    val = get_imagenet(args, (to_tensor, to_tensor), "val")
    images, targets = next(iter(val.dataloader))
    assert images.shape == (50, 3, 4, 4)
    assert targets.unique().tolist() == [0]
    train = get_imagenet(args, (to_tensor, to_tensor), "train")
    assert torch.cat([targets for _, targets in train.dataloader]).bincount().tolist() == [50, 50, 50]
    with pytest.raises(ConfigError, match="no split"):
        get_imagenet(args, (to_tensor, to_tensor), "test")


def test_all_sources_of_a_run_are_made_at_once(tmp_path, table):
    shards = f"{write_shards(tmp_path / 'shards', [4, 4])}/{{00000..00001}}.tar"
    classes = make_classes(tmp_path / "classes")
    args = flags("--train-data", shards, "--val-data", table, "--imagenet-val", classes, "--imagenet-v2", classes)
    args.train_num_samples = 8
    data = get_data(args, (to_tensor, to_tensor), epoch=2, tokenizer=tokenize)
    assert list(data) == ["train", "val", "imagenet-val", "imagenet-v2"]
    assert all(isinstance(info, DataInfo) for info in data.values())
    assert data["train"].shared_epoch.get_value() == 2
    assert count_samples(data["train"].dataloader) == (8, 2)
    only = get_data(flags("--dataset-type", "synthetic", "--train-num-samples", "4"), (image_transform(4, True),) * 2)
    assert list(only) == ["train"]
    assert get_data(flags(), (to_tensor, to_tensor)) == {}


def test_a_image_that_cannot_be_read_raises_when_it_is_asked_for(tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    table = write_pairs(tmp_path / "pairs.tsv", [(str(tmp_path / "torn.png"), "torn")])
    with pytest.raises(DataError, match="not an image"):
        CsvDataset(str(table), to_tensor, "filepath", "title", tokenizer=tokenize)[0]

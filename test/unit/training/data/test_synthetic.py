from image_sets import WordTokenizer, pair_set
from open_clip.transform import image_transform, to_uint8
from training.data import SyntheticTable, make_train_loader


def test_a_table_of_any_length_holds_one_black_image_and_one_caption():
    table = SyntheticTable(2_000_000_000, height=6, width=8)
    assert len(table) == 2_000_000_000
    assert table.num_images == 1
    last = len(table) - 1
    assert table.read("text", last) == "Dummy caption"
    assert table.read("image", last).open(100).size == (8, 6)
    assert table.read("image", 0).open(100).getbbox() is None
    assert [table.key(index) for index in (0, last)] == ["synthetic:1", "synthetic:2000000000"]


def test_the_trainers_loader_gives_synthetic_batches():
    transform = to_uint8(image_transform(6, is_train=True))
    dataset = pair_set(SyntheticTable(10, 6, 6), transform, WordTokenizer())
    loader = make_train_loader(dataset, batch_size=4)
    batches = list(loader.epoch(0))
    assert [batch.images.shape for batch in batches] == [(4, 3, 6, 6)] * 2
    assert int(batches[0].images.sum()) == 0
    assert len({key for batch in batches for key in batch.keys}) == 8

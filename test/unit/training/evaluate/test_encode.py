import contextlib
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import open_clip
from image_sets import crop_to_uint8, emoji_rows, pair_set, write_pairs
from loop_runs import ALONE, MEAN, STD, make_task
from open_clip.errors import DataError
from open_clip.loss import ClipLoss, CoCaLoss
from tiny_models import tiny_coca
from training.data import Batch, Quarantine, make_eval_loader, read_csv_pairs
from training.evaluate import EvaluationKit, Retrieval, SetRetrieval, ValidationRows, ready_to_measure
from training.evaluate.encode import encode_rows
from training.tasks import ClipTask, CoCaTask

torch.set_num_threads(1)
BATCH = 4


def keep_middle(image):
    return crop_to_uint8(image, torch.Generator().manual_seed(0))


class Noting(ClipTask):
    """Notes what reaches the towers."""

    def __init__(self, model):
        super().__init__(model, ClipLoss(), mean=MEAN, std=STD)
        self.images, self.texts, self.layouts = [], [], []

    def encode_images(self, images):
        self.images.append(len(images))
        return super().encode_images(images)

    def encode_texts(self, texts):
        self.texts.append(tuple(texts.ids.shape))
        self.layouts.append(texts.layout)
        return super().encode_texts(texts)


class Paired(ClipTask):
    """Sees images and captions together, as evaluation once did for all tasks."""

    encodes_apart = False


@pytest.fixture
def rows():
    """Nine images with three captions each; one caption stands twice."""
    rows = emoji_rows(9, captions=3)
    rows[25] = (rows[25][0], rows[1][1])
    return rows


def make_loader(rows, folder, **options):
    table = read_csv_pairs(write_pairs(folder / "val.csv", rows))
    tokenizer = open_clip.get_tokenizer("ViT-micro-8-32")
    return make_eval_loader(pair_set(table, keep_middle, tokenizer, is_train=False), batch_size=BATCH, **options)


def receive(batch):
    return batch


def make_kit(loader, receive=receive, **options):
    rows = ValidationRows(loader, receive, loader.sides._dataset.source)
    make_tokenizer = partial(open_clip.get_tokenizer, "ViT-micro-8-32")
    return EvaluationKit(ALONE, contextlib.nullcontext, make_tokenizer, rows=rows, **options)


def encode(task, loader, shapes="packed", receive=receive):
    kit = make_kit(loader, receive, shapes=shapes)
    with ready_to_measure(task):
        return encode_rows(task, kit)


@pytest.mark.parametrize("shapes", ["packed", "bucketed", "padded"])
@pytest.mark.parametrize("is_grouped", [True, False])
def test_sides_apart_give_the_features_of_pairs(rows, tmp_path, shapes, is_grouped):
    rows = rows if is_grouped else [rows[place] for place in torch.randperm(27).tolist()]
    task = Noting(make_task().model)
    paired = Paired(task.model, ClipLoss(), mean=MEAN, std=STD)
    found, expected = (encode(one, make_loader(rows, tmp_path), shapes) for one in (task, paired))
    assert_close(found.images, expected.images, atol=5e-7, rtol=0)
    assert_close(found.texts, expected.texts, atol=5e-7, rtol=0)
    assert torch.equal(found.image_ids, expected.image_ids)
    assert torch.equal(found.rows, expected.rows)


def test_each_image_and_each_caption_is_encoded_once(rows, tmp_path):
    task = Noting(make_task().model)
    encode(task, make_loader(rows, tmp_path))
    assert task.images == [4, 4, 1]
    # 26 different captions; as many a batch as have the tokens of four padded ones.
    assert sum(number for number, _ in task.texts) == 26
    assert all(len(layout.token_rows) <= BATCH * 77 for layout in task.layouts)
    assert len(task.texts) < 26 / BATCH


def test_a_device_that_compiles_every_shape_sees_few(rows, tmp_path):
    task = Noting(make_task().model)
    encode(task, make_loader(rows[:-1] + [(rows[-1][0], "word " * 60)], tmp_path), "bucketed")
    assert set(task.images) == {BATCH}
    assert {number for number, _ in task.texts} == {BATCH}
    assert len({shape for layout in task.layouts for shape in layout.shapes}) <= 4


def test_a_tower_that_reads_its_padding_gets_all_of_it(rows, tmp_path):
    torch.manual_seed(0)
    task = Noting(open_clip.CustomTextCLIP(64, *_configs(no_causal_mask=True)))
    loader = make_loader(rows, tmp_path)
    found = encode(task, loader)
    assert set(task.layouts) == {None}
    paired = Paired(task.model, ClipLoss(), mean=MEAN, std=STD)
    assert_close(found.texts, encode(paired, loader).texts, atol=5e-7, rtol=0)


def _configs(**text):
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    return vision, {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1} | text


def test_a_torn_image_takes_its_rows_along_and_counts_each(rows, tmp_path):
    copies = []
    for number, (path, caption) in enumerate(rows):
        copy = tmp_path / f"{number // 3}.jpg"
        copy.write_bytes(Path(path).read_bytes())
        copies.append((str(copy), caption))
    loader = make_loader(copies, tmp_path)
    (tmp_path / "4.jpg").write_bytes(b"torn")
    counts = []
    for kind in (Noting, Paired):
        task = make_task()
        task = kind(task.model) if kind is Noting else kind(task.model, ClipLoss(), mean=MEAN, std=STD)
        quarantine = Quarantine(None, 27, budget=1)

        def note(batch, quarantine=quarantine):
            quarantine.record(batch.faults)
            return batch

        counts.append((encode(task, loader, receive=note).rows.tolist(), quarantine.count))
    assert counts[0] == counts[1] == ([*range(12), *range(15, 27)], 3)


def test_metrics_are_those_of_pairs(tmp_path):
    # No caption twice: equal ones tie to the last bit only when they are encoded once.
    rows = emoji_rows(9, captions=3)
    model = make_task().model
    results = []
    for kind in (ClipTask, Paired):
        task = kind(model, ClipLoss(), mean=MEAN, std=STD)
        with ready_to_measure(task):
            kit = make_kit(make_loader(rows, tmp_path), shapes="packed", global_batch=10)
            results.append(Retrieval(kit).measure(task).metrics)
    assert results[0] == pytest.approx(results[1], abs=1e-6)


def test_with_sets_an_image_of_an_equal_caption_is_right_too(tmp_path, rows):
    # Three images have one caption in common, and one of them has another too.
    shared = [rows[0], (rows[3][0], rows[0][1]), rows[4], (rows[6][0], rows[0][1])]
    loader, task = make_loader(shared, tmp_path), make_task()
    with ready_to_measure(task):
        encoded = encode_rows(task, make_kit(loader))
        found = SetRetrieval(make_kit(loader)).measure(task).metrics
    assert (found["set_num_images"], found["set_num_texts"]) == (3, 2)
    scores = encoded.images[[0, 1, 3]] @ encoded.texts[[0, 2]].T
    right = torch.tensor([[True, False], [True, True], [True, False]])
    for name, one, belongs in (("text", scores, right), ("image", scores.T, right.T)):
        hits = belongs.gather(1, one.argmax(dim=1, keepdim=True)).double().mean()
        assert found[f"set_{name}_retrieval_recall@1"] == pytest.approx(float(hits))


def test_a_captioner_still_sees_pairs(tmp_path, rows):
    model = tiny_coca()
    model.output_dict = True
    task = CoCaTask(model, CoCaLoss(1.0, 1.0), world=ALONE, mean=MEAN, std=STD)
    table = read_csv_pairs(write_pairs(tmp_path / "val.csv", rows[:6]))

    def tokenizer(texts):
        return torch.tensor([[1 + len(word) for word in (text.split() * 15)[:15]] for text in texts])

    loader = make_eval_loader(pair_set(table, keep_middle, tokenizer, is_train=False), batch_size=BATCH)
    found = encode(task, loader)
    assert len(found.images) == 6
    losses = []
    for batch in loader:
        with torch.no_grad():
            losses.append(task.row_metrics(task.forward(task.prepare(batch)))["val_generative_loss"])
    assert found.sums == {"val_generative_loss": pytest.approx(float(torch.cat(losses).sum()))}


def test_a_set_without_a_sound_image_is_refused_with_its_rows_heard(tmp_path, rows):
    paths = []
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(b"torn")
        paths.append((str(tmp_path / f"{number}.jpg"), "a caption"))
    heard = []

    def note(batch: Batch) -> Batch:
        heard.extend(batch.faults)
        return batch

    with pytest.raises(DataError, match="no validation row could be read"):
        encode(make_task(), make_loader(paths, tmp_path), receive=note)
    assert [fault.row for fault in heard] == [2, 3]

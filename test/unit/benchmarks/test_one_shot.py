"""The two ways of writing labels that are timed give one answer, and a figure is given only where they do."""

import pytest
import torch

from benchmarks import one_shot

TINY = ["--width", "64", "--layers", "1", "--topk", "4", "--label-tokens", "3", "--pairs", "1"]


@pytest.fixture(autouse=True)
def threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def test_both_ways_write_the_same_and_their_times_are_told(capsys):
    one_shot.main(TINY)
    assert "4 labels of 3 tokens behind 204, decoder 64 x 1: shared is " in capsys.readouterr().out


def test_no_figure_is_given_where_they_differ(monkeypatch, capsys):
    share = one_shot.share

    def other(model, prefix, *rest):
        return share(model, prefix + 0.1, *rest)

    monkeypatch.setattr(one_shot, "share", other)
    with pytest.raises(SystemExit, match="the sides differ by"):
        one_shot.main(TINY)
    assert "faster" not in capsys.readouterr().out

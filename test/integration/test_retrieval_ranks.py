"""Retrieval ranks counted by several processes together."""

import numpy as np
import pytest

from counting_ranks import CASES, count, count_on_rank, make_case
from ranks import on_ranks
from training.distributed import World


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_ranks(count_on_rank, 3, tmp_path_factory.mktemp("counting"))


@pytest.mark.parametrize("name", CASES)
def test_every_process_gets_what_one_alone_counts(found, name):
    ranks, metrics = count(*make_case(**CASES[name]), World())
    for answers in found:
        assert np.array_equal(answers[name][0], ranks)
        assert answers[name][1] == metrics


def test_processes_share_the_products(found):
    shared = [answers["as many windows as processes"][2] for answers in found]
    assert len(set(shared)) == 1
    few = [answers["too few to share"][2] for answers in found]
    assert few[0] > few[1] == few[2]

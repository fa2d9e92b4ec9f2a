"""The bytes that docs/scaling.md computes for a step against those that processes really hand over."""

import pytest

from ranks import on_ranks
from scaling_model import count_model, sent_bytes
from traffic_ranks import BATCH, MODEL, count_forward, count_step

RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32}


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_step_sends_the_bytes_that_the_formula_says(tmp_path, ranks):
    answers = on_ranks(count_step, ranks, tmp_path)
    expected = sent_bytes(count_model(MODEL), BATCH, ranks)
    # What a ring sends from each rank for what was handed over: all-gather W - 1 times a rank's rows, all-reduce
    # 2 (W - 1) / W times the whole, reduce-scatter half of that.
    for counted in answers:
        gathered, scattered = counted["allgather"] * (ranks - 1), counted["reduce_scatter"] * (ranks - 1) / ranks
        reduced = counted["allreduce"] * 2 * (ranks - 1) / ranks
        assert gathered + scattered + reduced == pytest.approx(expected["gather"] + expected["gather_backward"])
        assert counted["gradients"] * 2 * (ranks - 1) / ranks == pytest.approx(expected["gradients"])


@pytest.mark.parametrize("model, sends", [({}, False), ({"vision_cfg": RESNET}, True)])
def test_buffers_are_sent_before_a_step_only_where_steps_change_some(tmp_path, model, sends):
    for counted in on_ranks(count_forward, 2, tmp_path, model):
        assert (counted.pop("broadcast") > 0) == sends
        assert set(counted.values()) == {0}

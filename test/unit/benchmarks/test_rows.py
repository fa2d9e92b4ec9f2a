"""Each row's work on both sides, in this process: our library stands for the peer's, which has the same names."""

import pytest
import torch

from benchmarks.equality import compare
from benchmarks.inputs import make_inputs
from benchmarks.rows import ROWS, make_row, row_class
from benchmarks.settings import SIDES, Settings

# These start processes of their own; test/integration runs one.
IN_PROCESS = [name for name, spec in ROWS.items() if not spec.home.startswith("entry:") and spec.compute == "host"]


def settings_for(name, folder, **changes):
    sizes = {**row_class(name).tiny, "captions_made": 200}
    return Settings(str(folder), **{"threads": 1, "sizes": sizes, **changes})


def answers(name, folder, side, **changes):
    settings = settings_for(name, folder, **changes)
    make_inputs(ROWS[name].inputs, settings)
    torch.manual_seed(settings.seed)
    row = make_row(name, side, settings)
    row.prepare()
    try:
        return row.check(), row.round(0)
    finally:
        row.close()


@pytest.mark.parametrize("name", IN_PROCESS)
def test_both_sides_give_answers_that_the_rules_accept(name, tmp_path):
    if "loader" in name:
        pytest.importorskip("webdataset", reason="the peer's loader reads with webdataset")
    (peer, peer_units), (ours, our_units) = (answers(name, tmp_path, side) for side in SIDES)
    verdicts = compare(peer, ours, row_class(name).rules)
    assert [found.sentence() for found in verdicts if not found.holds] == []
    assert all(found.compared for found in verdicts)
    assert min(peer_units, our_units) > 0


@pytest.mark.parametrize("name", ["step-short", "text-web", "loss", "retrieval-5k", "optimizer", "zero-shot"])
def test_sides_of_different_seeds_are_told_apart(name, tmp_path):
    (peer, _), (ours, _) = (answers(name, tmp_path, side, seed=seed) for seed, side in enumerate(SIDES))
    assert not all(found.holds for found in compare(peer, ours, row_class(name).rules))


def test_a_gradient_that_is_left_out_is_told(tmp_path):
    peer, _ = answers("step-short", tmp_path, "peer")
    ours = {**peer, "gradients": {name: value for name, value in peer["gradients"].items() if "conv1" not in name}}
    (wrong,) = (found for found in compare(peer, ours, row_class("step-short").rules) if not found.holds)
    assert "conv1" in wrong.worst


def test_every_row_has_titles_and_rules_and_sizes_that_its_options_leave_alone():
    for name, spec in ROWS.items():
        row = row_class(name)(SIDES[0], Settings(""), spec.options)
        assert all(type(row.size[size]) is type(value) for size, value in row.sizes.items() if value is not None)
        assert all(spec.title)
        assert row_class(name).rules
        assert row_class(name).unit
